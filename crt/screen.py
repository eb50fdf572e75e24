"""Consoles and tables on a terminal: text is shown as it is, never read as markup."""

import sys
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from crt.text import printable

WIDTH = 160
"""Columns that a table may take before words fold: more than a narrow terminal has, and what a file has."""


class Screen(Console):
    """A console that takes no part of a text for markup, an emoji's name or an order to the terminal."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Text of what is printed, table cells and titles included, in characters that the encoding has."""
        # Before it is measured: a replacement may be longer than what it replaces.
        shown = printable(text, keep="\n\t").encode(self.encoding, "look-alike").decode(self.encoding)
        return super().render_str(shown, **options)


def output() -> Screen:
    """Standard output."""
    return Screen(width=None if sys.stdout.isatty() else WIDTH)


def errors() -> Screen:
    """Standard error, for progress bars: nothing is shown where it is no terminal."""
    return Screen(stderr=True, quiet=not sys.stderr.isatty())


def whole(console: Console, table: Table) -> None:
    """Print it wider than a narrow terminal rather than cut, which the terminal's own wrapping is not."""
    need = Measurement.get(console, console.options.update_width(1000), table)
    # Print's width is not enough: it is the terminal's where that is smaller.
    table.width = max(need.minimum, min(need.maximum, max(console.width, WIDTH)))
    console.print(table, crop=False)
