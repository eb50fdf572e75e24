"""Two networks on the same images: what tells them apart is seen image by image."""

import math

import pandas as pd

from bench.cells import Cell, Spec
from bench.tables import Manifest
from reports.couples import Names, comparable, couple
from reports.load import Measured
from reports.stats import Interval, mcnemar, paired_difference, wilson
from reports.tables import columns, named
from reports.verdicts import eps_of, has_eps, principal, right, stands, written

_NAMES = (
    "dataset,eval,one,other,images,acr_difference,acr_difference_low,acr_difference_high,at,"
    "accuracy_difference,accuracy_difference_low,accuracy_difference_high,mcnemar_p,couple"
)


def comparisons(manifest: Manifest, measured: list[Measured]) -> pd.DataFrame:
    """Of each two cells that the same evaluation judged, the differences of accuracies and of ACRs.

    Accuracy is that at radius 0 of a certificate by smoothing, and at eps of an attack or bound; p is of McNemar's
    exact test of it. Intervals are of the images that both were judged on, in pairs: of accuracies Newcombe's, of ACRs
    a bootstrap's.
    """
    judged: dict[tuple, dict[Measured, Spec]] = {}
    for m in measured:
        for spec in m.cell.evals:
            if spec.name == "Smoothing" or has_eps(spec.name):
                judged.setdefault((m.folder, m.cell.dataset, spec.id), {})[m] = spec
    names = Names(manifest.cells)
    rows = [
        row
        for specs in judged.values()
        for one, other in comparable(specs)
        for row in _row(manifest, one, other, specs[one], names)
    ]
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _row(manifest: Manifest, one: Measured, other: Measured, spec: Spec, names: Names) -> list[dict]:
    mine, others = one.verdicts.get(spec.id, {}), other.verdicts.get(spec.id, {})
    both = sorted(mine.keys() & others.keys())
    if not both:
        return []
    verdicts = [[of[index] for index in both] for of in (mine, others)]
    eps = eps_of(one.cell, spec) if has_eps(spec.name) else 0.0
    standing = [[stands(v, eps) for v in each] for each in verdicts]
    row = {"dataset": one.cell.dataset, "eval": spec.label}
    row |= {key: f"{m.cell.arch} {names.introduced(m.cell)}" for key, m in (("one", one), ("other", other))}
    row |= {"images": len(both), "folder": str(one.folder), "couple": "other"}
    if spec.name == "Smoothing" or spec == _principal(one.cell):
        row["couple"] = couple(manifest, one, other)
    row |= {"at": f"eps {written(eps)}" if has_eps(spec.name) else "radius 0", "mcnemar_p": mcnemar(*standing)}
    row |= named("accuracy_difference", share_difference(*standing))
    if spec.name == "Smoothing" or spec.args.get("bounds") == "global":
        row |= named("acr_difference", paired_difference(*([v.radius * right(v) for v in each] for each in verdicts)))
    return [row]


def _principal(cell: Cell) -> Spec | None:
    return principal(cell, [spec for spec in cell.evals if has_eps(spec.name)])


def share_difference(a: list[bool], b: list[bool]) -> Interval:
    """Share of a minus share of b on the same images, with Newcombe's interval (1998, method 10).

    It puts the two Wilson intervals together by the correlation that the images show, continuity corrected.
    """
    n = len(a)
    one, other = wilson(sum(a), n), wilson(sum(b), n)
    both, neither = sum(map(all, zip(a, b, strict=True))), n - sum(map(any, zip(a, b, strict=True)))
    only_a, only_b = sum(a) - both, sum(b) - both
    product = both * neither - only_a * only_b
    spread = math.sqrt(sum(a) * (n - sum(a)) * sum(b) * (n - sum(b)))
    phi = (max(product - n / 2, 0) if product > 0 else product) / spread if spread else 0.0
    reach = lambda x, y: math.sqrt(x**2 - 2 * phi * x * y + y**2)  # noqa: E731
    difference = one.mean - other.mean
    low = difference - reach(one.mean - one.low, other.high - other.mean)
    return Interval(difference, low, difference + reach(one.high - one.mean, other.mean - other.low))
