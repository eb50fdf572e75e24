"""The same tables on a terminal and in Markdown."""

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.screen import whole
from reports.grids import Grid

_NAMES = "method,slower / faster,one,other,way,evaluation,weakest,strongest,verdict,switches".split(",")
"""Columns whose words may fold; a number that is cut or broken would be another number."""
_FOLDED = 16
"""Columns of a terminal that a name has at the least."""
_WORDS = ("dataset", "loader", "arch", "kind")
"""Columns of short words."""


def show(console: Console, title: str, lines: list[str], tables: list[Grid]) -> None:
    """On a terminal."""
    console.print(f"[bold]{title}[/bold]", highlight=False)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for caption, heads, rows in tables:
        table = Table(*heads, title=caption, title_justify="left", padding=(0, 0, 0, 1))
        for head, column, cells in zip(heads, table.columns, zip(heads, *rows, strict=True), strict=True):
            named, longest = head in _NAMES, max(map(cell_len, cells))
            column.overflow, column.no_wrap = "fold", not named
            column.justify = "left" if named or head in _WORDS else "right"
            column.min_width = min(longest, _FOLDED) if named else longest
        for row in rows:
            table.add_row(*map(Text, row))
        whole(console, table)


def markdown(title: str, lines: list[str], tables: list[Grid]) -> str:
    """The report as Markdown."""
    parts = [f"# {title}", "\n".join(f"- {line}" for line in lines)]
    for caption, heads, rows in tables:
        body = ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)]
        parts += [f"## {caption}", "\n".join(body)]
    return "\n\n".join(part for part in parts if part) + "\n"
