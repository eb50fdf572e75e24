"""Two networks on the same images: what tells them apart is seen image by image."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.cell import Cell, Spec
from bench.manifest.labels import Names, written
from bench.manifest.manifest import Manifest
from bench.manifest.plugin_spec import evaluation
from bench.results.columns import columns, named
from bench.results.intervals import mcnemar, paired_difference
from bench.results.measured import Measured
from bench.results.pairs import comparable_pairs, pair_kind, shown
from bench.results.robustness import eps_of, has_eps, is_robust, kind, principal, question, right
from bench.results.statistics import Interval, wilson
from reports.render.table_spec import BOTH, INTERVALS, Column, TableSpec, alike, datasets

_NAMES = (
    "dataset,eval,one,other,images,acr_difference,acr_difference_low,acr_difference_high,at,"
    "accuracy_difference,accuracy_difference_low,accuracy_difference_high,mcnemar_p,couple"
)


class _Seen(NamedTuple):
    """What a cell's evaluation said of each image."""

    spec: Spec
    images: np.ndarray
    """Their numbers, ascending."""
    standing: np.ndarray
    """Whether each is right, and stands at eps where there is one."""
    worth: np.ndarray
    """Radii; 0 where wrong."""


def comparisons(manifest: Manifest, measured: list[Measured]) -> pd.DataFrame:
    """Of each two cells that were asked the same, the differences of accuracies and of ACRs.

    Accuracy is that at radius 0 of a certificate by smoothing, and at eps of an attack or bound; p is of McNemar's
    exact test of it. Intervals are of the images that both were judged on, in pairs: of accuracies Newcombe's, of ACRs
    a bootstrap's.
    """
    judged: dict[tuple, dict[Measured, _Seen]] = {}
    for m in measured:
        for spec in m.cell.evals:
            if m.verdicts.get(spec.id) and kind(spec.name) in ("smoothing", "attack", "bound"):
                asked = (m.folder, m.cell.dataset, *question(m.cell, spec))
                judged.setdefault(asked, {})[m] = _seen(m, spec)
    names = Names(manifest.cells)
    rows = [
        row
        for seen in judged.values()
        for one, other in comparable_pairs(seen)
        for row in _row(manifest, one, other, seen[one], seen[other], names)
    ]
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _seen(m: Measured, spec: Spec) -> _Seen:
    verdicts = m.verdicts[spec.id]
    images = sorted(verdicts)
    eps = eps_of(m.cell, spec) if has_eps(spec.name) else 0.0
    standing = np.array([is_robust(verdicts[image], eps) for image in images])
    worth = np.array([verdicts[image].radius * right(verdicts[image]) for image in images])
    return _Seen(spec, np.array(images), standing, worth)


def _row(
    manifest: Manifest, one: Measured, other: Measured, mine: _Seen, theirs: _Seen, names: Names
) -> Iterator[dict]:
    """One, if there are images that both were judged on."""
    both, first, second = np.intersect1d(mine.images, theirs.images, assume_unique=True, return_indices=True)
    if not len(both):
        return
    spec, standing = mine.spec, (mine.standing[first], theirs.standing[second])
    row = {"dataset": one.cell.dataset, "eval": spec.label}
    row |= {key: f"{m.cell.arch} {names.full_label(m.cell)}" for key, m in (("one", one), ("other", other))}
    row |= {"images": len(both), "folder": str(one.folder), "couple": "other"}
    if kind(spec.name) == "smoothing" or spec == _principal(one.cell):
        row["couple"] = pair_kind(manifest, one, other)
    at = f"eps {written(eps_of(one.cell, spec))}" if has_eps(spec.name) else "radius 0"
    row |= {"at": at, "mcnemar_p": mcnemar(*standing)} | named("accuracy_difference", share_difference(*standing))
    if evaluation(spec, one.cell.threat).measures_radius:
        worth = mine.worth[first].tolist(), theirs.worth[second].tolist()
        row |= named("acr_difference", paired_difference(*worth))
    yield row


def _principal(cell: Cell) -> Spec | None:
    return principal(cell, [spec for spec in cell.evals if has_eps(spec.name)])


def share_difference(a: Sequence[bool], b: Sequence[bool]) -> Interval:
    """Share of a minus share of b on the same images, with Newcombe's interval (1998, method 10).

    It puts the two Wilson intervals together by the correlation that the images show, continuity corrected.
    """
    n, of_a, of_b = len(a), int(np.sum(a)), int(np.sum(b))
    one, other = wilson(of_a, n), wilson(of_b, n)
    both = int(np.logical_and(a, b).sum())
    product = both * (n - of_a - of_b + both) - (of_a - both) * (of_b - both)
    spread = math.sqrt(of_a * (n - of_a) * of_b * (n - of_b))
    phi = (max(product - n / 2, 0) if product > 0 else product) / spread if spread else 0.0
    reach = lambda x, y: math.sqrt(x**2 - 2 * phi * x * y + y**2)  # noqa: E731
    difference = one.mean - other.mean
    low = difference - reach(one.mean - one.low, other.high - other.mean)
    return Interval(difference, low, difference + reach(one.high - one.mean, other.mean - other.low))


def comparisons_table(comparisons: pd.DataFrame) -> Iterator[TableSpec]:
    """Differences of the pairs that papers compare."""
    rows = shown(comparisons)
    apart = rows["at"] != "radius 0"
    rows = rows.assign(at_by=rows["at"].where(~apart, rows["at"] + ", " + rows["eval"]))
    acr = Column("acr_difference", "ACR difference", "radius", "ACR", "one $-$ other", optional=BOTH)
    columns = [
        *(
            *datasets(rows),
            *(Column(key, key, "name", width=18) for key in ("one", "other")),
            *alike("images", "count"),
        ),
        *(replace(acr, writers="text"), Column("at_by", "accuracy at", writers="text")),
        Column("at", "accuracy at", writers="latex"),
        *([Column("eval", "evaluation", "name", writers="latex", width=17)] if apart.any() else []),
        Column("accuracy_difference", "accuracy difference", "points", "accuracy", "one $-$ other"),
        replace(acr, writers="latex"),
        Column("mcnemar_p", "McNemar's p", "probability", "McNemar's $p$"),
    ]
    title, caption = "Differences, one - other, image by image", r"differences, image by image; accuracy in \%."
    yield TableSpec(f"{title} (accuracy in %)", caption, columns, rows, [INTERVALS])
