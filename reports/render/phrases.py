"""Phrases for numbers and lists in sentences."""

import math
from collections.abc import Collection

from bench.results.statistics import Interval

NAMED = 4
"""Largest number of methods or settings that a sentence names."""


def factor(interval: Interval) -> str:
    """A ratio: `1.24x (1.21 to 1.27)`."""
    ends = "" if math.isnan(interval.low) else f" ({_times(interval.low)} to {_times(interval.high)})"
    return f"{_times(interval.mean)}x{ends}"


def percent(interval: Interval) -> str:
    """A share: `51.0 % (48.2 to 53.9)`."""
    return f"{100 * interval.mean:.1f} %" + _ends(Interval(*(100 * value for value in interval)), "{:.1f}")


def points(interval: Interval) -> str:
    """A difference of two shares: `+0.6 points (-1.2 to +2.4)`."""
    return f"{100 * interval.mean:+.1f} points" + _ends(Interval(*(100 * value for value in interval)), "{:+.1f}")


def _ends(interval: Interval, form: str) -> str:
    return "" if math.isnan(interval.low) else f" ({form.format(interval.low)} to {form.format(interval.high)})"


def span(factors: list[float]) -> str:
    """The range of some ratios: `1.05x to 1.28x`."""
    low, high = f"{_times(min(factors))}x", f"{_times(max(factors))}x"
    return low if low == high else f"{low} to {high}"


def from_to(counts: Collection[int]) -> str:
    """The range of some numbers: `3` or `2 to 5`."""
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _times(ratio: float) -> str:
    """A ratio with two decimals, or with three digits if it is 10 or more."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"


def listed(words: list[str], noun: str, between: str = ", ") -> str:
    """The words, or their number and the first two where there are many; `between` stands between two words."""
    if len(words) > NAMED:
        return f"{len(words)} {noun} ({between.join(words[:2])} ...)"
    return " and ".join([between.join(words[:-1]), words[-1]] if len(words) > 1 else words)
