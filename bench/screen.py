"""Tables on a terminal."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDTH = 160
"""Columns of a terminal that a table may take before words fold."""


def whole(console: Console, table: Table) -> None:
    """Print it wider than a narrow terminal rather than cut, which the terminal's own wrapping is not."""
    need = Measurement.get(console, console.options.update_width(1000), table)
    # Print's width is not enough: it is the terminal's where that is smaller.
    table.width = max(need.minimum, min(need.maximum, max(console.width, WIDTH)))
    console.print(table, crop=False)
