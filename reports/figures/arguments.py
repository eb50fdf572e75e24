"""Figures of accuracy over an argument of a method, and over the architectures of one teacher's students."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from reports.figures.draw import Plot, errors, left_out, legend, looks, varies
from reports.figures.series import CONTEXT, OVER_SEEDS, in_series, joined, over_seeds, panels

_Kinds = tuple[tuple[str, dict], ...]
_ACCURACIES: _Kinds = (("clean", {"ls": "-"}), ("at_eps", {"ls": "--", "mfc": "white"}))
_CERTIFIED: _Kinds = (("certified", {"ls": "-"}),)
_ACR: _Kinds = (("acr", {"ls": "-"}),)
_KINDS = (("certified at 2σ (%)", _CERTIFIED), ("accuracy (%)", _ACCURACIES), ("ACR", _ACR))
"""Labels of the vertical axes, and the results that are drawn on each."""
_CAPTION = f"Solid: accuracy on clean images; dashed and hollow: at eps. Bars are 95 % intervals. {OVER_SEEDS}."


def sweep(frame: pd.DataFrame) -> Plot:
    """Draw accuracy (solid) and accuracy at eps (dashed) over an argument of a method, one panel per argument.

    ValueError where no sweep was evaluated, or where no accuracy changes.
    """
    frame, missing = _evaluated(frame)
    if frame.empty:
        raise ValueError("; ".join(["no evaluated cells differ in one numeric argument of a method only", *missing]))
    frame = in_series(frame.assign(norm="", sigma=0.0, trained_eps=0.0), ["teacher"], numbered=False)
    keys = [*(key for key in CONTEXT if key in frame), "family", "argument", "series", "value"]
    drawn = _points(frame, keys).sort_values("value", kind="stable")
    _refuse_constant(drawn, missing)
    title, parts = panels(drawn, [*CONTEXT, "family", "argument"])
    figure = Plot(joined("Accuracy over an argument", title), _CAPTION, drawn, missing)
    styles = looks(drawn["series"])
    for axes, (words, rows) in zip(figure.panels(len(parts), 2.1), parts, strict=True):
        values = sorted(rows["value"].unique())
        if values[0] > 0:
            axes.set_xscale("log")
        else:
            # 0 and negative values are left of the least positive value.
            axes.set_xscale("symlog", linthresh=min(abs(value) for value in values if value))
        if len(values) < 7:
            axes.xaxis.set_major_locator(FixedLocator(values))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        _lines(axes, rows, "value", styles, _ACCURACIES)
        axes.set_ylabel("accuracy (%)")
        axes.set_title(words)
        axes.set_xlabel(f"{rows['argument'].iloc[0]} of {rows['family'].iloc[0]}")
    legend(figure)
    return figure


def complexity(timing: pd.DataFrame) -> Plot:
    """Draw accuracies and, for smoothing, ACR of one teacher's students: certified accuracy first, ACR last.

    ValueError where no teacher has evaluated students of two architectures, or where no result changes.
    """
    taught, missing = _evaluated(timing.dropna(subset="teacher"))
    frame = in_series(taught.assign(student=taught["arch"], arch=""), ["teacher"], numbered=False)
    students = frame.groupby([*(key for key in CONTEXT if key in frame), "series", "teacher"], dropna=False)["student"]
    alone = students.transform("nunique") < 2
    missing += left_out(
        taught[alone], ["its teacher has no evaluated student of another architecture"] * int(alone.sum())
    )
    frame = frame[~alone]
    if frame.empty:
        raise ValueError("; ".join(["no teacher has evaluated students of two architectures", *missing]))
    keys = [*(key for key in CONTEXT if key in frame), "series", "teacher", "student"]
    drawn = _points(frame, keys)
    _refuse_constant(drawn, missing)
    archs = [arch for arch in timing["arch"].unique() if arch in set(drawn["student"])]
    drawn = drawn.assign(place=drawn["student"].map(archs.index)).sort_values("place", kind="stable")
    title, groups = panels(drawn, [*CONTEXT, "teacher"])
    parts = [(words, rows, what) for words, rows in groups for what in _KINDS if rows[what[1][0][0]].notna().any()]
    figure = Plot(joined("Students of one teacher", title), _CAPTION, drawn, missing)
    styles = looks(drawn["series"])
    for axes, (words, rows, (label, kinds)) in zip(figure.panels(len(parts), 2.2), parts, strict=True):
        _lines(axes, rows, "place", styles, kinds)
        axes.set_ylabel(label)
        axes.set_xticks(range(len(archs)), archs, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_title(words)
        axes.set_xlabel("student")
    legend(figure)
    return figure


def _evaluated(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of evaluated cells, and lines on the others."""
    known = frame.reindex(columns=["clean", "at_eps", "certified", "acr"]).notna().any(axis=1)
    return frame[known], left_out(frame[~known], ["not evaluated"] * int((~known).sum()))


def _points(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """All accuracies in percent, and ACR, over seeds."""
    drawn = over_seeds(frame, keys, clean="share", at_eps="share", certified="share", acr="real")
    drawn[[f"{kind}{end}" for kind, _ in (*_ACCURACIES, *_CERTIFIED) for end in ("", "_low", "_high")]] *= 100
    return drawn


def _refuse_constant(drawn: pd.DataFrame, missing: list[str]) -> None:
    if not varies(drawn["clean"], drawn["at_eps"], drawn["certified"], drawn["acr"]):
        raise ValueError("; ".join(["no result changes", *missing]))


def _lines(axes: Axes, rows: pd.DataFrame, x: str, styles: dict[str, dict], kinds: _Kinds) -> None:
    """Draw results of each series over a column, with their intervals."""
    for series, own in rows.groupby("series", sort=False):
        for kind, look in kinds:
            known = own.dropna(subset=kind)
            name = series if kind != "at_eps" or own["clean"].isna().all() else None
            bars = errors(known, kind)
            axes.errorbar(known[x], known[kind], yerr=bars, label=name, elinewidth=0.7, **styles[series] | look)
    if kinds is _ACCURACIES and rows["at_eps"].notna().any():
        axes.plot([], [], color="grey", ls="--", marker="o", mfc="white", label="at eps")
