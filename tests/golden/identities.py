"""Ids of cells, studies and evaluations of every manifest of the repository, as `golden/cell_ids.json` holds them."""

from pathlib import Path

from bench.cell import Cell
from bench.manifest import read_manifest
from bench.manifest.labels import Names
from bench.manifest.manifest import Manifest

FOLDER = Path(__file__).parents[2] / "manifests"
PATHS = {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.rglob("*.yaml"))}
READINGS = {"whole": False, "quick": True}
"""Values of `--quick` by what they are called here."""


def identities(path: Path, quick: bool) -> dict[str, list]:
    """Ids of a manifest's cells with the labels they have in its reports, of its studies and of its evaluations.

    Cells are those written, their teachers, and the baselines that studies add. Evaluations are those of cells and of
    monitors; `datasets` are the names of the robust datasets that cells train on.
    """
    manifest = read_manifest(path, quick)
    labels = Names(manifest.cells)
    cells = {cell.id: labels.full_label(cell) for cell in manifest.cells}
    for cell in _others(manifest):
        cells.setdefault(cell.id, cell.method.label)
    cells |= {cell.teacher.id: "weights" for cell in _cells(manifest) if cell.teacher and not cell.lineage}
    specs = [spec for cell in manifest.cells for spec in (*cell.evals, *(cell.monitor.evals if cell.monitor else ()))]
    return {
        "cells": [list(pair) for pair in cells.items()],
        "studies": [study.id for study in manifest.studies] if manifest.timing else [],
        "evals": [list(pair) for pair in {spec.id: spec.label for spec in specs}.items()],
        "judgings": sorted({cell.evals_digest for cell in manifest.cells}),
        "datasets": sorted({cell.robust for cell in _cells(manifest) if cell.robust}),
    }


def _others(manifest: Manifest) -> list[Cell]:
    arms = [arm for study in manifest.studies for arm in study.arms] if manifest.timing else []
    return [*arms, *(teacher for cell in manifest.cells for teacher in cell.lineage)]


def _cells(manifest: Manifest) -> list[Cell]:
    return [*manifest.cells, *_others(manifest)]
