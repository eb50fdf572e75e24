"""Paired differences of two networks on the same images."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.cell import Cell, Spec
from bench.manifest.labels import Names, written
from bench.manifest.manifest import Manifest
from bench.manifest.plugin_spec import evaluation
from bench.results.columns import Source, columns, named
from bench.results.intervals import mcnemar, paired_difference
from bench.results.measured import Measured
from bench.results.pairs import comparable_pairs, pair_kind, shown
from bench.results.robustness import eps_of, has_eps, is_robust, kind, principal, question, right
from bench.results.statistics import share_difference
from reports.render.table_spec import BOTH, INTERVALS, Column, TableSpec, alike, datasets

_NAMES = (
    "dataset,eval,one,other,images,acr_difference,acr_difference_low,acr_difference_high,at,"
    "accuracy_difference,accuracy_difference_low,accuracy_difference_high,mcnemar_p,couple"
)


class _Results(NamedTuple):
    """Results of a cell's evaluation, image by image."""

    spec: Spec
    images: np.ndarray
    """Indices of the images, ascending."""
    robust: np.ndarray
    """Mask of the images that are right and, where the evaluation has an eps, robust at it."""
    radii: np.ndarray
    """Radius of each image; 0 where wrong."""


def comparisons(manifest: Manifest, measured: list[Measured]) -> pd.DataFrame:
    """A row for every two cells with the same evaluation: differences of their accuracies and of their ACRs.

    Accuracy is taken at radius 0 for smoothing, and at eps for an attack or a bound; p is that of McNemar's exact
    test. Intervals use the images that both cells were evaluated on, in pairs: Newcombe's for accuracies, a bootstrap
    interval for ACRs.
    """
    groups: dict[tuple, dict[Measured, _Results]] = {}
    for m in measured:
        for spec in m.cell.evals:
            if m.verdicts.get(spec.id) and kind(spec.name) in ("smoothing", "attack", "bound"):
                key = (m.folder, m.cell.dataset, *question(m.cell, spec))
                groups.setdefault(key, {})[m] = _results(m, spec)
    names = Names(manifest.cells)
    rows = [
        row
        for results in groups.values()
        for first, second in comparable_pairs(results)
        for row in _row(manifest, first, second, results[first], results[second], names)
    ]
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _results(m: Measured, spec: Spec) -> _Results:
    verdicts = m.verdicts[spec.id]
    images = sorted(verdicts)
    eps = eps_of(m.cell, spec) if has_eps(spec.name) else 0.0
    robust = np.array([is_robust(verdicts[image], eps) for image in images])
    radii = np.array([verdicts[image].radius * right(verdicts[image]) for image in images])
    return _Results(spec, np.array(images), robust, radii)


def _row(
    manifest: Manifest, first: Measured, second: Measured, a: _Results, b: _Results, names: Names
) -> Iterator[dict[str, object]]:
    """Yield the row of two cells, if they were evaluated on common images."""
    images, in_a, in_b = np.intersect1d(a.images, b.images, assume_unique=True, return_indices=True)
    if not len(images):
        return
    spec, robust = a.spec, (a.robust[in_a].tolist(), b.robust[in_b].tolist())
    row: dict[str, object] = {"dataset": first.cell.dataset, "eval": spec.label}
    row |= {key: f"{m.cell.arch} {names.full_label(m.cell)}" for key, m in (("one", first), ("other", second))}
    row |= {"images": len(images), "folder": str(first.folder), "couple": "other"}
    row["source"] = Source(first, second, spec)
    if kind(spec.name) == "smoothing" or spec == _principal(first.cell):
        row["couple"] = pair_kind(manifest, first, second)
    at = f"eps {written(eps_of(first.cell, spec))}" if has_eps(spec.name) else "radius 0"
    row |= {"at": at, "mcnemar_p": mcnemar(*robust)} | named("accuracy_difference", share_difference(*robust))
    if evaluation(spec, first.cell.threat).measures_radius:
        row |= named("acr_difference", paired_difference(a.radii[in_a].tolist(), b.radii[in_b].tolist()))
    yield row


def _principal(cell: Cell) -> Spec | None:
    return principal(cell, [spec for spec in cell.evals if has_eps(spec.name)])


def comparisons_table(comparisons: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the differences of the pairs that papers compare."""
    rows = shown(comparisons)
    apart = rows["at"] != "radius 0"
    rows = rows.assign(at_by=rows["at"].where(~apart, rows["at"] + ", " + rows["eval"]))
    acr = Column("acr_difference", "ACR difference", "radius", "ACR", "first $-$ second", optional=BOTH)
    columns = [
        *(
            *datasets(rows),
            *(Column(key, heading, "name", width=18) for key, heading in (("one", "first"), ("other", "second"))),
            *alike("images", "count"),
        ),
        *(replace(acr, writers="text"), Column("at_by", "accuracy at", writers="text")),
        Column("at", "accuracy at", writers="latex"),
        *([Column("eval", "evaluation", "name", writers="latex", width=17)] if apart.any() else []),
        Column("accuracy_difference", "accuracy difference", "points", "accuracy", "first $-$ second"),
        replace(acr, writers="latex"),
        Column("mcnemar_p", "McNemar's p", "probability", "McNemar's $p$"),
    ]
    title, caption = (
        "Paired differences, first - second, on the same images",
        r"paired differences on the same images; accuracy in \%.",
    )
    yield TableSpec(f"{title} (accuracy in %)", caption, columns, rows, [INTERVALS])
