"""The same tables on a terminal and in Markdown."""

import re

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from crt.screen import whole
from crt.text import printable
from reports.grids import Grid

_NAMES = "method,slower / faster,one,other,way,evaluation,weakest,strongest,verdict,switches".split(",")
"""Columns whose words may fold; a number that is cut or broken would be another number."""
_FOLDED = 16
"""Columns of a terminal that a name has at the least."""
_WORDS = ("dataset", "loader", "arch", "kind")
"""Columns of short words."""


def show(console: Console, title: str, lines: list[str], tables: list[Grid]) -> None:
    """On a terminal."""
    console.print(title, style="bold")
    for line in lines:
        console.print(printable(line), soft_wrap=True)
    for caption, heads, rows in map(_one_line, tables):
        table = Table(*heads, title=caption, title_justify="left", padding=(0, 0, 0, 1))
        for head, column, cells in zip(heads, table.columns, zip(heads, *rows, strict=True), strict=True):
            named, longest = head in _NAMES, max(map(cell_len, cells))
            column.overflow, column.no_wrap = "fold", not named
            column.justify = "left" if named or head in _WORDS else "right"
            column.min_width = min(longest, _FOLDED) if named else longest
        for row in rows:
            table.add_row(*row)
        whole(console, table)


def markdown(title: str, lines: list[str], tables: list[Grid]) -> str:
    """The report as Markdown."""
    parts = [f"# {_literal(title)}", "\n".join(f"- {_literal(line)}" for line in lines)]
    for caption, heads, rows in tables:
        words = [[_literal(word) for word in row] for row in (heads, *rows)]
        body = ["| " + " | ".join(row) + " |" for row in (words[0], ["---"] * len(heads), *words[1:])]
        parts += [f"## {_literal(caption)}", "\n".join(body)]
    return "\n\n".join(part for part in parts if part) + "\n"


_MARKDOWN = re.compile(
    r"""\\(?=[!-/:-@[-`{-~])  # before what it would escape
    | [|`$~]
    | (?<!\S)\*(?![\s:]|$) | (?<=\S)\*  # emphasis: a star that stands alone is none
    | (?<![^\W_])_ | _(?![^\W_])
    | <(?=[A-Za-z/!?])
    | &(?=\#?\w+;)
    | (?<=\])(?=[(\[])  # links
    | (?<=\s)\#(?=\#*$)  # behind a heading""",
    re.VERBOSE,
)
"""Characters that Markdown, as GitHub reads it, would take for markup."""
_BLOCK = re.compile(r"^(?:(?=[>\[])|(?=[#*+-]+(?:\s|$))|\d{1,9}(?=[.)](?:\s|$)))")
"""Beginnings of a list, a quotation, a heading or a reference."""


def _literal(text: str) -> str:
    """A line that Markdown shows as this text."""
    inside = _MARKDOWN.sub(lambda found: f"\\{found[0]}", printable(text))
    return _BLOCK.sub(lambda found: f"{found[0]}\\", inside)


def _one_line(table: Grid) -> Grid:
    caption, heads, rows = table
    return printable(caption), heads, [[printable(word) for word in row] for row in rows]
