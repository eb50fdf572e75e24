"""Tables that fit the width of a terminal."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from rich.box import HEAVY_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from crt.table_layout import Column, Layout, fit, total


@dataclass(frozen=True)
class FittedTable:
    """A table that shows as many columns as the console has room for, and names the others."""

    title: str
    columns: Sequence[Column]
    wide: bool = False
    """True to show all columns, however wide the console is."""
    hint: str = "a wider terminal shows them"
    """Way to see the hidden columns."""
    caption: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        shown = cache(partial(_as_shown, console))
        columns = [
            replace(column, heading=shown(column.heading), texts=list(map(shown, column.texts)))
            for column in self.columns
        ]
        layout = fit(columns, None if self.wide else options.max_width)
        paragraph = partial(_paragraph, console, options.max_width)
        yield from paragraph(shown(self.title), Style(italic=True))
        if shared := [f"{column.heading} {column.texts[0]}" for column in layout.shared if column.texts[0]]:
            yield from paragraph(f"All rows: {', '.join(shared)}")
        # A table that is wider than the console keeps its columns; the console breaks no line of it.
        whole = max(options.max_width, total(layout.widths))
        yield from console.render(_body(layout), options.update(width=whole))
        if layout.hidden:
            names = ", ".join(column.heading for column in layout.hidden)
            yield from paragraph(f"Hidden at {options.max_width} columns: {names} ({self.hint})")
        if self.caption:
            yield from paragraph(shown(self.caption))


def _as_shown(console: Console, text: str) -> str:
    """The text in the characters that the console has, which may be longer."""
    return text if text.isascii() and text.isprintable() else console.render_str(text).plain


def _paragraph(console: Console, width: int, text: str, style: Style | None = None) -> Iterator[Segment]:
    for line in wrapped(console, text, width):
        yield Segment(line, style)
        yield Segment("\n")


def wrapped(console: Console, text: str, width: int) -> list[str]:
    """Lines of a text that breaks between words; a word that is wider than a line breaks after a slash, or anywhere."""
    text = re.sub(r"\S+", lambda word: word[0] if cell_len(word[0]) <= width else _parted(word[0], width), text)
    return [line.plain.rstrip() for line in Text(text).wrap(console, width, overflow="fold")]


def _parted(path: str, width: int) -> str:
    """The path with a line end after a slash wherever the next name would not fit into the line."""
    lines = [""]
    for name in re.findall("[^/]*/|[^/]+", path):
        if cell_len(lines[-1] + name) > width:
            lines.append("")
        lines[-1] += name
    return "\n".join(filter(None, lines))


def _body(layout: Layout) -> Table:
    # A table that pads its cells renders each through a Padding, which takes a fifth of the time of a long table.
    table = Table(box=HEAVY_HEAD, padding=0)
    for column, width in zip(layout.columns, layout.widths, strict=True):
        justify: JustifyMethod = "left" if column.left else "right"
        table.add_column(_padded(column.heading, width), width=width + 1, overflow="fold", justify=justify)
    for k in range(len(layout.columns[0].texts)):
        cells = zip(layout.columns, layout.widths, strict=True)
        table.add_row(*(_padded(c.texts[k], width, c.styles[k] if c.styles else "") for c, width in cells))
    return table


def _padded(text: str, width: int, style: str = "") -> Text | Padding:
    """The text with a space before each of its lines."""
    if cell_len(text) > width or "\n" in text:
        return Padding(Text(text, style), (0, 0, 0, 1))
    padded = Text(text, style)
    padded.pad_left(1)
    return padded
