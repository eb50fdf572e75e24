"""Tables on a terminal and in Markdown."""

import re
from collections.abc import Iterable

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from crt.screen import whole
from crt.text import printable
from reports.render.table_spec import FORMATS, TEXT, Column, Number, TableSpec, Words, ends

_DASH = "–"
_FOLDED = 16
"""Minimal width of a folded column, in columns of the terminal."""


def show(console: Console, title: str, findings: list[str], lines: list[str], tables: Iterable[TableSpec]) -> None:
    """Print a report: the verdict, what a reader needs to know before the numbers, and the tables."""
    console.print(title, style="bold")
    for finding in findings:
        console.print(printable(f"- {finding}"), soft_wrap=True)
    if findings:
        console.print()
    for line in lines:
        console.print(printable(line), soft_wrap=True)
    for spec in tables:
        whole(console, _table(spec))


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


def _table(spec: TableSpec) -> Table:
    """The table for a terminal; only words fold, because a broken number would read as another number."""
    table, columns = Table(title=printable(_title(spec)), title_justify="left", padding=(0, 0, 0, 1)), []
    for column in spec.shown(TEXT):
        heading, texts = printable(column.heading), [printable(text) for text in cells(spec.rows, column)]
        form = FORMATS[column.format]
        left, fold = form if isinstance(form, Words) else (False, False)
        longest = max(map(cell_len, [heading, *texts]))
        table.add_column(
            heading,
            overflow="fold",
            no_wrap=not fold,
            justify="left" if left else "right",
            min_width=min(longest, _FOLDED) if fold else longest,
        )
        columns.append(texts)
    for row in zip(*columns, strict=True):
        table.add_row(*row)
    return table


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
