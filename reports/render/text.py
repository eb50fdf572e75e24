"""Tables on a terminal and in Markdown."""

import re
from collections.abc import Iterable

import pandas as pd
from rich.console import Console

from crt import table_layout
from crt.fitted_table import FittedTable, wrapped
from crt.text import printable
from reports.render.table_spec import FORMATS, TEXT, Column, Number, TableSpec, Words, ends

_DASH = "–"
_INDENT = "  "
"""Space before the later lines of a paragraph."""


def show(
    console: Console,
    title: str,
    findings: list[str],
    lines: list[str],
    tables: Iterable[TableSpec],
    wide: bool = False,
) -> None:
    """Print a report: the verdict, what a reader needs to know before the numbers, and the tables.

    `wide` shows columns for which the console has no room, too. A terminal wraps lines between words. A line in a file
    or a pipe stays one line, which other programs can search.
    """
    console.print(title, style="bold")
    for finding in findings:
        _paragraph(console, f"- {finding}")
    if findings:
        console.print()
    for line in lines:
        _paragraph(console, line)
    for spec in tables:
        console.print("", _table(spec, wide), crop=False, sep="\n")


def _paragraph(console: Console, line: str) -> None:
    text = printable(line)
    parts = wrapped(console, text, console.width - len(_INDENT)) if console.is_terminal else [text]
    console.print(f"\n{_INDENT}".join(parts), soft_wrap=True)


def markdown(title: str, findings: list[str], lines: list[str], tables: Iterable[TableSpec]) -> str:
    """The report as Markdown."""
    parts = [f"# {_literal(title)}", *map(_literal, findings), "\n".join(f"- {_literal(line)}" for line in lines)]
    for spec in tables:
        columns = spec.shown(TEXT)
        rows = zip(*(cells(spec.rows, column) for column in columns), strict=True)
        words = [list(map(_literal, row)) for row in ([column.heading for column in columns], *rows)]
        words.insert(1, ["---"] * len(columns))
        body = ["| " + " | ".join(row) + " |" for row in words]
        parts += [f"## {_literal(_title(spec))}", "\n".join(body)]
    return "\n\n".join(part for part in parts if part) + "\n"


def cells(rows: pd.DataFrame, column: Column) -> list[str]:
    """Cells of a column."""
    form = FORMATS[column.format]
    if isinstance(form, Words):
        return [_words(value) for value in rows[column.key]]
    texts = [
        _number(value, low, high, form, column.brief)
        for value, (low, high) in zip(rows[column.key], ends(rows, column.key), strict=True)
    ]
    if column.warnings:
        texts = [text + " *" * bool(why) for text, why in zip(texts, rows[column.warnings], strict=True)]
    return texts


def _number(value: float, low: float, high: float, form: Number, brief: bool) -> str:
    if pd.isna(value):
        return _DASH
    form = form.given(low, high)
    end = form.text_ends or form.text
    return form.text(value) if brief or pd.isna(low) else f"{form.text(value)} [{end(low)}, {end(high)}]"


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(value)
    return _DASH if pd.isna(value) else str(value)


def _title(spec: TableSpec) -> str:
    return spec.title if spec.folder is None else f"{spec.title}, {spec.folder}"


def _table(spec: TableSpec, wide: bool) -> FittedTable:
    """The table for a terminal; only words fold, because a broken number would read as another number."""
    columns = []
    for column in spec.shown(TEXT):
        form = FORMATS[column.format]
        left, fold = form if isinstance(form, Words) else (False, False)
        texts = [printable(text) for text in cells(spec.rows, column)]
        # An estimate with an interval stays in the table, since it is a result even where all rows have the same.
        fixed = f"{column.key}_low" in spec.rows and spec.rows[column.key].notna().any()
        columns.append(table_layout.Column(printable(column.heading), texts, left, fold, column.hide, fixed))
    return FittedTable(printable(_title(spec)), columns, wide, "--wide shows them")


_MARKDOWN = re.compile(
    r"""\\(?=[!-/:-@[-`{-~])  # before a character that it would escape
    | [|`$~]
    | (?<!\S)\*(?![\s:]|$) | (?<=\S)\*  # emphasis, which a star between spaces is not
    | (?<![^\W_])_ | _(?![^\W_])
    | <(?=[A-Za-z/!?])
    | &(?=\#?\w+;)
    | (?<=\])(?=[(\[])  # links
    | (?<=\s)\#(?=\#*$)  # at the end of a heading""",
    re.VERBOSE,
)
"""Characters that GitHub's Markdown reads as markup."""
_BLOCK = re.compile(r"^(?:(?=[>\[])|(?=[#*+-]+(?:\s|$))|\d{1,9}(?=[.)](?:\s|$)))")
"""Characters that begin a list, a quotation, a heading or a reference."""


def _literal(text: str) -> str:
    """Markdown that shows the text."""
    inside = _MARKDOWN.sub(lambda match: f"\\{match[0]}", printable(text))
    return _BLOCK.sub(lambda match: f"{match[0]}\\", inside)
