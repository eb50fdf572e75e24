"""Shared parts of all figures: size, colours, markers, legends, and notes on what is left out."""

import textwrap
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from bench.results.warnings import several

WIDTH = 3.4
"""Width in inches."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""
_MARKERS = "osD^vPX<>"
_STYLE: Any = {
    "font.size": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "errorbar.capsize": 2,
    "pdf.fonttype": 42,  # publishers refuse Type 3
}


class Plot(Figure):
    """A figure as wide as a column and `height` inches high, with notes on what it leaves out."""

    def __init__(self, height: float, left_out: Iterable[str] = ()):
        super().__init__(figsize=(WIDTH, height), layout="constrained")
        self.left_out = list(left_out)
        """A line for each reason, with the cells that it leaves out."""


def write(draw: Callable[[pd.DataFrame], Plot], frame: pd.DataFrame, path: Path) -> list[str]:
    """Draw in this project's style, in the format of the suffix; return a line for each reason to leave cells out."""
    with matplotlib.rc_context(_STYLE):
        figure = draw(frame)
        figure.savefig(path, dpi=300)
    return figure.left_out


def left_out(rows: pd.DataFrame, reasons: Iterable[str]) -> list[str]:
    """A line for each reason, with the cells of its rows."""
    cells: dict[str, list[str]] = {}
    for row, reason in zip(rows.reindex(columns=["arch", "method", "teacher"]).itertuples(), reasons, strict=True):
        teacher = f" from {row.teacher}" if isinstance(row.teacher, str) else ""
        cells.setdefault(reason, []).append(f"{row.arch} {row.method}{teacher}")
    return [f"{several(names)}: {reason}" for reason, names in cells.items()]


def unpaid(rows: pd.DataFrame) -> list[str]:
    """Reason why each row has no hours, or no hours with its teachers."""
    return ["not timed" if pd.isna(row.hours) else row.teacher_hours_unknown for row in rows.itertuples()]


def styles() -> Iterator[dict]:
    """Yield a colour and a marker for each method in turn."""
    return ({"color": colour, "marker": marker} for colour, marker in zip(cycle(_COLOURS), cycle(_MARKERS)))


def errors(frame: pd.DataFrame, name: str) -> list[pd.Series]:
    """Distances from the estimate to the ends of its interval; 0 where the interval is missing."""
    return [(frame[name] - frame[f"{name}_low"]).fillna(0), (frame[f"{name}_high"] - frame[name]).fillna(0)]


def logarithmic(axes: Axes) -> None:
    """Make the horizontal axis logarithmic, with plain numbers at its ticks."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")


def legend(figure: Figure) -> None:
    """Draw one legend for all panels, above them."""
    handles = {
        name: handle for axes in figure.axes for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    columns = 1 if max(map(len, handles)) > 24 else 2
    names = [folded(name, 46) for name in handles]
    figure.legend(handles.values(), names, loc="outside upper center", ncols=columns)


def folded(name: str, width: int) -> str:
    """The name in lines of at most `width` characters, broken between words: chains of teachers are long."""
    lines = textwrap.fill(name, width, break_long_words=False, break_on_hyphens=False)
    return lines.replace("$", r"\$")  # not the start of mathematics
