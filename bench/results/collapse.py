"""Collapsed trainings, found in their own records: the network learned nothing, or lost the robustness it had."""

import math
from collections import Counter
from collections.abc import Iterable
from itertools import product
from typing import NamedTuple

from bench.cell import Spec
from bench.manifest.labels import written
from bench.manifest.plugin_spec import evaluation
from bench.records import Verdict
from bench.results.accuracy import share
from bench.results.measured import Measured
from bench.results.robustness import at_eps, eps_of, is_robust, kind, right
from bench.results.statistics import Interval, wilson
from crt.plugins import declaration

LEAST = 20
"""Fewer images than these cannot show a collapse."""
_PART = 0.5
"""Share of an accuracy that is lost where robustness collapses."""


class Collapse(NamedTuple):
    """The rule that a collapsed training meets, and the figures that show it."""

    rule: str
    detail: str


def collapse(m: Measured) -> Collapse | None:
    """The first rule that the cell's records meet; None if they meet none.

    - loss not finite: the last recorded training loss is infinite or NaN.
    - constant output: all images get the same class.
    - no better than chance: accuracy is not measurably above chance, the accuracy of the best constant output.
    - catastrophic overfitting, for methods that attack while they train (Wong et al., 2020,
      https://arxiv.org/abs/2001.03994, section 5.4), by attacks within the eps of training: the accuracy is measurably
      below chance; or below half of that under an attack of a single step; or, while it is
      monitored, below half of its own maximum.
    """
    if m.losses and not math.isfinite(loss := m.losses[max(m.losses)]):
        return Collapse("loss not finite", f"the loss of epoch {max(m.losses) + 1} is {loss}")
    verdicts = _classified(m)
    labels = Counter(v.label for v in verdicts)
    if len(verdicts) < LEAST or len(labels) < 2:
        return _lost(m, None)
    classes = {v.prediction for v in verdicts}
    if len(classes) == 1:
        return Collapse("constant output", f"all {len(verdicts):,} images get class {classes.pop()}")
    chance = max(labels.values()) / len(verdicts)
    accuracy = wilson(sum(map(right, verdicts)), len(verdicts))
    if accuracy.low <= chance:
        return Collapse("no better than chance", f"accuracy {_percent(accuracy)}, chance {100 * chance:.1f} %")
    return _lost(m, chance)


def assessed(m: Measured) -> bool:
    """True if the cell has records that can show a collapse."""
    return bool(m.losses or len(_classified(m)) >= LEAST)


def _classified(m: Measured) -> list[Verdict]:
    """Verdicts on images without an attack: those of a clean evaluation, else with noise, else the first of any."""
    by_kind = {kind(spec.name): m.verdicts[spec.id] for spec in reversed(m.cell.evals) if m.verdicts.get(spec.id)}
    order = ("clean", "noisy", "smoothing", "attack", "bound", "corrupted")
    return next((list(by_kind[each].values()) for each in order if each in by_kind), [])


def _lost(m: Measured, chance: float | None) -> Collapse | None:
    """Catastrophic overfitting; `chance` is the accuracy of the best constant output, None where it is unknown."""
    if not declaration("crt.methods", m.cell.method.name).needs_eps:
        return None
    judged = [spec for spec in _attacks(m, m.cell.evals) if len(m.verdicts.get(spec.id, {})) >= LEAST]
    detail = _below_chance(m, judged, chance) or _below_one_step(m, judged) or _fallen(m)
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


def _fallen(m: Measured) -> str | None:
    """Compare the last epoch that is monitored with the best."""
    for spec in _attacks(m, m.cell.monitor.evals if m.cell.monitor else ()):
        points = [point for (name, _), point in sorted(m.curves.items()) if name == spec.id]
        if len(points) < 2 or points[-1].images < LEAST:
            continue
        best, last = (
            wilson(round(point.standing * point.images), point.images)
            for point in (max(points, key=lambda point: point.standing), points[-1])
        )
        if last.high < _PART * best.low:
            kept = "; the weights of the best epoch are kept" if m.cell.select == "best" else ""
            return f"accuracy under {spec.label} fell from {_percent(best)} to {_percent(last)} while it trained{kept}"
    return None


def _percent(accuracy: Interval) -> str:
    return f"{100 * accuracy.mean:.1f} % ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})"
