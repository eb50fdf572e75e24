"""The noise floor of a study: how far the time of its baseline is from its own, in two arms of one process."""

import math
from functools import cache

from bench.results.measured import Measured
from bench.results.ratios import ratio
from bench.results.statistics import NOTHING, Interval


def noise_floor(*measured: Measured) -> float:
    """Least ratio of two times, less 1, that counts as a difference: the largest floor of the cells' studies.

    A study's floor is the largest factor by which the 95 % interval of control / baseline reaches from 1, less 1; with
    an interval from 0.97 to 1.01 it is 1 / 0.97 - 1 = 3.1 %. NaN where no study has a timed control with an interval.
    """
    floors = [floor for m in measured if not math.isnan(floor := _floor(m))]
    return max(floors, default=math.nan)


def control_ratio(m: Measured) -> Interval:
    """Ratio of the times of a control and of its baseline; NOTHING for any other cell."""
    baseline = next((each for each in m.comparison_group if _is_control(m, each)), None)
    return ratio(m, baseline, paired=True).interval if baseline else NOTHING


def within_noise(factor: float, floor: float) -> bool:
    """True for a ratio of times that is no further from 1 than the noise floor; False for an unknown floor."""
    return abs(math.log(factor)) <= math.log1p(floor)


def differs(interval: Interval, floor: float) -> bool:
    """True for a ratio of times whose interval excludes 1, and which is further from 1 than the noise floor."""
    return exceeds(interval, floor) or (interval.high < 1 and not within_noise(interval.mean, floor))


def exceeds(interval: Interval, floor: float) -> bool:
    """True for a ratio of times whose interval lies above 1, and which is further from 1 than the noise floor."""
    return interval.low > 1 and not within_noise(interval.mean, floor)


@cache
def _floor(m: Measured) -> float:
    """Floor of one cell's study; cached, because every ratio of every table asks for it."""
    intervals = [control_ratio(each) for each in m.comparison_group if each.cell.control]
    reached = [max(interval.high, 1 / interval.low) - 1 for interval in intervals if not math.isnan(interval.low)]
    return max(reached, default=math.nan)


def _is_control(m: Measured, baseline: Measured) -> bool:
    """True if the first cell is the control of the second."""
    if baseline.cell.control or not m.cell.control:
        return False
    return baseline.cell.model_copy(update={"control": True}).id == m.id
