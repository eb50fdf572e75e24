"""Figures of what training costs and brings: accuracy over time, arguments and architectures; hours by network."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.plots import WIDTH, errors, legend, logarithmic, styles, write

_KINDS = (("clean", "-", {}), ("at_eps", "--", {"markerfacecolor": "white"}))


def tradeoff(timing: pd.DataFrame, path: Path) -> None:
    """Accuracy (solid) and accuracy at eps (dashed) over the minutes of training, those of teachers included.

    A point a cell; a line joins those of one architecture, method and teacher. ValueError where there are none.
    """
    write(_tradeoff, timing, path)


def stacked(timing: pd.DataFrame, path: Path) -> None:
    """Hours of each cell's own training and, on top, of its teachers; ValueError where no teacher was timed."""
    write(_stacked, timing, path)


def sweep(frame: pd.DataFrame, path: Path) -> None:
    """Accuracy (solid) and accuracy at eps (dashed) over an argument of a method, a panel an argument.

    Columns: those of `reports.sweeps`. ValueError where nothing was swept and judged.
    """
    write(_sweep, frame, path)


def complexity(timing: pd.DataFrame, path: Path) -> None:
    """Accuracy (solid) and accuracy at eps (dashed) of one teacher's students, in the order of the table.

    ValueError where no teacher has students of two architectures that were judged.
    """
    write(_complexity, timing, path)


def _lines(axes: Axes, groups: Iterator[tuple[str, pd.DataFrame]], x: str) -> None:
    """Both accuracies of each group over a column, with their intervals."""
    for (label, rows), style in zip(groups, styles(), strict=False):
        for kind, dash, look in _KINDS:
            own = rows.dropna(subset=kind)
            bars = [100 * side for side in errors(own, kind)]
            name = label if kind == "clean" or rows["clean"].isna().all() else None
            axes.errorbar(own[x], 100 * own[kind], yerr=bars, ls=dash, label=name, **style, **look)
    axes.plot([], [], color="grey", ls="--", label="at eps")
    axes.set(ylabel="accuracy (%)", ylim=(0, None))


def _groups(frame: pd.DataFrame, keys: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows that have equal keys, in the order of the table, and what tells them from the others."""
    keys = [*keys, *(key for key in ("dataset", "folder") if key in frame)]
    varies = [key for key in keys if frame[key].nunique(dropna=False) > 1 or key == "method"]
    for _, rows in frame.groupby(keys, sort=False, dropna=False):
        first = rows.iloc[0]
        words = {key: "" if pd.isna(first[key]) else str(first[key]) for key in varies}
        if words.get("teacher"):
            words["teacher"] = f"from {words['teacher']}"
        yield " ".join(word for word in words.values() if word), rows


def _judged(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["clean"].notna() | frame["at_eps"].notna()]


def _tradeoff(timing: pd.DataFrame) -> Figure:
    hours = timing["hours_with_teacher"].where(timing["teacher"].notna(), timing["hours"])
    frame = _judged(timing.assign(minutes=60 * hours)).dropna(subset="minutes").sort_values("minutes", kind="stable")
    if frame.empty:
        raise ValueError("no trade-off to draw: no cell was both timed, its teachers too, and judged")
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.subplots()
    _lines(axes, _groups(frame, ["arch", "method", "teacher"]), "minutes")
    if frame["minutes"].max() > 5 * frame["minutes"].min():
        logarithmic(axes)
    axes.set_xlabel("minutes of training, with the teacher's")
    legend(figure)
    return figure


def _stacked(timing: pd.DataFrame) -> Figure:
    frame = timing.dropna(subset="hours")
    if frame["hours_with_teacher"].isna().all():
        raise ValueError("no hours to stack: no teacher was timed")
    # A student whose teacher was not timed would look as cheap as one that has none.
    frame = frame[frame["teacher"].isna() | frame["hours_with_teacher"].notna()]
    twice = frame.duplicated(["arch", "method", "teacher"], keep=False)
    names = [
        f"{row.arch} {row.method}"
        + (f", {row.epochs:g} epochs" if again else "")
        + (f"\nfrom {row.teacher}" if isinstance(row.teacher, str) else "")
        for row, again in zip(frame.itertuples(), twice, strict=True)
    ]
    figure = Figure(figsize=(WIDTH, 0.8 + 0.28 * len(frame)), layout="constrained")
    axes, places = figure.subplots(), np.arange(len(frame))
    own, teachers = (style["color"] for style, _ in zip(styles(), range(2), strict=False))
    axes.barh(places, frame["hours"], color=own, label="own training")
    more = (frame["hours_with_teacher"] - frame["hours"]).fillna(0)
    axes.barh(places, more, left=frame["hours"], color=teachers, label="teachers")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlabel("hours")
    legend(figure)
    return figure


def _sweep(frame: pd.DataFrame) -> Figure:
    frame = _judged(frame)
    swept = [(key, rows) for key, rows in frame.groupby(["family", "argument"], sort=False)]
    if not swept:
        raise ValueError("no sweep to draw: no judged cells differ in one numeric argument of a method alone")
    figure = Figure(figsize=(WIDTH, 0.8 + 1.9 * len(swept)), layout="constrained")
    for axes, ((family, argument), rows) in zip(figure.subplots(len(swept), squeeze=False)[:, 0], swept, strict=True):
        _lines(axes, _groups(rows.sort_values("value", kind="stable"), ["arch", "method", "teacher"]), "value")
        if (rows["value"] > 0).all():
            logarithmic(axes)
        else:
            # 0 and what is below stand left of the least above.
            axes.set_xscale("symlog", linthresh=rows["value"].abs().where(rows["value"] != 0).min())
        axes.set_xlabel(f"{argument} of {family}")
    legend(figure)
    return figure


def _complexity(timing: pd.DataFrame) -> Figure:
    taught = _judged(timing).dropna(subset="teacher")
    lines = [(label, rows) for label, rows in _groups(taught, ["method", "teacher"]) if rows["arch"].nunique() > 1]
    if not lines:
        raise ValueError("no complexity to draw: no teacher has judged students of two architectures")
    drawn = {arch for _, rows in lines for arch in rows["arch"]}
    archs = [arch for arch in timing["arch"].unique() if arch in drawn]
    placed = [(label, rows.assign(place=rows["arch"].map(archs.index)).sort_values("place")) for label, rows in lines]
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.subplots()
    _lines(axes, iter(placed), "place")
    axes.set_xticks(range(len(archs)), archs, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_xlabel("student")
    legend(figure)
    return figure
