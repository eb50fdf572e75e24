"""The description of a table, once for all writers: title, columns and rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from bench.names import written
from reports.formats import GENERAL, LABEL, NAME, WORD, Number, Words

TEXT, LATEX = "text", "latex"
"""Writers; `text` is a terminal and Markdown."""
BOTH = (TEXT, LATEX)
INTERVALS = r"In brackets, 95\,\% intervals."
"""Note of a LaTeX table; a text report has it above its tables."""
RADII = "$r$"
"""Group of the columns of certified radii, which LaTeX splits where a page cannot hold all."""


@dataclass(frozen=True)
class Column:
    """A column; `latex` and `group` are LaTeX markup."""

    key: str
    """Column of the rows; `key_low` and `key_high`, where there are such, are its 95 % interval."""
    heading: str
    """With the unit."""
    format: Words | Number = LABEL
    latex: str | None = None
    """Heading in LaTeX, where it is another."""
    group: str = ""
    """Heading above those of neighbours in LaTeX."""
    writers: Sequence[str] = BOTH
    optional: Sequence[str] = ()
    """Writers that leave the column out where no row has a value; elsewhere it shows what is still to come."""
    brief: bool = False
    """Text leaves out the interval."""
    warnings: str = ""
    """Column of the rows with lists of words that warn of a value: a star in text, lines below the value in LaTeX."""
    width: int = 26
    """Characters of a LaTeX line of words."""


@dataclass(frozen=True)
class TableSpec:
    """A table; `caption` and `notes` are LaTeX markup."""

    title: str
    caption: str
    columns: list[Column]
    rows: pd.DataFrame
    notes: Sequence[str] = ()
    """Sentences behind the caption."""
    writers: Sequence[str] = BOTH
    folder: str | None = None
    """Runs folder of the rows, where a report is about several."""

    def shown(self, writer: str) -> list[Column]:
        """The columns that a writer shows."""
        return [
            column
            for column in self.columns
            if writer in column.writers and not (writer in column.optional and self.rows[column.key].isna().all())
        ]


def varying(rows: pd.DataFrame, columns: Iterable[Column]) -> list[Column]:
    """Those columns in which the rows differ."""
    return [column for column in columns if column.key in rows and rows[column.key].nunique() > 1]


def datasets(rows: pd.DataFrame, writers: Sequence[str] = (TEXT,)) -> list[Column]:
    """Columns of dataset and loader, where the rows differ in them."""
    return varying(rows, (Column(key, key, WORD, writers=writers) for key in ("dataset", "loader")))


def network(rows: pd.DataFrame, text: Sequence[str] = (), width: int = 26, teacher: bool = True) -> list[Column]:
    """Columns that tell networks apart, of rows `with_labels`.

    Threat, noise and ranks are shown where the rows differ in them, in text only those named in `text`; without
    `teacher`, text leaves out whom a method learned from.
    """
    method = Column("taught_method", "method", NAME, width=width)
    settings = (
        Column("trained_for", "trained for"),
        Column("sigma", "sigma", GENERAL, r"$\sigma$"),
        Column("ranks", "ranks", GENERAL),
        Column("nodes", "nodes", GENERAL),
    )
    return [
        *datasets(rows, BOTH),
        Column("arch", "arch", WORD, "architecture"),
        *(
            [method]
            if teacher
            else [Column("method", "method", NAME, writers=[TEXT]), replace(method, writers=[LATEX])]
        ),
        *varying(rows, (each if each.key in text else replace(each, writers=[LATEX]) for each in settings)),
    ]


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
