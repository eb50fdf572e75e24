"""The course of a training: what its epochs cost, relative to a steady one."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal, NamedTuple

from bench.cell import Cell
from bench.manifest.labels import epochs
from bench.results.contenders import Contender, Setting
from bench.results.intervals import welch_ratio
from bench.results.measured import Measured
from bench.results.statistics import NOTHING, Interval

By = Literal["trainings", "operations", "constant"]
"""Origin of costs: timed epochs of trainings, counted operations, or the method's word that its steps cost the same."""


class Phase(NamedTuple):
    """Epochs of a training whose steps cost the same, from `first` to before `end`; both may be fractions."""

    first: float
    end: float


class Course(NamedTuple):
    """Costs of the phases of one training, relative to an epoch of its last phase."""

    phases: tuple[Phase, ...]
    costs: tuple[float, ...]
    by: By

    @property
    def early(self) -> float:
        """Cost of the whole training, relative to one whose epochs are all steady."""
        lengths = [phase.end - phase.first for phase in self.phases]
        return math.fsum(n * cost for n, cost in zip(lengths, self.costs, strict=True)) / math.fsum(lengths)

    def epoch(self, number: int) -> float:
        """Cost of the loaded epoch with this number, from 0."""
        shares = [max(0.0, min(phase.end, number + 1) - max(phase.first, number)) for phase in self.phases]
        return math.fsum(share * cost for share, cost in zip(shares, self.costs, strict=True))


def phases(cell: Cell) -> tuple[Phase, ...]:
    """Phases of the training, by the method's boundaries; the last has its steady epochs.

    Phases of a schedule that is longer than the training are left out where it does not reach them.
    """
    total = float(cell.recipe.epochs)
    starts = sorted({0.0, *(float(epoch) for epoch in cell.build_method().phase_boundaries if 0 < epoch < total)})
    return tuple(Phase(first, end) for first, end in zip(starts, [*starts[1:], total], strict=True))


def relative_costs(m: Measured, paired: bool) -> dict[int, float]:
    """Time of each timed epoch of the cell's training, relative to the mean of its last phase; empty without these.

    Epochs are loaded ones, from 0. Both times are of one training, so that machines do not matter. A study (`paired`)
    times steady steps, which a training that is shorter than its schedule does not have.
    """
    paces = {number: e.seconds / e.images for number, e in sorted(m.training.items()) if not e.warmup}
    last = phases(m.cell)[-1]
    steady = [pace for number, pace in paces.items() if number >= last.first]
    if not steady or (paired and last.first < _steady_from(m.cell)):
        return {}
    return {number: pace / fmean(steady) for number, pace in paces.items()}


def _steady_from(cell: Cell) -> float:
    """Epoch from which the method's last phase begins, which a short training may not reach."""
    return max((float(epoch) for epoch in cell.build_method().phase_boundaries), default=0.0)


def course(m: Measured, paired: bool) -> Course | None:
    """The course of a cell: by its training, else by counted operations; None where neither tells it.

    Costs are relative to the epochs that `steady_ratio` compares: those of a study, if `paired`, else of the training.
    """
    own = phases(m.cell)
    if len(own) == 1 and not (paired and _steady_from(m.cell) > 0):
        return Course(own, (1.0,), "constant")
    return _timed(m, own, paired) or _counted(m, own, paired)


def _timed(m: Measured, own: tuple[Phase, ...], paired: bool) -> Course | None:
    """The course by the epochs that lie in one phase; None where a phase has none."""
    relative = relative_costs(m, paired)
    inside = [[cost for n, cost in relative.items() if phase.first <= n and n + 1 <= phase.end] for phase in own]
    return Course(own, tuple(map(fmean, inside)), "trainings") if all(inside) else None


def _counted(m: Measured, own: tuple[Phase, ...], paired: bool) -> Course | None:
    """The course by operations; None where those of a phase were not counted."""
    steady = _steady_from(m.cell)
    counts = [m.flops if phase.first >= steady else m.early_flops.get(phase.first) for phase in own]
    reference = m.flops if paired else counts[-1]
    known = [count for count in counts if count is not None]
    if not reference or len(known) < len(counts):
        return None
    return Course(own, tuple(count / reference for count in known), "operations")


def courses(contender: Contender, paired: bool) -> dict[int, Course]:
    """Courses by seed, all of one origin: those of trainings where there are any."""
    found = {seed: each for seed, m in contender.by_seed.items() if (each := course(m, paired))}
    timed = {seed: each for seed, each in found.items() if each.by == "trainings"}
    return timed or found


def early(found: Mapping[int, Course]) -> float:
    """Mean over seeds of the cost of the whole training, relative to one of steady epochs; NaN without courses."""
    return fmean(each.early for each in found.values()) if found else math.nan


def steady_ratio(setting: Setting, each: Contender, base: Contender) -> Interval:
    """Ratio of the times of a steady epoch; NOTHING where one has no time, or the times cannot be compared."""
    cost = setting.cost(each, base)
    if each is base or math.isnan(cost.mean):
        return cost
    if setting.paired:
        # Studies time steady epochs only.
        share = epochs(each.timed.cell) / epochs(base.timed.cell)
        return Interval(*(value / share for value in cost))
    first, second = (_steady_seconds(list(own.by_seed.values())) for own in (each, base))
    return welch_ratio(first, second) if first and second else NOTHING


def _steady_seconds(seeds: Sequence[Measured]) -> list[list[float]]:
    """Times of an image in the steady epochs of each training."""
    found = []
    for m in seeds:
        first = phases(m.cell)[-1].first
        found += [[pace for number, pace in paces.items() if number >= first] for paces in m.paces.values()]
    return [paces for paces in found if paces]
