"""Figures of a paper column's width: slowdown, cumulative hours, scaling; PDF or PNG by the file's suffix."""

import math
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

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


def slowdown(timing: pd.DataFrame, path: Path) -> None:
    """Slowdown over the baseline with its interval, beside the ideal, of each architecture's methods.

    ValueError where nothing was measured.
    """
    write(_slowdown, timing, path)


def cumulative(timing: pd.DataFrame, path: Path) -> None:
    """Hours spent when each architecture, in the table's order, is released: trained directly, and from a teacher.

    The teacher's hours are paid once. Only architectures count that every method drawn has hours of. ValueError
    where there are none, or no method of either kind, or two cells of one method and architecture.
    """
    write(_cumulative, timing, path)


def scaling(frame: pd.DataFrame, path: Path) -> None:
    """Speedup over one rank with its interval, and the ideal, a panel each for strong and weak scaling.

    Columns: those of `reports.scaling`. ValueError where nothing was measured.
    """
    write(_scaling, frame, path)


def break_even(teacher_hours: float, student_hours: float, direct_hours: float) -> float:
    """Least number n of students with teacher + n student < n direct; infinite if there is none."""
    if student_hours >= direct_hours:
        return math.inf
    return math.floor(teacher_hours / (direct_hours - student_hours)) + 1.0


def write(draw: Callable[[pd.DataFrame], Figure], frame: pd.DataFrame, path: Path) -> None:
    """Draw in this project's style; the format is the suffix's."""
    with matplotlib.rc_context(_STYLE):
        draw(frame).savefig(path, dpi=300)


def styles() -> Iterator[dict]:
    """Colour and marker of one method after the other."""
    return ({"color": colour, "marker": marker} for colour, marker in zip(cycle(_COLOURS), cycle(_MARKERS)))


def _labels(frame: pd.DataFrame) -> list[str]:
    """Each row's method, and what else tells it from others of this name: ranks, runs folder, an unlike baseline."""
    named = frame.reindex(columns=["method", "ranks", "folder", "unlike"]).itertuples(index=False)
    return [
        row.method
        + (f", {row.ranks:g} ranks" if row.ranks > 1 else "")
        + (f", {row.folder}" if isinstance(row.folder, str) else "")
        + (f" (unlike {row.unlike})" if isinstance(row.unlike, str) else "")
        for row in named
    ]


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
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=columns)


def _slowdown(timing: pd.DataFrame) -> Figure:
    frame = timing[(timing["method"] != timing["baseline"]) & timing["slowdown"].notna()]
    if frame.empty:
        raise ValueError("no slowdown to draw: no method but the baseline was measured beside it")
    frame = frame.assign(method=_labels(frame))
    archs = [arch for arch in timing["arch"].unique() if arch in set(frame["arch"])]
    # A row a measurement, those of an architecture together, half a row between architectures.
    frame = frame.sort_values("arch", key=lambda names: names.map(archs.index), kind="stable")
    frame = frame.assign(place=[row + archs.index(arch) / 2 for row, arch in enumerate(frame["arch"])])
    figure = Figure(figsize=(WIDTH, 1.2 + 0.14 * (frame["method"].nunique() + len(frame))), layout="constrained")
    axes = figure.subplots()
    for (method, rows), style in zip(frame.groupby("method", sort=False), styles(), strict=False):
        axes.errorbar(rows["slowdown"], rows["place"], xerr=errors(rows, "slowdown"), ls="", label=method, **style)
    ideal = frame.dropna(subset="ideal")
    axes.plot(ideal["ideal"], ideal["place"], "|", color="black", markersize=9, label="ideal (FLOPs)")
    drawn = pd.concat([frame["slowdown"], ideal["ideal"]])
    if drawn.max() > 5 * drawn.min():
        logarithmic(axes)
    axes.axvline(1, color="grey", lw=0.6, ls=":")
    axes.set_yticks(frame.groupby("arch", sort=False)["place"].mean(), archs)
    axes.tick_params("y", length=0)
    axes.set_ylim(frame["place"].max() + 0.6, -0.6)
    axes.set_xlabel(f"slowdown over {frame['baseline'].iloc[0]} (times)")
    legend(figure)
    return figure


def _cumulative(timing: pd.DataFrame) -> Figure:
    frame = timing[(timing["method"] != timing["baseline"]) & timing["hours"].notna()]
    frame = frame.assign(method=_labels(frame.drop(columns="unlike")))
    twice = frame[frame.duplicated(["method", "arch"])]
    if not twice.empty:
        raise ValueError(f"hours cannot be summed: {twice['method'].iloc[0]} has {twice['arch'].iloc[0]} twice")
    taught = frame.dropna(subset="hours_with_teacher")
    direct = frame[~frame["method"].isin(taught["method"])]
    if taught.empty or direct.empty:
        kind = "with a teacher, itself timed," if taught.empty else "without a teacher"
        raise ValueError(f"no cumulative hours to draw: no method {kind} was timed")
    hours = pd.concat([taught, direct]).pivot(index="arch", columns="method", values="hours")
    hours = hours.reindex(dict.fromkeys(timing["arch"])).dropna()
    if hours.empty:
        raise ValueError("no cumulative hours to draw: no architecture was timed with every method")
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.subplots()
    number = range(len(hours) + 1)
    sums = {method: [0.0, *hours[method].cumsum()] for method in hours}
    looks = styles()
    directs, students = direct["method"].unique(), taught["method"].unique()
    for method, style in zip(directs, looks, strict=False):
        axes.plot(number, sums[method], label=method, **style)
    for method, style in zip(students, looks, strict=False):
        axes.plot(number, sums[method], ls="--", markerfacecolor="white", label=f"{method}, teacher at hand", **style)
        first = taught[taught["method"] == method].set_index("arch").loc[hours.index[0]]
        # Of a chain of students, later teachers are students paid before.
        teacher = first["hours_with_teacher"] - first["hours"]
        axes.plot(number, [teacher + spent for spent in sums[method]], label=f"{method} and its teacher", **style)
        for other in directs:
            least = break_even(teacher, hours[method].mean(), hours[other].mean())
            label = f"break-even with {other}: " + (f"n = {least:.0f}" if least < math.inf else "never")
            axes.axvline(least if least <= len(hours) else math.nan, color=style["color"], lw=0.8, ls=":", label=label)
    axes.set_xticks(number, ["none", *hours.index], rotation=30, ha="right", rotation_mode="anchor")
    axes.set(xlabel="architectures released", ylabel="cumulative time (h)", ylim=(0, None))
    legend(figure)
    return figure


_SERIES = ["arch", "method", "nodes"]
"""What one line of a scaling plot shares."""


def _scaling(frame: pd.DataFrame) -> Figure:
    frame = frame.dropna(subset="speedup").sort_values(["ranks", "nodes"])
    frame = frame.assign(method=_labels(frame.drop(columns="ranks")))
    kinds = [kind for kind in ("strong", "weak") if kind in set(frame["kind"])]
    if not kinds:
        raise ValueError("no scaling to draw: no speedup was measured")
    looks = dict(zip(frame.groupby(_SERIES).groups, styles(), strict=False))
    figure = Figure(figsize=(WIDTH, 0.8 + 1.7 * len(kinds)), layout="constrained")
    panels = figure.subplots(len(kinds), squeeze=False, sharex=True)[:, 0]
    for axes, kind in zip(panels, kinds, strict=True):
        most = frame["ranks"].max()
        axes.plot([1, most], [1, most], color="grey", lw=0.8, ls=":", label="ideal")
        for who, rows in frame[frame["kind"] == kind].groupby(_SERIES):
            arch, method, on = who
            label = f"{arch} {method}, {on} node{'s' if on > 1 else ''}"
            axes.errorbar(rows["ranks"], rows["speedup"], yerr=errors(rows, "speedup"), label=label, **looks[who])
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(ticks := sorted({1, *frame["ranks"]}), list(map(str, ticks)))
        axes.set_ylabel(f"{kind} speedup (times)")
    panels[-1].set_xlabel("ranks")
    legend(figure)
    return figure
