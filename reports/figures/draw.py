"""Shared parts of all figures: size, colours, markers, panels, legends, and notes on what is left out."""

import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import LogLocator, NullLocator

from bench.results.warnings import several

WIDTHS = (3.3, 6.8)
"""Widths in inches of one column and of two columns of a paper."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#AA3377")
"""Okabe and Ito's palette, and Tol's purple: colour-blind readers can tell them apart."""
_MARKERS = "osD^vPX*<>hp"
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (8, 2)), (0, (2, 1)), (0, (6, 1, 1, 1, 1, 1)))
_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 8,
    "figure.titleweight": "bold",
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.labelspacing": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "errorbar.capsize": 1.5,
    "pdf.fonttype": 42,  # publishers refuse Type 3
    "svg.fonttype": "none",  # text stays text: searchable, read aloud, in the page's colour
}


class Plot(Figure):
    """A figure with the numbers that it draws, and notes on what it leaves out."""

    def __init__(self, title: str, caption: str, data: pd.DataFrame, left_out: Iterable[str] = ()):
        super().__init__(layout="constrained", facecolor="none")
        self.title = title
        self.caption = caption
        """Sentences on the marks and their intervals."""
        self.data = data
        self.left_out = list(left_out)
        """A line for each reason, with the cells that it leaves out."""

    def panels(self, number: int, height: float, columns: int = 3, **shared: Any) -> list[Axes]:
        """Axes of panels, `height` inches high each, one or two columns of a paper wide."""
        columns = min(number, columns)
        rows = -(-number // columns)
        wide = WIDTHS[columns > 1]
        title = folded(self.title, 24 * columns if columns > 1 else 48)
        self.set_size_inches(wide, rows * height + 0.16 * (title.count("\n") + 1))
        grid = self.subplots(rows, columns, squeeze=False, **shared).ravel()
        for spare in grid[number:]:
            spare.set_axis_off()
        for axes in grid:
            axes.set_facecolor("none")
        self.suptitle(title)
        return list(grid[:number])


def style() -> AbstractContextManager:
    """Context in which figures are drawn and written."""
    return matplotlib.rc_context(_STYLE)


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A colour, a marker and a dash for each name, so that they differ in grey, too."""
    styles = zip(cycle(_COLOURS), cycle(_MARKERS), cycle(_DASHES))
    return {
        name: {"color": colour, "marker": marker, "ls": dash}
        for name, (colour, marker, dash) in zip(dict.fromkeys(names), styles, strict=False)
    }


def left_out(rows: pd.DataFrame, reasons: Iterable[str]) -> list[str]:
    """A line for each reason, with the cells of its rows."""
    cells: dict[str, list[str]] = {}
    for row, reason in zip(rows.reindex(columns=["arch", "method", "teacher"]).itertuples(), reasons, strict=True):
        teacher = f" from {row.teacher}" if isinstance(row.teacher, str) else ""
        cells.setdefault(reason, []).append(f"{row.arch} {row.method}{teacher}")
    return [f"{several(names)}: {reason}" for reason, names in cells.items()]


def paid(rows: pd.DataFrame) -> pd.Series:
    """Hours of each whole training with those of everything that it needs besides; NaN where any is unknown."""
    needs = rows.reindex(columns=["teacher", "hours_with_teacher", "teacher_hours_unknown"]).notna().any(axis=1)
    return rows["hours_with_teacher"].where(needs, rows["hours"])


def unpaid(rows: pd.DataFrame) -> list[str]:
    """Reason why each row has no hours, or no hours with what it needs."""
    return ["not timed" if pd.isna(row.hours) else row.teacher_hours_unknown for row in rows.itertuples()]


def errors(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Distances (2, rows) from the estimate to the ends of its interval; 0 where the interval is missing."""
    low, middle, high = (frame[key].to_numpy(float) for key in (f"{name}_low", name, f"{name}_high"))
    return np.nan_to_num(np.clip([middle - low, high - middle], 0, None), posinf=0)


def logarithmic(axes: Axes, axis: str, values: Iterable[float]) -> None:
    """Make an axis logarithmic, with plain numbers at its ticks, where the values span a factor of 5 or more."""
    known = np.array([value for value in values if value == value])
    if not known.size or known.min() <= 0 or known.max() < 5 * known.min():
        return
    (axes.set_xscale if axis == "x" else axes.set_yscale)("log")
    decades = np.log10(known.max() / known.min())
    ticks = axes.xaxis if axis == "x" else axes.yaxis
    ticks.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,)))
    ticks.set_major_formatter("{x:g}")
    ticks.set_minor_locator(NullLocator())


def varies(*columns: Sequence[float]) -> bool:
    """True if some column has two values that differ by more than rounding."""
    known = [np.array(column, float)[~np.isnan(np.array(column, float))] for column in columns]
    return any(values.size > 1 and np.ptp(values) > 1e-9 * np.abs(values).max() for values in known)


def legend(figure: Plot) -> None:
    """Draw one legend for all panels: within the only panel if it hides nothing there, in a free place, or below."""
    handles = {
        name: handle for axes in figure.axes for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if not handles:
        return
    names = [folded(name, 34) for name in handles]
    spare = [axes for axes in figure.axes if not axes.axison]
    if spare and len(handles) <= 12:
        spare[0].legend(handles.values(), names, loc="center left")
        return
    if len(figure.axes) == 1 and len(handles) <= 6:
        inside = figure.axes[0].legend(handles.values(), names, loc="best")
        if not _hides(inside, figure):
            return
        inside.remove()
    longest = max(len(line) for name in names for line in name.split("\n"))
    columns = max(1, int(figure.get_figwidth() * 18 / (longest + 8)))
    height = sum(name.count("\n") + 1 for name in names) / min(columns, len(names))
    figure.set_figheight(figure.get_figheight() + 0.14 * height + 0.1)
    figure.legend(handles.values(), names, loc="outside lower center", ncols=columns)


def _hides(box: Legend, figure: Figure) -> bool:
    """True if the legend of the only axes lies on something that is drawn, or reaches out of them."""
    figure.draw_without_rendering()
    (axes,) = figure.axes
    place, frame = box.get_window_extent(), axes.get_window_extent()
    if place.x0 < frame.x0 or place.x1 > frame.x1 or place.y0 < frame.y0 or place.y1 > frame.y1:
        return True
    paths = [line.get_path().transformed(line.get_transform()) for line in axes.lines]
    areas = [patch.get_path().transformed(patch.get_transform()) for patch in axes.patches]
    areas += [path.transformed(each.get_transform()) for each in axes.collections for path in each.get_paths()]
    crossed = any(path.intersects_bbox(place, filled=False) for path in paths if len(path) > 1)
    covered = any(path.intersects_bbox(place, filled=True) for path in areas if len(path) > 1)
    return crossed or covered or any(text.get_window_extent().overlaps(place) for text in axes.texts)


def places(names: Sequence[str]) -> np.ndarray:
    """Places of bars by their names, so that names of several lines have room; a bar of one line takes 1."""
    rooms = np.array([max(1.0, 0.85 * (name.count("\n") + 1)) for name in names])
    return np.cumsum(rooms) - rooms / 2


def bar_axis(axes: Axes, names: Sequence[str]) -> None:
    """Name horizontal bars, the first above, without room beyond the first and the last."""
    at = places(names)
    axes.set_yticks(at, names)
    axes.tick_params("y", length=0)
    axes.set_ylim(at[-1] + 0.6, at[0] - 0.6)


def folded(name: str, width: int) -> str:
    """The name in lines of at most `width` characters, broken between words: chains of teachers are long."""
    lines = textwrap.fill(name, width, break_long_words=False, break_on_hyphens=False)
    return lines.replace("$", r"\$")  # not the start of mathematics
