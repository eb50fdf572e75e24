"""The description of a table, once for all writers: title, columns and rows."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from bench.manifest.labels import written
from bench.measure.durations import duration

TEXT, LATEX = "text", "latex"
"""Writers; `text` is a terminal and Markdown."""
BOTH = f"{TEXT} {LATEX}"
INTERVALS = r"In brackets, 95\,\% intervals."
"""Note of a LaTeX table; a text report says so above its tables."""
RADII = "$r$"
"""Group of the columns of certified radii, which LaTeX splits where a page cannot hold all."""
Form = Callable[[float], str]


class Words(NamedTuple):
    """Format of words: in text they stand to the left or the right, and may fold."""

    left: bool = False
    fold: bool = False


class Number(NamedTuple):
    """Format of numbers and, where it is another, of the ends of their intervals; text has less room than LaTeX."""

    text: Form
    latex: Form
    text_ends: Form | None = None
    latex_ends: Form | None = None


def _fixed(digits: int) -> Number:
    form = f"{{:.{digits}f}}".format
    return Number(form, form)


def _percent(digits: int) -> Form:
    return lambda share: f"{100 * share:.{digits}f}"


def _significant(digits: int) -> Form:
    """So many significant digits, and every digit before the point."""
    return lambda value: f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def _aligned(value: float) -> str:
    """Four significant digits, zeros included, and every digit before the point."""
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def _span(hours: float) -> str:
    """A span of time that people plan with: `3 min 20 s`."""
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
    "hours": Number(lambda hours: f"{_significant(4)(hours)} h" if hours >= 0.01 else _span(hours), _aligned),
    "percent": Number(_percent(1), _percent(1), text_ends=_percent(0)),
    "narrow percent": Number(_percent(1), _percent(1), text_ends=_percent(0), latex_ends=_percent(0)),
    "published percent": Number(_percent(2), _percent(2)),
    "points": Number(lambda share: f"{100 * share:+.1f}", _percent(1)),
    "probability": Number(lambda p: "<0.001" if p < 0.001 else f"{p:.3f}", _fixed(3).latex),
}


@dataclass(frozen=True)
class Column:
    """A column; `latex` and `group` are LaTeX markup."""

    key: str
    """Column of the rows; `key_low` and `key_high`, where there are such, are its 95 % interval."""
    heading: str
    """With the unit."""
    format: str = "label"
    """One of FORMATS."""
    latex: str | None = None
    """Heading in LaTeX, where it is another."""
    group: str = ""
    """Heading above those of neighbours in LaTeX."""
    writers: str = BOTH
    optional: str = ""
    """Writers that leave the column out where no row has a value; elsewhere it shows what is still to come."""
    brief: bool = False
    """Text leaves out the interval."""
    warnings: str = ""
    """Column of the rows with lists of words that warn of a value: a star in text, lines below the value in LaTeX."""
    width: int = 26
    """Characters of a LaTeX line of words."""


@dataclass(frozen=True)
class TableSpec:
    """A table; `caption` and `notes`, the sentences behind it, are LaTeX markup."""

    title: str
    caption: str
    columns: list[Column]
    rows: pd.DataFrame
    notes: Sequence[str] = ()
    writers: str = BOTH
    folder: str | None = None
    """Runs folder of the rows, where a report is about several."""

    def shown(self, writer: str) -> list[Column]:
        """The columns that a writer shows."""
        shown = [column for column in self.columns if writer in column.writers]
        return [each for each in shown if writer not in each.optional or self.rows[each.key].notna().any()]


def alike(keys: str, form: str, writers: str = BOTH, optional: str = "") -> list[Column]:
    """Columns of one format, whose headings are their keys."""
    return [Column(key, key, form, writers=writers, optional=optional) for key in keys.split()]


def varying(rows: pd.DataFrame, columns: Iterable[Column]) -> list[Column]:
    """Those columns in which the rows differ."""
    return [column for column in columns if column.key in rows and rows[column.key].nunique() > 1]


def datasets(rows: pd.DataFrame, writers: str = TEXT) -> list[Column]:
    """Columns of dataset and loader, where the rows differ in them."""
    return varying(rows, alike("dataset loader", "word", writers=writers))


def network(rows: pd.DataFrame, text: str = "", width: int = 26, teacher: bool = True) -> list[Column]:
    """Columns that tell networks apart, of rows `with_labels`.

    Threat, noise and ranks are shown where the rows differ in them, in text only those named in `text`; without
    `teacher`, text leaves out whom a method learned from.
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
    """The rows with `taught_method` (a line for the method, one for its teacher), `trained_for` and `ball`."""
    teachers = rows["teacher"] if "teacher" in rows else [None] * len(rows)
    taught = [(m, f"from {t}") if isinstance(t, str) else (m,) for m, t in zip(rows["method"], teachers, strict=True)]
    radii = {label: key for label, key in (("trained_for", "trained_eps"), ("ball", "eps")) if key in rows}
    return rows.assign(taught_method=taught, **{label: _balls(rows, key) for label, key in radii.items()})


def _balls(rows: pd.DataFrame, eps: str) -> list[str | None]:
    """Norm and radius of each row, as people write them."""
    pairs = zip(rows["norm"], rows[eps], strict=True)
    return [None if pd.isna(radius) else f"{norm} {written(radius)}" for norm, radius in pairs]
