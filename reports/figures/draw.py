"""Shared by all figures: a paper column's width, colours, markers, legends, and a word on what is not drawn."""

import textwrap
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from bench.results.warnings import several

WIDTH = 3.4
"""Inches."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which the colour-blind tell apart."""
_MARKERS = "osD^vPX<>"
_STYLE = {
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
    """A figure of a column's width, `height` inches high, that knows what it leaves out."""

    def __init__(self, height: float, left_out: Iterable[str] = ()):
        super().__init__(figsize=(WIDTH, height), layout="constrained")
        self.left_out = list(left_out)
        """A line for each reason: the reason, and what is left out for it."""


def write(draw: Callable[[pd.DataFrame], Plot], frame: pd.DataFrame, path: Path) -> list[str]:
    """Draw in this project's style, in the suffix's format; what the figure leaves out, and why."""
    with matplotlib.rc_context(_STYLE):
        figure = draw(frame)
        figure.savefig(path, dpi=300)
    return figure.left_out


def left_out(rows: pd.DataFrame, whys: Iterable[str]) -> list[str]:
    """A line for each of the rows' reasons, with the cells."""
    found: dict[str, list[str]] = {}
    for row, why in zip(rows.reindex(columns=["arch", "method", "teacher"]).itertuples(), whys, strict=True):
        teacher = f" from {row.teacher}" if isinstance(row.teacher, str) else ""
        found.setdefault(why, []).append(f"{row.arch} {row.method}{teacher}")
    return [f"{several(cells)}: {why}" for why, cells in found.items()]


def unpaid(rows: pd.DataFrame) -> list[str]:
    """Reasons why rows lack hours, those of their teachers included."""
    return ["not timed" if pd.isna(row.hours) else row.teacher_hours_unknown for row in rows.itertuples()]


def styles() -> Iterator[dict]:
    """Colour and marker of one method after the other."""
    return ({"color": colour, "marker": marker} for colour, marker in zip(cycle(_COLOURS), cycle(_MARKERS)))


def errors(frame: pd.DataFrame, name: str) -> list[pd.Series]:
    """Distances to the ends of the interval; none where it is missing."""
    return [(frame[name] - frame[f"{name}_low"]).fillna(0), (frame[f"{name}_high"] - frame[name]).fillna(0)]


def logarithmic(axes: Axes) -> None:
    """Make the horizontal axis so, with its ticks as people write them."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")


def legend(figure: Figure) -> None:
    """One for all panels, above them."""
    handles = {
        name: handle for axes in figure.axes for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    columns = 1 if max(map(len, handles)) > 24 else 2
    names = [folded(name, 46) for name in handles]
    figure.legend(handles.values(), names, loc="outside upper center", ncols=columns)


def folded(name: str, width: int) -> str:
    """A name in lines of so many characters, where words allow it: a chain of teachers is longer than one."""
    lines = textwrap.fill(name, width, break_long_words=False, break_on_hyphens=False)
    return lines.replace("$", r"\$")  # which is no mathematics
