"""What verdicts add up to: accuracy, certified radius, accuracy at eps."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.cell import Cell, Spec, digest
from bench.manifest.labels import written
from bench.records import Verdict
from bench.results.accuracy import average_certified_radius, certified_radii, share
from bench.results.measured import Measured
from bench.results.statistics import NOTHING, Interval
from crt.plugins import declaration

if TYPE_CHECKING:
    from crt.evals.base import Kind


class AtEps(NamedTuple):
    """Accuracy at eps and accuracy without an attack, and which evaluation says so."""

    standing: Interval = NOTHING
    clean: Interval = NOTHING
    by: str | None = None


def kind(name: str) -> "Kind":
    """The kind of the evaluation of this name."""
    return declaration("crt.evals", name).kind


def has_eps(name: str) -> bool:
    """True where the evaluation of this name tells of each image if it is robust at eps."""
    return kind(name) in ("attack", "bound")


def eps_of(cell: Cell, spec: Spec) -> float:
    """The evaluation's own, else the threat's."""
    return cell.threat.eps if spec.args.get("eps") is None else spec.args["eps"]


def question(cell: Cell, spec: Spec) -> tuple:
    """What an evaluation asks of an image: alike where two networks, whatever they were trained for, may be compared.

    Its id tells those of two threats apart; here the ball is the judge's.
    """
    execution = declaration("crt.evals", spec.name).execution
    args = {key: value for key, value in spec.args.items() if key not in execution}
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


def of(m: Measured, asked: "Kind") -> list[Verdict]:
    """All verdicts of the cell's first evaluation of this kind."""
    return next((list(m.verdicts.get(spec.id, {}).values()) for spec in m.cell.evals if kind(spec.name) == asked), [])


def first_seen(m: Measured, spec: Spec | None) -> list[Verdict]:
    """Verdicts on clean images: a clean evaluation's or, where there is none, those of an evaluation at eps."""
    if spec and (kind(spec.name) == "clean" or (has_eps(spec.name) and not of(m, "clean"))):
        return list(m.verdicts.get(spec.id, {}).values())
    return of(m, "clean")


def clean(m: Measured, spec: Spec | None) -> Interval:
    """Share of right predictions."""
    return share(map(right, first_seen(m, spec)))


def at_eps(m: Measured, spec: Spec) -> Interval:
    """Share that is right and stands at the evaluation's eps."""
    eps = eps_of(m.cell, spec)
    return share(is_robust(v, eps) for v in m.verdicts.get(spec.id, {}).values())


def principal(cell: Cell, asked: Sequence[Spec]) -> Spec | None:
    """Of evaluations at an eps, the one that one figure is of: the first at the threat's eps."""
    return next((spec for spec in asked if eps_of(cell, spec) == cell.threat.eps), asked[0] if asked else None)


def accuracy_at_eps(m: Measured) -> AtEps:
    """What the cell's time bought."""
    spec = principal(m.cell, [spec for spec in m.cell.evals if has_eps(spec.name)])
    if spec is None or not m.verdicts.get(spec.id):
        return AtEps(clean=clean(m, None))
    return AtEps(
        at_eps(m, spec), clean(m, spec), f"{spec.label} at {m.cell.threat.norm} {written(eps_of(m.cell, spec))}"
    )


def acr(m: Measured) -> Interval:
    """The ACR of its first certificate by smoothing."""
    return average_certified_radius(radii(of(m, "smoothing")))
