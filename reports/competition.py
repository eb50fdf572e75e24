"""Sentences on the methods that compete: which is fastest at the robustness of the best, and what the others cost."""

import math
from collections import Counter
from itertools import combinations

from bench.results.contenders import Contender, Setting
from bench.results.statistics import Interval
from reports.render.phrases import NAMED, factor, listed, percent, points, span

_FAMILIES = 3
"""Largest number of settings, each with a figure of its own, whose winners are named one by one."""
MARGIN = 0.05
"""Largest difference of robust accuracy at which two methods count as equally robust."""


def winner(setting: Setting) -> Contender:
    """The least costly of the contenders that are as robust as the best."""
    best, equals = _best(setting), _equals(setting)
    reference = setting.baseline or best
    costs = {each: setting.cost(each, reference).mean for each in equals}
    timed = [each for each in equals if not math.isnan(costs[each])]
    return min(timed, key=lambda each: costs[each]) if timed else best


def fastest(judged: list[Setting]) -> str:
    """The winner of a setting beside the best, with cost and robustness; over several settings, who wins how often."""
    if not any(_best(setting).accuracy.mean for setting in judged):
        return "No method is robust by this figure on any evaluated image."
    opening = "Fastest at the robustness of the best"
    if len(judged) == 1:
        return f"{opening}: {_leader(judged[0])}."
    if len({setting.figure for setting in judged}) == len(judged) <= _FAMILIES:
        return f"{opening}. {' '.join(_of_family(setting) for setting in judged)}"
    wins: dict[str, list[float]] = {}
    for setting in judged:
        first = winner(setting)
        cost = setting.cost(first, setting.baseline).mean if setting.baseline else math.nan
        wins.setdefault(" or ".join([first.label, *_as_fast(setting, first)]), []).append(cost)
    ordered = sorted(wins, key=lambda label: -len(wins[label]))
    parts = [f"{label} in {len(wins[label])}{_range(label, wins[label], judged[0])}" for label in ordered[:NAMED]]
    return f"{opening}, over {len(judged)} settings: {'; '.join(parts)}."


def _of_family(setting: Setting) -> str:
    """The winner by a figure of its own."""
    if not _best(setting).accuracy.mean:
        return f"By {setting.figure}: none, for no method is robust on any image."
    return f"By {setting.figure}: {_leader(setting)}."


def _leader(setting: Setting) -> str:
    """The winner of a setting beside the best, with cost and robustness."""
    first, best = winner(setting), _best(setting)
    text = f"{first.label}, with {percent(first.accuracy)}{_of_baseline(setting, first)}"
    if others := _as_fast(setting, first):
        verb = "is" if len(others) == 1 else "are"
        text += f"; within the noise floor {listed(others, 'methods')} {verb} as fast"
    if first is best:
        return f"{text}; no other method has a higher figure{_undecided(setting, best)}"
    text += f"; the highest figure is that of {best.label}, {percent(best.accuracy)}"
    return f"{text}, {_differ(setting, best, first)}{_undecided(setting, best)}"


def bought(judged: list[Setting]) -> str:
    """Methods that are measurably more robust than the baseline, and what that costs."""
    parts: dict[str, list[str]] = {}
    for setting in judged:
        first = setting.baseline
        if first is None or not first.robust:
            continue
        for each in setting.judged:
            gain = setting.difference(each, first)
            if setting.differs(each, first) > 0:
                price = setting.cost(each, first)
                noise = ", within the noise floor" * setting.cost_is_noise(each, first)
                cost = "" if math.isnan(price.mean) else f" for {factor(price)} of the time{noise}"
                parts.setdefault(each.label, []).append(points(gain) + cost)
    base = next((setting.baseline.label for setting in judged if setting.baseline), "")
    return _by_method(f"More robust than {base}", parts, judged)


def wasted(judged: list[Setting]) -> str:
    """Methods that measurably cost more than the winner, but are not measurably more robust."""
    parts: dict[str, list[str]] = {}
    for setting in judged:
        first = winner(setting)
        for each in setting.judged:
            price = setting.cost(each, first)
            if each is not first and setting.costs_more(each, first) and not setting.differs(each, first) > 0:
                words = f"{factor(price)} of {first.label}'s time, {_differ(setting, each, first)}"
                parts.setdefault(each.label, []).append(words)
    return _by_method("Costs more without being measurably more robust", parts, judged)


def tied(judged: list[Setting]) -> str:
    """Pairs of methods that neither cost nor robustness tells apart."""
    pairs: dict[str, None] = {}
    for setting in judged:
        for a, b in combinations(setting.judged, 2):
            price, gain = setting.cost(a, b), setting.difference(a, b)
            if not (setting.costs_differ(a, b) or setting.differs(a, b)) and not math.isnan(price.low + gain.low):
                pairs[f"{a.label} and {b.label}"] = None
    return f"Not distinguishable by time or robustness: {listed(list(pairs), 'pairs', '; ')}." if pairs else ""


def costs(compared: list[Setting]) -> str:
    """Cost of each method relative to the baseline."""
    costs: dict[str, list[Interval]] = {}
    noisy: dict[str, bool] = {}
    for setting in compared:
        for each in setting.contenders:
            if setting.baseline and each is not setting.baseline:
                cost = setting.cost(each, setting.baseline)
                if not math.isnan(cost.mean):
                    costs.setdefault(each.label, []).append(cost)
                    noisy[each.label] = noisy.get(each.label, True) and setting.cost_is_noise(each, setting.baseline)
    if not costs:
        return ""
    ordered = sorted(costs, key=lambda label: min(cost.mean for cost in costs[label]))
    shown = [*ordered[: NAMED - 1], ordered[-1]] if len(ordered) > NAMED else ordered
    texts = [
        f"{label} {factor(costs[label][0]) if len(costs[label]) == 1 else span([c.mean for c in costs[label]])}"
        + " within the noise floor" * noisy[label]
        for label in shown
    ]
    base = next(setting.baseline.label for setting in compared if setting.baseline)
    end = "" if any(len(setting.judged) > 1 for setting in compared) else "; robustness was not measured"
    more = f" ({len(ordered) - len(shown)} more in the tables)" if len(shown) < len(ordered) else ""
    return f"Training time relative to {base}: {', '.join(texts)}{more}{end}."


def _best(setting: Setting) -> Contender:
    return max(setting.judged, key=lambda each: each.accuracy.mean)


def _equals(setting: Setting) -> list[Contender]:
    """The contenders that are as robust as the best, itself included."""
    best = _best(setting)
    return [each for each in setting.judged if each is best or _equal(setting, best, each)]


def _as_fast(setting: Setting, first: Contender) -> list[str]:
    """The other contenders that are as robust as the best, and whose cost is within the noise floor of the first's."""
    return [each.label for each in _equals(setting) if each is not first and setting.cost_is_noise(each, first)]


def _equal(setting: Setting, best: Contender, other: Contender) -> bool:
    difference = setting.difference(best, other)
    return not setting.differs(best, other) and difference.high <= MARGIN


def _excludes(interval: Interval, value: float) -> bool:
    return interval.low > value or interval.high < value


def _undecided(setting: Setting, best: Contender) -> str:
    """Words for the methods that may be as robust as the best, but were not shown to be."""
    others = [
        each for each in setting.judged if each is not best and not math.isnan(setting.difference(best, each).low)
    ]
    count = sum(not setting.differs(best, each) and not _equal(setting, best, each) for each in others)
    if not count:
        return ""
    means = [each.over_seeds for each in setting.judged]
    images, seeds = (min(numbers) for numbers in zip(*((m.images, m.seeds) for m in means), strict=True))
    few = f"{seeds} seeds and {images} images" if seeds > 1 else f"{images} images"
    return f"; {count} other{'s' * (count > 1)} may be as robust, which {few} do not tell"


def _of_baseline(setting: Setting, contender: Contender) -> str:
    base = setting.baseline
    if base is None or math.isnan(setting.cost(contender, base).mean):
        return ""
    if contender is base:
        return ", the baseline itself"
    return f", in {factor(setting.cost(contender, base))} of {base.label}'s training time"


def _differ(setting: Setting, first: Contender, second: Contender) -> str:
    difference = setting.difference(first, second)
    if math.isnan(difference.low):
        return f"difference {100 * difference.mean:+.1f} points without an interval"
    clear = "" if setting.differs(first, second) else ", not distinguishable from 0"
    if clear and _excludes(difference, 0):
        clear += f" among {setting.comparisons} pairs"
    return f"difference {points(difference)}{clear}"


def _by_method(opening: str, parts: dict[str, list[str]], judged: list[Setting]) -> str:
    """A sentence that names each method with its words, or with its number of settings where it is in several."""
    if not parts:
        return ""
    ordered = sorted(parts, key=lambda label: -len(parts[label]))
    counts = Counter(each.label for setting in judged for each in setting.judged)
    texts = [
        f"{label} ({parts[label][0] if counts[label] == 1 else f'in {len(parts[label])} of {counts[label]} settings'})"
        for label in ordered[:NAMED]
    ]
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return f"{opening}: {', '.join(texts)}{more}."


def _range(label: str, costs: list[float], setting: Setting) -> str:
    if setting.baseline and label == setting.baseline.label:
        return " (the baseline)"
    known = [cost for cost in costs if not math.isnan(cost)]
    return f" ({span(known)} of {setting.baseline.label}'s time)" if known and setting.baseline else ""
