"""Ranks of the methods of a setting, the best within a time or at an accuracy, and the price of a point."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bench.results.contenders import Contender, Setting
from bench.results.counterparts import hours_with_teacher
from bench.results.front import front_frequencies
from bench.results.intervals import nested_ci
from bench.results.measured import Measured
from bench.results.ratios import mismatched_fields
from bench.results.statistics import NOTHING, Interval
from crt.training.recipe import ARITHMETIC

Hours = Mapping[Contender, Interval]
"""Hours of the whole training of each method, with those of its teachers."""


class Rank(NamedTuple):
    """Rank of a method by robust accuracy, 1 for the best."""

    first: int
    """1 + the number of methods that are shown to be more robust: the method's rank."""
    last: int
    """The number of methods without those that are shown to be less robust."""


class Best(NamedTuple):
    """The best method among those that keep a limit."""

    limit: float
    """Hours at most, or robust accuracy at least."""
    methods: int
    """Number of methods that keep it."""
    best: Contender
    others: tuple[Contender, ...]
    """Methods that may be as good, which these measurements do not tell."""


def ranks(setting: Setting) -> dict[Contender, Rank]:
    """Rank of each method whose robustness was measured and that did not collapse with every seed.

    A method is shown to be more robust than another as `Setting.differs` decides. The p-values of all pairs are
    adjusted together (Holm), so that in at least 95 % of studies no pair is ordered wrongly, and each true rank is
    between `first` and `last` (Mogstad, Romano, Shaikh and Wilhelm 2024, Inference for Ranks, Review of Economic
    Studies 91).
    """
    competing = setting.competing
    methods = competing.judged
    signs = {each: [competing.differs(each, other) for other in methods] for each in methods}
    return {each: Rank(1 + own.count(-1), len(methods) - own.count(1)) for each, own in signs.items()}


def training_hours(setting: Setting) -> dict[Contender, Interval]:
    """Hours of the whole training of each method, with those of its teachers; NOTHING where they are not known.

    Times that cannot be compared with those of the baseline, or else of the first timed method, are not known either.
    """
    timed = [each for each in (setting.baseline, *setting.contenders) if each and each.timed.timed]
    return {each: _hours(setting, each, timed[0].timed) if timed else NOTHING for each in setting.contenders}


def _hours(setting: Setting, each: Contender, reference: Measured) -> Interval:
    seeds = [m for m in each.by_seed.values() if m.timed]
    try:
        for m in seeds:
            mismatched_fields(m, reference, {*setting.allow, *ARITHMETIC})
    except ValueError:
        return NOTHING
    runs: dict[tuple[int, int], list[float]] = {}
    for m in seeds:
        turns = hours_with_teacher(m)
        if not turns:
            return NOTHING
        for (run, _), hours in turns.items():
            runs.setdefault((m.cell.seed, run), []).append(hours)
    return nested_ci(list(runs.values()))


def price(setting: Setting, each: Contender, hours: Hours) -> Interval:
    """Device-hours beyond those of the baseline for each percentage point of robust accuracy above it.

    NOTHING where no gain is shown. The interval is that of the gain alone; hours count as measured. A method that
    takes less time than the baseline has a price below 0.
    """
    base, competing = setting.baseline, setting.competing
    if base is None or competing.differs(each, base) <= 0:
        return NOTHING
    more = each.first.cell.ranks * (hours[each].mean - hours[base].mean)
    gain = competing.difference(each, base)
    low, high = sorted(more / (100 * end) for end in (gain.low, gain.high))
    return Interval(more / (100 * gain.mean), low, high)


def front(setting: Setting, hours: Hours) -> dict[Contender, float]:
    """Share of bootstrap draws in which each method is on the Pareto front of hours and robust accuracy."""
    # Intervals of times may be cut at 0, where a logarithm has no width.
    costs = {each: Interval(own.mean, own.mean**2 / own.high, own.high) for each, own in hours.items()}
    return front_frequencies(setting.competing, costs)


def most_robust_within(setting: Setting, hours: Hours) -> Iterator[Best]:
    """Yield the most robust method within each measured time, from the shortest; only where the answer changes.

    Others are the methods within the time that are not told apart from it.
    """
    competing, answer = setting.competing, None
    timed = _timed(competing, hours)
    for limit in sorted({hours[each].mean for each in timed}):
        within = [each for each in timed if hours[each].mean <= limit]
        best = max(within, key=lambda each: (each.accuracy.mean, -hours[each].mean))
        others = tuple(each for each in within if each is not best and not competing.differs(best, each))
        if (best, others) != answer:
            answer = best, others
            yield Best(limit, len(within), best, others)


def fastest_at_least(setting: Setting, hours: Hours) -> Iterator[Best]:
    """Yield the method of least hours at each measured accuracy or more, from the highest; only where it changes.

    Others take less time, and their accuracy is below the limit, but not told apart from that of the method whose
    accuracy is the limit.
    """
    competing, answer = setting.competing, None
    timed = _timed(competing, hours)
    for place in sorted(timed, key=lambda each: (-each.accuracy.mean, hours[each].mean)):
        limit = place.accuracy.mean
        reaching = [each for each in timed if each.accuracy.mean >= limit]
        best = min(reaching, key=lambda each: (hours[each].mean, -each.accuracy.mean))
        if best is not answer:
            answer = best
            below = [each for each in timed if each not in reaching and hours[each].mean < hours[best].mean]
            yield Best(limit, len(reaching), best, tuple(each for each in below if not competing.differs(place, each)))


def _timed(setting: Setting, hours: Hours) -> list[Contender]:
    return [each for each in setting.judged if not math.isnan(hours[each].mean)]
