"""Tables of an HTML page: their cells, with intervals to be drawn."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from bench.results.columns import SOURCE
from reports.render.table_spec import FORMATS, TEXT, Column, Number, TableSpec, Words, ends
from reports.render.text import cells as text_cells

_DASH = "–"
_LOGARITHMIC = 20
"""Ratio of a column's largest estimate to its smallest from which its intervals are drawn on a logarithmic axis."""
_ROWS = 200
"""Number of rows that the table of a figure's data shows; its CSV file has all."""


class Whisker(NamedTuple):
    """Positions of an interval on its column's axis, from 0 to 1; `zero` is None where the axis does not cross it."""

    low: float
    middle: float
    high: float
    zero: float | None
    axis: str
    """The ends of the axis in words."""


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    value: str
    """Key for sorting: the number in full precision, or the text; empty where the value is missing."""
    interval: str = ""
    whisker: Whisker | None = None
    warnings: Sequence[str] = ()


class HtmlColumn(NamedTuple):
    """A column with its cells; `kind` is `name`, `word` or `number`."""

    heading: str
    kind: str
    cells: list[Cell]

    @property
    def drawn(self) -> bool:
        """True if intervals are drawn beside the numbers."""
        return any(cell.whisker for cell in self.cells)


@dataclass(frozen=True)
class Table:
    """A table of a page, with the names of the files that its buttons download (empty: no button)."""

    key: str
    """Name on the page, for links."""
    spec: TableSpec
    csv: str = ""
    latex: str = ""
    note: str = ""
    cards: bool = False
    """True to show each row as a card where the table is wider than the page."""

    @property
    def title(self) -> str:
        """The title, with the runs folder where a report covers several."""
        return self.spec.title if self.spec.folder is None else f"{self.spec.title}, {self.spec.folder}"

    @cached_property
    def columns(self) -> list[HtmlColumn]:
        """The columns of text."""
        return [_column(self.spec.rows, column) for column in self.spec.shown(TEXT)]

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        """The cells row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))

    @property
    def header(self) -> int:
        """Number of the column that names the rows; -1 where there is none."""
        kinds = [column.kind for column in self.columns]
        return next((kinds.index(kind) for kind in ("name", "word") if kind in kinds), -1)


def data_table(key: str, frame: pd.DataFrame, csv: str) -> Table:
    """The data of a figure: the columns that hold anything, and the first rows where there are many."""
    shown = frame.drop(columns=SOURCE, errors="ignore").dropna(axis=1, how="all").head(_ROWS)
    bounds = {f"{name}{end}" for name in shown for end in ("_low", "_high")}
    columns = [Column(name, name, _format(shown[name])) for name in shown if name not in bounds]
    note = f"The first {_ROWS} of {len(frame):,} rows; the CSV file has all." if len(frame) > _ROWS else ""
    return Table(key, TableSpec("Data of this plot", "", columns, shown), csv, note=note)


def _format(values: pd.Series) -> str:
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return "general" if number else "name"


def _column(rows: pd.DataFrame, column: Column) -> HtmlColumn:
    form = FORMATS[column.format]
    if isinstance(form, Words):
        texts = text_cells(rows, column)
        kind = "name" if form.fold else "word"
        return HtmlColumn(column.heading, kind, [Cell(text, "" if text == _DASH else text) for text in texts])
    values = rows[column.key]
    intervals = [(math.nan, math.nan)] * len(rows) if column.brief else ends(rows, column.key)
    known = [end for pair in intervals for end in pair if pd.notna(end)]
    axis = _Axis(values, known) if known and not column.mixed else None
    digits = [form.given(low, high) for low, high in ends(rows, column.key)]
    warnings = rows[column.warnings] if column.warnings else [()] * len(rows)
    cells = [_number(axis, *each) for each in zip(digits, values, intervals, warnings, strict=True)]
    return HtmlColumn(column.heading, "number", cells)


def _number(
    axis: "_Axis | None", form: Number, value: float, interval: tuple[float, float], warnings: Sequence[str]
) -> Cell:
    if pd.isna(value):
        return Cell(_DASH, "")
    low, high = interval
    end = form.text_ends or form.text
    words = "" if pd.isna(low) else f"[{end(low)}, {end(high)}]"
    return Cell(form.text(value), repr(float(value)), words, axis.place(low, value, high) if axis else None, warnings)


class _Axis:
    """The axis on which a column's intervals are drawn: from the smallest number to the largest.

    A logarithmic axis begins with the smallest positive number, and cuts intervals off there.
    """

    def __init__(self, estimates: Iterable[float], ends: Iterable[float]):
        middles = _finite(estimates)
        known = middles + _finite(ends) or [0.0]
        self.logarithmic = bool(middles) and 0 < min(middles) <= max(middles) / _LOGARITHMIC
        self.first = min(value for value in known if value > 0) if self.logarithmic else min(known)
        self.last = max(known)

    def place(self, low: float, middle: float, high: float) -> Whisker:
        """Positions on the axis; an end that is missing lies at the middle."""
        low, high = (middle if pd.isna(end) else end for end in (low, high))
        zero = self._at(0) if self.first < 0 < self.last else None
        words = f"axis from {self.first:.3g} to {self.last:.3g}{', logarithmic' if self.logarithmic else ''}"
        return Whisker(self._at(low), self._at(middle), self._at(high), zero, words)

    def _at(self, value: float) -> float:
        scale = math.log if self.logarithmic else float
        first, last, here = (scale(each) for each in (self.first, self.last, min(max(value, self.first), self.last)))
        return (here - first) / (last - first) if last > first else 0.5


def _finite(numbers: Iterable[float]) -> list[float]:
    return [float(number) for number in numbers if pd.notna(number) and math.isfinite(number)]
