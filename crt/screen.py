"""Consoles and tables on a terminal, which show text unchanged, never as markup."""

import sys
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from crt.text import printable

WIDTH = 160
"""Width of tables in characters before words fold: more than a narrow terminal's, and the width in a file."""


class Screen(Console):
    """A console that interprets no part of a text as markup, an emoji's name or a control sequence."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Printed text, including table cells and titles, in characters that the encoding has."""
        # This precedes measuring, since a replacement may be longer than the character.
        shown = printable(text, keep="\n\t").encode(self.encoding, "look-alike").decode(self.encoding)
        return super().render_str(shown, **options)


def output() -> Screen:
    """Console of standard output."""
    return Screen(width=None if sys.stdout.isatty() else WIDTH)


def errors() -> Screen:
    """Console of standard error, for progress bars; it shows nothing where it is no terminal."""
    return Screen(stderr=True, quiet=not sys.stderr.isatty())


def whole(console: Console, table: Table) -> None:
    """Print a table in full width, even on a narrower terminal, which wraps it."""
    need = Measurement.get(console, console.options.update_width(1000), table)
    # The width of `print` is not enough, because the terminal's smaller width overrides it.
    table.width = max(need.minimum, min(need.maximum, max(console.width, WIDTH)))
    console.print(table, crop=False)
