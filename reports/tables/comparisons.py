"""Paired differences of two networks on the same images."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.cell import Cell, Spec
from bench.manifest.labels import Names, written
from bench.manifest.manifest import Manifest
from bench.manifest.plugin_spec import evaluation
from bench.results.columns import Source, columns, named
from bench.results.intervals import mcnemar, paired_difference
from bench.results.judging import judged_radius
from bench.results.measured import Measured
from bench.results.pairs import comparable_pairs, pair_kind, shown
from bench.results.robustness import has_eps, is_robust, kind, principal, question, right
from bench.results.statistics import share_difference
from reports.render.table_spec import BOTH, INTERVALS, Column, TableSpec, alike, datasets

_NAMES = (
    "dataset,eval,one,other,images,acr_difference,acr_difference_low,acr_difference_high,at,"
    "accuracy_difference,accuracy_difference_low,accuracy_difference_high,mcnemar_p,couple"
)


class _Results(NamedTuple):
    """Results of a cell's evaluation, image by image."""

    spec: Spec
    label: str
    """Architecture and label of the cell."""
    at: str
    """Radius at which an image counts as robust, in words."""
    principal: bool
    """True for smoothing, and for the first attack or bound at the threat's eps."""
    has_radii: bool
    images: np.ndarray
    """Indices of the images, ascending."""
    robust: np.ndarray
    """Mask of the images that are right, and robust at the radius."""
    radii: tuple[float, ...]
    """Radius of each image; 0 where wrong."""


class _Pair(NamedTuple):
    """Two cells with results of the same evaluation on common images."""

    first: Measured
    second: Measured
    a: _Results
    b: _Results
    kind: str


def comparisons(manifest: Manifest, measured: list[Measured], every: bool = True) -> pd.DataFrame:
    """A row for every two cells with the same evaluation: differences of their accuracies and of their ACRs.

    Accuracy is taken at the radius that methods are judged at: 2 sigma for smoothing, eps for an attack or a bound. The
    p-value is that of McNemar's exact test. Intervals use the images that both cells were evaluated on, in pairs:
    Newcombe's for accuracies, a bootstrap interval for ACRs. Without `every`, the differences of pairs that no table
    shows are not computed.
    """
    names = Names(manifest.cells)
    groups: dict[tuple, dict[Measured, _Results]] = {}
    for m in measured:
        for spec in m.cell.evals:
            if m.verdicts.get(spec.id) and kind(spec.name) in ("smoothing", "attack", "bound"):
                key = (m.folder, m.cell.dataset, *question(m.cell, spec))
                groups.setdefault(key, {})[m] = _results(m, spec, names)
    pairs = [
        pair
        for results in groups.values()
        for first, second in comparable_pairs(results)
        if len((pair := _pair(manifest, first, second, results[first], results[second])).a.images)
    ]
    relevant = {pair.first.folder for pair in pairs if pair.kind != "other"}
    rows = [
        _row(pair) | (_differences(pair) if every or pair.kind != "other" or pair.first.folder not in relevant else {})
        for pair in pairs
    ]
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _results(m: Measured, spec: Spec, names: Names) -> _Results:
    cell, verdicts = m.cell, m.verdicts[spec.id]
    images = sorted(verdicts)
    radius = judged_radius(cell, spec)
    robust = np.array([is_robust(verdicts[image], radius) for image in images])
    return _Results(
        spec=spec,
        label=f"{cell.arch} {names.full_label(cell)}",
        at=f"eps {written(radius)}" if has_eps(spec.name) else f"radius {radius:g}",
        principal=kind(spec.name) == "smoothing" or spec == _principal(cell),
        has_radii=evaluation(spec, cell.threat).measures_radius,
        images=np.array(images),
        robust=robust,
        radii=tuple(verdicts[image].radius * right(verdicts[image]) for image in images),
    )


def _pair(manifest: Manifest, first: Measured, second: Measured, a: _Results, b: _Results) -> _Pair:
    """The pair, with the results on its common images."""
    if not np.array_equal(a.images, b.images):
        images, *indices = np.intersect1d(a.images, b.images, assume_unique=True, return_indices=True)
        a, b = (
            each._replace(images=images, robust=each.robust[own], radii=tuple(each.radii[k] for k in own))
            for each, own in zip((a, b), indices, strict=True)
        )
    return _Pair(first, second, a, b, pair_kind(manifest, first, second) if a.principal else "other")


def _row(pair: _Pair) -> dict[str, object]:
    """The names of what is compared."""
    a, first = pair.a, pair.first
    return {
        "dataset": first.cell.dataset,
        "eval": a.spec.label,
        "one": a.label,
        "other": pair.b.label,
        "images": len(a.images),
        "at": a.at,
        "couple": pair.kind,
        "folder": str(first.folder),
        "source": Source(first, pair.second, a.spec),
    }


def _differences(pair: _Pair) -> dict[str, float]:
    a, b = pair.a, pair.b
    row = {"mcnemar_p": mcnemar(a.robust, b.robust)}
    row |= named("accuracy_difference", share_difference(a.robust, b.robust))
    return row | named("acr_difference", paired_difference(a.radii, b.radii)) if a.has_radii else row


def _principal(cell: Cell) -> Spec | None:
    return principal(cell, [spec for spec in cell.evals if has_eps(spec.name)])


def comparisons_table(comparisons: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the differences of the pairs that papers compare."""
    rows = shown(comparisons)
    apart = ~rows["at"].str.startswith("radius")
    rows = rows.assign(at_by=rows["at"].where(~apart, rows["at"] + ", " + rows["eval"]))
    columns = [
        *(
            *datasets(rows),
            *(Column(key, heading, "name", width=18) for key, heading in (("one", "first"), ("other", "second"))),
            *alike("images", "count", hide=1),
        ),
        Column("at_by", "accuracy at", "name", writers="text"),
        Column("at", "accuracy at", writers="latex"),
        *([Column("eval", "evaluation", "name", writers="latex", width=17)] if apart.any() else []),
        Column("accuracy_difference", "accuracy difference", "points", "accuracy", "first $-$ second"),
        Column("mcnemar_p", "McNemar's p", "probability", "McNemar's $p$", hide=3),
        Column("acr_difference", "ACR difference", "radius", "ACR", "first $-$ second", optional=BOTH, hide=2),
    ]
    title, caption = (
        "Paired differences, first - second, on the same images",
        r"paired differences on the same images; accuracy in \%.",
    )
    yield TableSpec(f"{title} (accuracy in %)", caption, columns, rows, [INTERVALS])
