"""Selection of a manifest's cells, and the name of a manifest."""

import fnmatch
from pathlib import Path

from bench.manifest import shipped
from bench.manifest.labels import labels_beside_ids
from bench.manifest.manifest import Manifest
from crt.text import shorten

MANIFESTS = shipped.folder("manifests").resolve()


def chosen(manifest: Manifest, pattern: str | None) -> Manifest:
    """The manifest with only the cells, or whole timing studies, that have the pattern in id or label.

    ValueError if there are none.
    """
    if pattern is None:
        return manifest
    # A bracket is a literal character: labels contain lists in brackets.
    matches = lambda name: fnmatch.fnmatchcase(name, f"*{pattern.replace('[', '[[]')}*")  # noqa: E731
    selected = lambda cell: matches(cell.id) or matches(cell.method.label)  # noqa: E731
    if manifest.timing:
        studies = [study for study in manifest.studies if matches(study.id) or any(map(selected, study.arms))]
        cells = [arm for study in studies for arm in study.arms if not arm.control]
    else:
        cells = [cell for cell in manifest.cells if selected(cell)]
    if not cells:
        by_id = {cell.id: cell for cell in manifest.cells}
        labels = labels_beside_ids(by_id)
        names = ", ".join(f"{key} ({labels[key]})" if key in labels else key for key in by_id)
        raise ValueError(f"--only {shorten(pattern)}: in no cell's id or label (there are: {names})")
    return manifest.model_copy(update={"cells": tuple(cells)})


def manifest_name(manifest: Path) -> str:
    """Prefix of the names of a manifest's Slurm arrays: its path under `manifests/`, as papers share file names."""
    path = shipped.manifest(manifest).resolve().with_suffix("")
    return "-".join(path.relative_to(MANIFESTS).parts) if path.is_relative_to(MANIFESTS) else manifest.stem
