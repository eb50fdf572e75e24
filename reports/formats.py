"""How values are written in tables: text is narrow and rounds more than LaTeX does."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.durations import duration

_HARDLY_ANY_HOURS = 0.01
Form = Callable[[float], str]


@dataclass(frozen=True)
class Words:
    """Format of a column of words; in text they stand to the left or the right, and may fold."""

    left: bool = False
    fold: bool = False


@dataclass(frozen=True)
class Number:
    """Format of a column of numbers and, where it is another, of the ends of their intervals."""

    text: Form
    latex: Form
    text_ends: Form | None = None
    latex_ends: Form | None = None


def fixed(digits: int) -> Number:
    return Number(_fixed(digits), _fixed(digits))


def _fixed(digits: int) -> Form:
    return f"{{:.{digits}f}}".format


def _percent(digits: int) -> Form:
    return lambda value: f"{100 * value:.{digits}f}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _probability(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _four_digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _four_digits_with_zeros(value: float) -> str:
    """As siunitx aligns them: 2.500, not 2.5."""
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def _span(hours: float) -> str:
    """A span of time that people plan with: `3 min 20 s`."""
    return duration(3600 * hours)


def _comparable_hours(hours: float) -> str:
    """Digits that can be compared with printed ones; a span of time where there are hardly any."""
    return f"{_four_digits(hours)} h" if hours >= _HARDLY_ANY_HOURS else _span(hours)


NAME, WORD, LABEL = Words(left=True, fold=True), Words(left=True), Words()
COUNT = fixed(0)
GENERAL = Number("{:g}".format, "{:g}".format)
ROUNDED = Number(_three_digits, _four_digits_with_zeros)
SIGNIFICANT = Number(_four_digits, _four_digits_with_zeros)
SPAN = Number(_span, _four_digits_with_zeros)
HOURS = Number(_comparable_hours, _four_digits_with_zeros)
PERCENT = Number(_percent(1), _percent(1), text_ends=_percent(0))
NARROW_PERCENT = replace(PERCENT, latex_ends=_percent(0))
PUBLISHED_PERCENT = Number(_percent(2), _percent(2))
POINTS = Number(_points, _percent(1))
PROBABILITY = Number(_probability, _fixed(3))
