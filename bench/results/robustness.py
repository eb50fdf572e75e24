"""Results of verdicts: accuracy, certified radius and accuracy at eps."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.cell import Cell, Spec, digest
from bench.manifest.labels import written
from bench.manifest.plugin_spec import evaluation
from bench.records import Verdict
from bench.results.accuracy import average_certified_radius, certified_radii, share
from bench.results.measured import Measured
from bench.results.statistics import NOTHING, Interval
from crt.plugins import declaration

if TYPE_CHECKING:
    from crt.evals.base import Kind


class AtEps(NamedTuple):
    """Robust accuracy at eps, clean accuracy, and the label of the evaluation that gives them."""

    robust: Interval = NOTHING
    clean: Interval = NOTHING
    by: str | None = None


def kind(name: str) -> "Kind":
    """Kind of the evaluation with this name."""
    return declaration("crt.evals", name).kind


def grid(spec: Spec) -> tuple[float, ...] | None:
    """Radii at which a certificate by smoothing decides, if they are few; it has no ACR then."""
    return tuple(spec.args["radii"]) if kind(spec.name) == "smoothing" and spec.args.get("radii") else None


def draws(spec: Spec, verdicts: Iterable[Verdict]) -> float:
    """Mean number of noise draws of an image by smoothing: those that select its class and those that estimate it."""
    drawn = [spec.args["n0"] + verdict.details.get("drawn", 0) for verdict in verdicts]
    return fmean(drawn) if drawn else math.nan


def has_eps(name: str) -> bool:
    """True if the evaluation with this name decides for each image if it is robust at eps."""
    return kind(name) in ("attack", "bound")


def eps_of(cell: Cell, spec: Spec) -> float:
    """The evaluation's own eps, else the threat's."""
    return cell.threat.eps if spec.args.get("eps") is None else spec.args["eps"]


def question(cell: Cell, spec: Spec) -> tuple:
    """Key of an evaluation: two networks with equal keys may be compared, whatever threat they were trained for.

    An evaluation's id differs between threats; here the norm and radius are those that are evaluated.
    """
    execution = declaration("crt.evals", spec.name).execution
    args = {key: value for key, value in spec.args.items() if key not in execution}
    if cell.teacher and evaluation(spec, cell.threat).needs_teacher:
        args["teacher"] = cell.teacher.id
    if has_eps(spec.name):
        return spec.name, cell.threat.norm, digest(args | {"eps": eps_of(cell, spec)})
    return spec.name, cell.threat.sigma, digest(args)


def right(verdict: Verdict) -> bool:
    return verdict.prediction == verdict.label


def is_robust(verdict: Verdict, eps: float) -> bool:
    return right(verdict) and verdict.radius >= eps


def radii(verdicts: Iterable[Verdict]) -> np.ndarray:
    """Certified radii, -1 where the class is wrong."""
    return certified_radii((right(v), v.radius) for v in verdicts)


def of(m: Measured, wanted: "Kind") -> list[Verdict]:
    """All verdicts of the cell's first evaluation of this kind."""
    return next((list(m.verdicts.get(spec.id, {}).values()) for spec in m.cell.evals if kind(spec.name) == wanted), [])


def first_seen(m: Measured, spec: Spec | None) -> list[Verdict]:
    """Verdicts on clean images: those of a clean evaluation, else those of an evaluation at eps."""
    if spec and (kind(spec.name) == "clean" or (has_eps(spec.name) and not of(m, "clean"))):
        return list(m.verdicts.get(spec.id, {}).values())
    return of(m, "clean")


def clean(m: Measured, spec: Spec | None) -> Interval:
    """Clean accuracy."""
    return share(map(right, first_seen(m, spec)))


def at_eps(m: Measured, spec: Spec) -> Interval:
    """Robust accuracy at the evaluation's eps: share of images that are predicted correctly and robust."""
    eps = eps_of(m.cell, spec)
    return share(is_robust(v, eps) for v in m.verdicts.get(spec.id, {}).values())


def principal(cell: Cell, specs: Sequence[Spec]) -> Spec | None:
    """The first of the evaluations at the threat's eps, else the first of all; reports print it as the one figure."""
    return next((spec for spec in specs if eps_of(cell, spec) == cell.threat.eps), specs[0] if specs else None)


def accuracy_at_eps(m: Measured) -> AtEps:
    """Robust and clean accuracy of a cell by its principal evaluation."""
    spec = principal(m.cell, [spec for spec in m.cell.evals if has_eps(spec.name)])
    if spec is None or not m.verdicts.get(spec.id):
        return AtEps(clean=clean(m, None))
    return AtEps(
        at_eps(m, spec), clean(m, spec), f"{spec.label} at {m.cell.threat.norm} {written(eps_of(m.cell, spec))}"
    )


def acr(m: Measured) -> Interval:
    """ACR of the cell's first evaluation by smoothing that measures radii; a grid of radii has none."""
    measuring = (spec for spec in m.cell.evals if kind(spec.name) == "smoothing" and not grid(spec))
    found = next((m.verdicts.get(spec.id, {}) for spec in measuring), {})
    return average_certified_radius(radii(found.values()))
