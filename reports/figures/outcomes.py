"""Figures of costs and results of training: accuracy over time, arguments and architectures; hours per network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from reports.figures.draw import Plot, errors, folded, left_out, legend, logarithmic, styles, unpaid, write

_KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("clean", "-", {}),
    ("at_eps", "--", {"markerfacecolor": "white"}),
)


def tradeoff(timing: pd.DataFrame, path: Path) -> list[str]:
    """Draw accuracy (solid) and accuracy at eps (dashed) over the minutes of training, those of teachers included.

    Each cell is a point; a line joins the cells of one architecture, method and teacher. Returns a line for each reason
    to leave cells out. ValueError where no cell has both.
    """
    return write(_tradeoff, timing, path)


def stacked(timing: pd.DataFrame, path: Path) -> list[str]:
    """Draw the hours of each cell's own training, stacked with those of its robust dataset and its teachers.

    Returns a line for each reason to leave cells out. ValueError where no teacher was timed.
    """
    return write(_stacked, timing, path)


def sweep(frame: pd.DataFrame, path: Path) -> list[str]:
    """Draw accuracy (solid) and accuracy at eps (dashed) over an argument of a method, one panel per argument.

    Columns: those of `reports.tables.sweeps`. Returns a line for each reason to leave cells out. ValueError where no
    sweep was evaluated.
    """
    return write(_sweep, frame, path)


def complexity(timing: pd.DataFrame, path: Path) -> list[str]:
    """Draw accuracy (solid) and accuracy at eps (dashed) of one teacher's students, in the order of the table.

    Returns a line for each reason to leave cells out. ValueError where no teacher has evaluated students of two
    architectures.
    """
    return write(_complexity, timing, path)


def _lines(axes: Axes, groups: Iterator[tuple[str, pd.DataFrame]], x: str) -> None:
    """Draw both accuracies of each group over a column, with their intervals."""
    for (label, rows), style in zip(groups, styles(), strict=False):
        for kind, dash, look in _KINDS:
            own = rows.dropna(subset=kind)
            bars = [100 * side for side in errors(own, kind)]
            name = label if kind == "clean" or rows["clean"].isna().all() else None
            axes.errorbar(own[x], 100 * own[kind], yerr=bars, ls=dash, label=name, **style, **look)
    axes.plot([], [], color="grey", ls="--", label="at eps")
    axes.set(ylabel="accuracy (%)", ylim=(0, None))


def _groups(frame: pd.DataFrame, keys: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the rows with equal keys, in the order of the table, each with a label of the keys that vary."""
    keys = [*keys, *(key for key in ("dataset", "folder") if key in frame)]
    varies = [key for key in keys if frame[key].nunique(dropna=False) > 1 or key == "method"]
    for _, rows in frame.groupby(keys, sort=False, dropna=False):
        first = rows.iloc[0]
        words = {key: "" if pd.isna(first[key]) else str(first[key]) for key in varies}
        if words.get("teacher"):
            words["teacher"] = f"from {words['teacher']}"
        yield " ".join(word for word in words.values() if word), rows


def _evaluated(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of evaluated cells, and lines on the others."""
    known = frame["clean"].notna() | frame["at_eps"].notna()
    return frame[known], left_out(frame[~known], ["not evaluated"] * int((~known).sum()))


def _paid(timing: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows with known hours, those of teachers included, in the column `paid`; and lines on the others."""
    hours = timing["hours_with_teacher"].where(timing["teacher"].notna(), timing["hours"])
    frame, absent = timing.assign(paid=hours)[hours.notna()], timing[hours.isna()]
    return frame, left_out(absent, unpaid(absent))


def _tradeoff(timing: pd.DataFrame) -> Plot:
    evaluated, missing = _evaluated(timing)
    frame, more = _paid(evaluated)
    missing += more
    if frame.empty:
        reason = "no cell has both an accuracy and hours that include those of its teachers"
        raise ValueError("; ".join([reason, *missing]))
    frame = frame.assign(minutes=60 * frame["paid"]).sort_values("minutes", kind="stable")
    figure = Plot(2.6, missing)
    axes = figure.subplots()
    _lines(axes, _groups(frame, ["arch", "method", "teacher"]), "minutes")
    if frame["minutes"].max() > 5 * frame["minutes"].min():
        logarithmic(axes)
    axes.set_xlabel("minutes of training, with the teacher's")
    legend(figure)
    return figure


def _stacked(timing: pd.DataFrame) -> Plot:
    # A student whose teacher was not timed would look as cheap as a network without a teacher.
    frame, missing = _paid(timing)
    if frame["hours_with_teacher"].isna().all():
        raise ValueError("; ".join(["no teacher was timed", *missing]))
    twice = frame.duplicated(["arch", "method", "teacher"], keep=False)
    names = [
        folded(f"{row.arch} {row.method}" + (f", {row.epochs:g} epochs" if again else ""), 30)
        + ("\n" + folded(f"from {row.teacher}", 30) if isinstance(row.teacher, str) else "")
        for row, again in zip(frame.itertuples(), twice, strict=True)
    ]
    figure = Plot(0.8 + 0.16 * max(2, *(name.count("\n") + 1 for name in names)) * len(names), missing)
    axes, places = figure.subplots(), np.arange(len(frame))
    own, teachers, made = (style["color"] for style, _ in zip(styles(), range(3), strict=False))
    axes.barh(places, frame["hours"], color=own, label="own training")
    making = frame["hours_making"].fillna(0)
    more = (frame["hours_with_teacher"] - frame["hours"] - making).where(frame["teacher"].notna(), 0)
    axes.barh(places, more, left=frame["hours"] + making, color=teachers, label="teachers")
    if making.any():
        axes.barh(places, making, left=frame["hours"], color=made, label="robust dataset")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlabel("hours")
    legend(figure)
    return figure


def _sweep(frame: pd.DataFrame) -> Plot:
    frame, missing = _evaluated(frame)
    swept = [(key, rows) for key, rows in frame.groupby(["family", "argument"], sort=False)]
    if not swept:
        raise ValueError("no evaluated cells differ in one numeric argument of a method only")
    figure = Plot(0.8 + 1.9 * len(swept), missing)
    for axes, ((family, argument), rows) in zip(figure.subplots(len(swept), squeeze=False)[:, 0], swept, strict=True):
        _lines(axes, _groups(rows.sort_values("value", kind="stable"), ["arch", "method", "teacher"]), "value")
        if (rows["value"] > 0).all():
            logarithmic(axes)
        else:
            # 0 and negative values are left of the least positive value.
            axes.set_xscale("symlog", linthresh=rows["value"].abs().where(rows["value"] != 0).min())
        axes.set_xlabel(f"{argument} of {family}")
    legend(figure)
    return figure


def _complexity(timing: pd.DataFrame) -> Plot:
    taught, missing = _evaluated(timing.dropna(subset="teacher"))
    groups = list(_groups(taught, ["method", "teacher"]))
    lines = [(label, rows) for label, rows in groups if rows["arch"].nunique() > 1]
    for _, rows in groups:
        if rows["arch"].nunique() == 1:
            missing += left_out(rows, ["its teacher has no evaluated student of another architecture"] * len(rows))
    if not lines:
        raise ValueError("no teacher has evaluated students of two architectures")
    drawn = {arch for _, rows in lines for arch in rows["arch"]}
    archs = [arch for arch in timing["arch"].unique() if arch in drawn]
    placed = [(label, rows.assign(place=rows["arch"].map(archs.index)).sort_values("place")) for label, rows in lines]
    figure = Plot(2.6, missing)
    axes = figure.subplots()
    _lines(axes, iter(placed), "place")
    axes.set_xticks(range(len(archs)), archs, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_xlabel("student")
    legend(figure)
    return figure
