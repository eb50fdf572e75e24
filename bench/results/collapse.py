"""Collapsed trainings, found in their own records: the network learned nothing, or lost the robustness it had."""

import math
from collections import Counter
from collections.abc import Iterable
from itertools import product
from typing import Literal, NamedTuple

from bench.cell import Spec
from bench.manifest.labels import written
from bench.manifest.plugin_spec import evaluation
from bench.records import MonitorPoint, Verdict
from bench.results.accuracy import share
from bench.results.measured import Measured
from bench.results.robustness import at_eps, eps_of, is_robust, kind, right
from bench.results.statistics import Interval, wilson
from crt.plugins import declaration

LEAST = 20
"""Fewer images than these cannot show a collapse."""
_PART = 0.5
"""Share of an accuracy that is lost where robustness collapses."""

_Curves = list[tuple[Spec, list[MonitorPoint]]]


class Collapse(NamedTuple):
    """The rule that a collapsed training meets, and the figures that show it."""

    rule: str
    detail: str


def collapse(m: Measured) -> Collapse | None:
    """The first rule that the cell's records meet; None if they meet none.

    - loss not finite: the last recorded training loss is infinite or NaN.
    - constant output: all images get the same class.
    - no better than chance: accuracy is not measurably above chance, the accuracy of the best constant output.
    - accuracy lost: the clean accuracy that is monitored ends measurably below half of its own maximum.
    - catastrophic overfitting, for methods that attack while they train (Wong et al., 2020,
      https://arxiv.org/abs/2001.03994, section 5.4), by attacks within the eps of training: the accuracy is measurably
      below chance; or below half of that under an attack of a single step; or, while it is monitored and clean accuracy
      stays, below half of its own maximum. The first two hold in the last epoch that is monitored, too.
    """
    if m.losses and not math.isfinite(loss := m.losses[max(m.losses)]):
        return Collapse("loss not finite", f"the loss of epoch {max(m.losses) + 1} is {loss}")
    verdicts = _classified(m)
    labels = Counter(v.label for v in verdicts)
    if len(verdicts) < LEAST or len(labels) < 2:
        return _accuracy_lost(m) or _overfitted(m, None)
    classes = {v.prediction for v in verdicts}
    if len(classes) == 1:
        return Collapse("constant output", f"all {len(verdicts):,} images get class {classes.pop()}")
    chance = max(labels.values()) / len(verdicts)
    accuracy = wilson(sum(map(right, verdicts)), len(verdicts))
    if accuracy.low <= chance:
        return Collapse("no better than chance", f"accuracy {_percent(accuracy)}, chance {100 * chance:.1f} %")
    return _accuracy_lost(m) or _overfitted(m, chance)


def assessed(m: Measured) -> bool:
    """True if the cell has records that can show a collapse."""
    return bool(m.losses or len(_classified(m)) >= LEAST)


def _classified(m: Measured) -> list[Verdict]:
    """Verdicts on images without an attack: those of a clean evaluation, else with noise, else the first of any."""
    by_kind = {kind(spec.name): m.verdicts[spec.id] for spec in reversed(m.cell.evals) if m.verdicts.get(spec.id)}
    order = ("clean", "noisy", "smoothing", "attack", "bound", "corrupted")
    return next((list(by_kind[each].values()) for each in order if each in by_kind), [])


def _accuracy_lost(m: Measured) -> Collapse | None:
    """Compare the clean accuracy of the last epoch that is monitored with the best."""
    for _, points in _curves(m, m.cell.monitor.evals if m.cell.monitor else ()):
        best, last = _wilson(max(points, key=lambda point: point.right), "right"), _wilson(points[-1], "right")
        if last.high < _PART * best.low:
            return Collapse("accuracy lost", f"clean accuracy fell from {_percent(best)} to {_percent(last)}")
    return None


def _overfitted(m: Measured, chance: float | None) -> Collapse | None:
    """Catastrophic overfitting; `chance` is the accuracy of the best constant output, None where it is unknown."""
    if not declaration("crt.methods", m.cell.method.name).needs_eps:
        return None
    judged = [spec for spec in _attacks(m, m.cell.evals) if len(m.verdicts.get(spec.id, {})) >= LEAST]
    detail = _below_chance(m, judged, chance) or _below_one_step(m, judged) or _monitored(m)
    return Collapse("catastrophic overfitting", detail) if detail else None


def _attacks(m: Measured, specs: Iterable[Spec]) -> list[Spec]:
    """Those of the evaluations that attack within the eps of training."""
    return [spec for spec in specs if kind(spec.name) == "attack" and eps_of(m.cell, spec) == m.cell.threat.eps]


def _below_chance(m: Measured, judged: list[Spec], chance: float | None) -> str | None:
    for spec in judged:
        accuracy = at_eps(m, spec)
        if chance is not None and accuracy.high < chance:
            where = f"{spec.label} at {written(m.cell.threat.eps)}"
            return f"accuracy under {where} {_percent(accuracy)}, chance {100 * chance:.1f} %"
    return None


def _below_one_step(m: Measured, judged: list[Spec]) -> str | None:
    """Compare attacks of a single step with others on the same images."""
    single = [spec for spec in judged if evaluation(spec, m.cell.threat).budget == (1, 1)]
    for one, many in product(single, [spec for spec in judged if spec not in single]):
        first, last = (m.verdicts[spec.id] for spec in (one, many))
        images = first.keys() & last.keys()
        weak, strong = (share(is_robust(v[i], m.cell.threat.eps) for i in images) for v in (first, last))
        if strong.high < _PART * weak.low:
            return f"accuracy under {many.label} {_percent(strong)}, under {one.label} {_percent(weak)}"
    return None


def _monitored(m: Measured) -> str | None:
    """The signs of overfitting in the accuracies that are monitored."""
    curves = _curves(m, _attacks(m, m.cell.monitor.evals if m.cell.monitor else ()))
    kept = "; the weights of the best epoch are kept" if m.cell.select == "best" else ""
    ended = [(spec, points) for spec, points in curves if points[-1].epoch + 1 == m.cell.recipe.epochs]
    found = _fallen(curves) or _ends_below_one_step(m, ended) or _ends_below_chance(m, ended)
    return f"{found}{kept}" if found else None


def _curves(m: Measured, specs: Iterable[Spec]) -> _Curves:
    """The monitored epochs, in order, of each evaluation with enough images; evaluations without any are left out."""
    curves = [(spec, [point for (name, _), point in sorted(m.curves.items()) if name == spec.id]) for spec in specs]
    return [(spec, points) for spec, points in curves if points and points[-1].images >= LEAST]


def _fallen(curves: _Curves) -> str | None:
    """Compare the last epoch with the best, and find the epoch from which accuracy stays below half of the best."""
    for spec, points in curves:
        top = max(points, key=lambda point: point.standing)
        best, last = _wilson(top, "standing"), _wilson(points[-1], "standing")
        if last.high < _PART * best.low:
            before = max(point.epoch for point in points if point.standing >= _PART * top.standing)
            first = next(point.epoch for point in points if point.epoch > before)
            fall = f"accuracy under {spec.label} fell from {_percent(best)} to {_percent(last)} while it trained"
            return f"{fall}, from epoch {first + 1} on, {_clean(points[-1])}"
    return None


def _ends_below_one_step(m: Measured, curves: _Curves) -> str | None:
    """Compare attacks of a single step with others after the last epoch."""
    last = [(spec, _wilson(points[-1], "standing")) for spec, points in curves]
    single = [(spec, accuracy) for spec, accuracy in last if evaluation(spec, m.cell.threat).budget == (1, 1)]
    for (one, weak), (many, strong) in product(single, [pair for pair in last if pair not in single]):
        if strong.high < _PART * weak.low:
            epoch = f"after epoch {m.cell.recipe.epochs}"
            return f"accuracy under {many.label} {_percent(strong)}, under {one.label} {_percent(weak)} {epoch}"
    return None


def _ends_below_chance(m: Measured, curves: _Curves) -> str | None:
    chance = 1 / len(m.cell.data.classes)
    for spec, points in curves:
        accuracy, clean = _wilson(points[-1], "standing"), _wilson(points[-1], "right")
        if accuracy.high < chance < clean.low:
            where = f"under {spec.label} {_percent(accuracy)} after epoch {points[-1].epoch + 1}"
            return f"accuracy {where}, chance {100 * chance:.1f} %, {_clean(points[-1])}"
    return None


def _clean(point: MonitorPoint) -> str:
    return f"clean accuracy {100 * point.right:.1f} %"


def _wilson(point: MonitorPoint, value: Literal["right", "standing"]) -> Interval:
    share = point.right if value == "right" else point.standing
    return wilson(round(share * point.images), point.images)


def _percent(accuracy: Interval) -> str:
    return f"{100 * accuracy.mean:.1f} % ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})"
