"""Tables that fit the width of a terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from rich.box import HEAVY_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from crt.table_layout import Column, Layout, fit


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
        yield from _body(console, options, layout)
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
    """Lines of a text that breaks between words, and within a word that is wider than a line."""
    return [line.plain.rstrip() for line in Text(text).wrap(console, width, overflow="fold")]


def _body(console: Console, options: ConsoleOptions, layout: Layout) -> Iterator[Segment]:
    """Yield the lines of the table. Rich's own table takes ten times as long, since it measures each cell."""
    box, inner = HEAVY_HEAD.substitute(options), [width + 1 for width in layout.widths]
    yield Segment(f"{box.get_top(inner)}\n")
    bold = ["bold"] * len(layout.columns)
    headings = [_lines(console, c.heading, w, True) for c, w in zip(layout.columns, layout.widths, strict=True)]
    yield from _row(headings, layout, (box.head_left, box.head_vertical, box.head_right), bold)
    yield Segment(f"{box.get_row(inner, 'head')}\n")
    edges = box.mid_left, box.mid_vertical, box.mid_right
    for k in range(len(layout.columns[0].texts)):
        styles = [column.styles[k] if column.styles else "" for column in layout.columns]
        cells = [_lines(console, c.texts[k], w, c.fold) for c, w in zip(layout.columns, layout.widths, strict=True)]
        yield from _row(cells, layout, edges, styles)
    yield Segment(f"{box.get_bottom(inner)}\n")


def _lines(console: Console, text: str, width: int, fold: bool) -> list[str]:
    lines = text.split("\n")
    if not fold or max(map(cell_len, lines)) <= width:
        return lines
    return wrapped(console, text, width)


def _row(cells: list[list[str]], layout: Layout, edges: tuple[str, str, str], styles: list[str]) -> Iterator[Segment]:
    """Yield the lines of one row."""
    first, middle, last = edges
    for k in range(max(map(len, cells))):
        for number, (cell, column, width, style) in enumerate(
            zip(cells, layout.columns, layout.widths, styles, strict=True)
        ):
            text = cell[k] if k < len(cell) else ""
            space = " " * (width - cell_len(text))
            padded = f" {text}{space}" if column.left else f" {space}{text}"
            yield Segment(middle if number else first)
            yield Segment(padded, Style.parse(style) if style and text else None)
        yield Segment(f"{last}\n")
