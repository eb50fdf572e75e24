"""How a row's values are written in a table on a terminal and in Markdown."""

import math
from collections.abc import Callable

import pandas as pd

from bench.durations import duration
from bench.names import written

DASH = "–"
_HARDLY = 0.01
Form = Callable[[float], str]
Cell = Callable[[pd.Series], str]


def missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def significant(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def three(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def printed(value: float) -> str:
    """A published percentage, in its own digits."""
    return f"{100 * value:.2f}"


def _whole_percent(value: float) -> str:
    return f"{100 * value:.0f}"


def points(value: float) -> str:
    """A difference of shares."""
    return f"{100 * value:+.1f}"


def probability(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def span(value: float) -> str:
    """Hours as a span of time that people plan with: `3 min 20 s`."""
    return duration(3600 * value)


def hours(value: float) -> str:
    """Hours beside printed ones, in digits that can be compared; a span of time where they are hardly any."""
    return f"{significant(value)} h" if value >= _HARDLY else span(value)


def decimal(digits: int) -> Form:
    return lambda value: f"{value:.{digits}f}"


def text(column: str) -> Cell:
    return lambda row: DASH if missing(row[column]) else str(row[column])


def value(column: str, form: Form) -> Cell:
    return lambda row: DASH if missing(row[column]) else form(row[column])


def spread(column: str, form: Form) -> Cell:
    """An estimate with its interval: `mean [low, high]`."""
    ends = _whole_percent if form is percent else form

    def cell(row: pd.Series) -> str:
        mean, low, high = (row[column + end] for end in ("", "_low", "_high"))
        if missing(mean):
            return DASH
        return form(mean) + ("" if missing(low) else f" [{ends(low)}, {ends(high)}]")

    return cell


def method(row: pd.Series) -> str:
    """The method, and whom it learned from."""
    teacher = row.get("teacher")
    return row["method"] + ("" if missing(teacher) else f" from {teacher}")


def ball(row: pd.Series) -> str:
    """Norm and eps, as people write them."""
    return DASH if missing(row["eps"]) else f"{row['norm']} {written(row['eps'])}"
