"""The description of a table for all writers: title, columns and rows."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from bench.manifest.labels import written
from bench.measure.durations import duration

TEXT, LATEX = "text", "latex"
"""Names of the writers; `text` writes to a terminal and as Markdown."""
BOTH = f"{TEXT} {LATEX}"
INTERVALS = r"Brackets: 95\,\% intervals."
"""Note of a LaTeX table; a text report has it in the header."""
RADII = "$r$"
"""Group of the columns of certified radii, which LaTeX splits over several tables where a page is too narrow."""
Form = Callable[[float], str]


class Words(NamedTuple):
    """Format of words: in text they align left or right, and may fold."""

    left: bool = False
    fold: bool = False


class Number(NamedTuple):
    """Format of numbers and, where it differs, of their intervals' ends; text has less room than LaTeX."""

    text: Form
    latex: Form
    text_ends: Form | None = None
    latex_ends: Form | None = None
    scale: float | None = None
    """Factor of the values where their intervals decide their digits; None where the format does."""

    def given(self, low: float, high: float) -> "Number":
        """The format of a number with this interval; NaN ends mean that it has none."""
        if self.scale is None or not 0 < high - low < math.inf:
            return self
        digits, scale = decimals(self.scale * low, self.scale * high), self.scale
        return Number(lambda value: f"{scale * value:,.{digits}f}", lambda value: f"{scale * value:.{digits}f}")


_MOST = 6
"""Most significant digits of a number whose interval decides them; more would show the rounding of arithmetic."""


def decimals(low: float, high: float) -> int:
    """Number of decimals that an estimate with this interval deserves.

    Half the interval's width keeps two significant digits if the first is 1 or 2, else one. No number has more than
    six significant digits, and whole numbers keep all of theirs.
    """
    first, magnitude = f"{(high - low) / 2:.6e}".split("e")
    largest = math.floor(math.log10(max(abs(low), abs(high))))
    return max(0, min((1 if float(first) < 3 else 0) - int(magnitude), _MOST - 1 - largest))


def _fixed(digits: int) -> Number:
    form = f"{{:.{digits}f}}".format
    return Number(form, form)


def _percent(digits: int) -> Form:
    return lambda share: f"{100 * share:.{digits}f}"


def _significant(digits: int) -> Form:
    """A form with `digits` significant digits, and every digit before the decimal point."""
    return lambda value: f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def _aligned(value: float) -> str:
    """Four significant digits, with trailing zeros, and every digit before the decimal point."""
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def _span(hours: float) -> str:
    """A span of time in words: `3 min 20 s`."""
    return duration(3600 * hours)


FORMATS: dict[str, Words | Number] = {
    "name": Words(left=True, fold=True),
    "word": Words(left=True),
    "label": Words(),
    "count": _fixed(0),
    "ratio": _fixed(2),
    "radius": _fixed(3),
    "general": Number("{:g}".format, "{:g}".format),
    "rounded": Number(_significant(3), _aligned),
    "significant": Number(_significant(4), _aligned),
    "span": Number(_span, _aligned),
    "signed span": Number(lambda hours: f"{'-' * (hours < 0)}{_span(abs(hours))}", _aligned),
    "hours": Number(lambda hours: f"{_significant(4)(hours)} h" if hours >= 0.01 else _span(hours), _aligned),
    "percent": Number(_percent(1), _percent(1), text_ends=_percent(0)),
    "narrow percent": Number(_percent(1), _percent(1), text_ends=_percent(0), latex_ends=_percent(0)),
    "published percent": Number(_percent(2), _percent(2)),
    "points": Number(lambda share: f"{100 * share:+.1f}", _percent(1)),
    "by interval": Number(_significant(4), _aligned, scale=1),
    "percent by interval": Number(_percent(1), _percent(1), scale=100),
    "probability": Number(lambda p: "<0.001" if p < 0.001 else f"{p:.3f}", _fixed(3).latex),
}


@dataclass(frozen=True)
class Column:
    """A column; `latex` and `group` are LaTeX markup."""

    key: str
    """Column of the rows; `key_low` and `key_high`, if present, are its 95 % interval."""
    heading: str
    """Heading, with the unit."""
    format: str = "label"
    """Key of FORMATS."""
    latex: str | None = None
    """Heading in LaTeX, where it differs."""
    group: str = ""
    """Common heading above neighbouring columns in LaTeX."""
    writers: str = BOTH
    optional: str = ""
    """Writers that leave the column out where no row has a value; other writers show it empty."""
    mixed: bool = False
    """True where rows have different units, so that a page draws no intervals: they share no axis."""
    brief: bool = False
    """True where text leaves out the interval."""
    warnings: str = ""
    """Column of the rows with a list of warnings per value: a star in text, lines below the value in LaTeX."""
    width: int = 26
    """Number of characters in a LaTeX line of words."""
    hide: int = 0
    """Place among the columns that a narrow terminal hides first, from 1; 0 for the others."""


@dataclass(frozen=True)
class TableSpec:
    """A table; `caption` and `notes`, the sentences after it, are LaTeX markup."""

    title: str
    caption: str
    columns: list[Column]
    rows: pd.DataFrame
    notes: Sequence[str] = ()
    writers: str = BOTH
    folder: str | None = None
    """Runs folder of the rows, where a report covers several."""
    frame: str = ""
    """Name of the frame that the rows were taken from; its CSV file has every column of them."""

    def shown(self, writer: str) -> list[Column]:
        """Columns that a writer shows."""
        columns = [column for column in self.columns if writer in column.writers]
        return [each for each in columns if writer not in each.optional or self.rows[each.key].notna().any()]


def ends(rows: pd.DataFrame, key: str) -> list[tuple[float, float]]:
    """The ends of each interval of a column; NaN where a value has none."""
    if f"{key}_low" not in rows:
        return [(math.nan, math.nan)] * len(rows)
    return list(zip(rows[f"{key}_low"], rows[f"{key}_high"], strict=True))


def alike(keys: str, form: str, writers: str = BOTH, optional: str = "", hide: int = 0) -> list[Column]:
    """Columns of one format, with their keys as headings."""
    return [Column(key, key, form, writers=writers, optional=optional, hide=hide) for key in keys.split()]


def varying(rows: pd.DataFrame, columns: Iterable[Column]) -> list[Column]:
    """Columns in which the rows differ."""
    return [column for column in columns if column.key in rows and rows[column.key].nunique() > 1]


def datasets(rows: pd.DataFrame, writers: str = TEXT) -> list[Column]:
    """Columns of dataset and loader, if the rows differ in them."""
    return varying(rows, alike("dataset loader", "word", writers=writers))


def network(rows: pd.DataFrame, text: str = "", width: int = 26, teacher: bool = True) -> list[Column]:
    """Columns that identify a network, for rows from `with_labels`.

    Threat, noise and ranks are shown where the rows differ in them; text shows only those named in `text`. Without
    `teacher`, text leaves out the teacher of a method.
    """
    method = Column("taught_method", "method", "name", width=width)
    methods = (
        [method] if teacher else [Column("method", "method", "name", writers=TEXT), replace(method, writers=LATEX)]
    )
    settings = [Column("trained_for", "trained for"), Column("sigma", "sigma", "general", r"$\sigma$")]
    settings = [
        each if each.key in text.split() else replace(each, writers=LATEX)
        for each in (*settings, *alike("ranks nodes", "general"))
    ]
    return [*datasets(rows, BOTH), ARCH, *methods, *varying(rows, settings)]


ARCH = Column("arch", "arch", "word", "architecture")


def with_labels(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with columns `taught_method` (a line for the method, one for its teacher), `trained_for` and `ball`."""
    teachers = rows["teacher"] if "teacher" in rows else [None] * len(rows)
    taught = [(m, f"from {t}") if isinstance(t, str) else (m,) for m, t in zip(rows["method"], teachers, strict=True)]
    radii = {label: key for label, key in (("trained_for", "trained_eps"), ("ball", "eps")) if key in rows}
    return rows.assign(taught_method=taught, **{label: _balls(rows, key) for label, key in radii.items()})


def _balls(rows: pd.DataFrame, eps: str) -> list[str | None]:
    """Norm and radius of each row in words: `linf 8/255`."""
    pairs = zip(rows["norm"], rows[eps], strict=True)
    return [None if pd.isna(radius) else f"{norm} {written(radius)}" for norm, radius in pairs]
