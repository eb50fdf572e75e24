"""Figures of times: slowdown, cumulative hours and scaling."""

import math
from pathlib import Path

import pandas as pd

from reports.figures.draw import Plot, errors, left_out, legend, logarithmic, styles, unpaid, write


def slowdown(timing: pd.DataFrame, path: Path) -> list[str]:
    """Draw the slowdown of each architecture's methods with its interval, beside the ideal.

    Returns a line for each reason to leave cells out. ValueError where nothing was measured.
    """
    return write(_slowdown, timing, path)


def cumulative(timing: pd.DataFrame, path: Path, teachers: pd.DataFrame) -> list[str]:
    """Draw the hours spent until each architecture, in the table's order, is trained: directly, and from a teacher.

    `teachers` lists the expenses of students; each is paid once. Only architectures with hours for every method are
    drawn. Returns a line for each reason to leave cells out. ValueError where no architecture is left, where there is
    no method with or none without a teacher, or where two cells have the same method and architecture.
    """
    return write(lambda frame: _cumulative(frame, teachers), timing, path)


def scaling(frame: pd.DataFrame, path: Path) -> list[str]:
    """Draw the speedup over one rank with its interval, and the ideal; one panel each for strong and weak scaling.

    Columns: those of `reports.tables.scaling`. Returns a line for each reason to leave cells out. ValueError where
    nothing was measured.
    """
    return write(_scaling, frame, path)


def break_even(teacher_hours: float, student_hours: float, direct_hours: float) -> float:
    """The least number n of students with teacher + n student < n direct; infinite if there is none."""
    if student_hours >= direct_hours:
        return math.inf
    return math.floor(teacher_hours / (direct_hours - student_hours)) + 1.0


def _labels(frame: pd.DataFrame) -> list[str]:
    """Each row's method, with its ranks, runs folder and mismatched fields where it has any."""
    named = frame.reindex(columns=["method", "ranks", "folder", "unlike"]).itertuples(index=False)
    return [
        row.method
        + (f", {row.ranks:g} ranks" if row.ranks > 1 else "")
        + (f", {row.folder}" if isinstance(row.folder, str) else "")
        + (f" (unlike {row.unlike})" if isinstance(row.unlike, str) else "")
        for row in named
    ]


def _slowdown(timing: pd.DataFrame) -> Plot:
    others = timing[timing["method"] != timing["baseline"]]
    frame, absent = others[others["slowdown"].notna()], others[others["slowdown"].isna()]
    if frame.empty:
        raise ValueError("no method was timed with the baseline")
    frame = frame.assign(method=_labels(frame))
    archs = [arch for arch in timing["arch"].unique() if arch in set(frame["arch"])]
    # One row per measurement, grouped by architecture, with half a row between architectures.
    frame = frame.sort_values("arch", key=lambda names: names.map(archs.index), kind="stable")
    frame = frame.assign(place=[row + archs.index(arch) / 2 for row, arch in enumerate(frame["arch"])])
    missing = left_out(
        absent, ("not timed" if unknown else "no baseline timed with it" for unknown in absent["hours"].isna())
    )
    figure = Plot(1.2 + 0.14 * (frame["method"].nunique() + len(frame)), missing)
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


def _cumulative(timing: pd.DataFrame, teachers: pd.DataFrame) -> Plot:
    frame = timing[timing["method"] != timing["baseline"]]
    frame = frame.assign(method=_labels(frame.drop(columns="unlike")))
    twice = frame[frame["hours"].notna() & frame.duplicated(["method", "arch"])]
    if not twice.empty:
        raise ValueError(f"hours cannot be summed: {twice['method'].iloc[0]} has two cells of {twice['arch'].iloc[0]}")
    # A student whose teacher was not timed would look as cheap as a network that is trained directly.
    known = frame["hours"].notna() & (frame["teacher"].isna() | frame["hours_with_teacher"].notna())
    missing, frame = left_out(frame[~known], unpaid(frame[~known])), frame[known]
    taught, direct = frame[frame["teacher"].notna()], frame[frame["teacher"].isna()]
    if taught.empty or direct.empty:
        kind = "with a timed teacher" if taught.empty else "without a teacher"
        raise ValueError("; ".join([f"no method {kind} was timed", *missing]))
    every = frame.pivot(index="arch", columns="method", values="hours")
    every = every.reindex([arch for arch in dict.fromkeys(timing["arch"]) if arch in every.index])
    hours = every[every.notna().all(axis=1)]
    if hours.empty:
        raise ValueError("no architecture was timed with every method")
    for arch, row in every.drop(index=hours.index).iterrows():
        missing.append(f"{arch}: no hours for {', '.join(row.index[row.isna()])}")
    figure = Plot(2.6, missing)
    axes = figure.subplots()
    number = range(len(hours) + 1)
    looks = styles()
    directs, students = direct["method"].unique(), taught["method"].unique()
    for method, style in zip(directs, looks, strict=False):
        axes.plot(number, [0.0, *hours[method].cumsum()], label=method, **style)
    for method, style in zip(students, looks, strict=False):
        rows = taught[taught["method"] == method].set_index("arch").loc[hours.index]
        own, spent = _spent(rows, _datasets(teachers)), _spent(rows, teachers)
        axes.plot(number, own, ls="--", markerfacecolor="white", label=f"{method}, teacher at hand", **style)
        axes.plot(number, spent, label=f"{method} and its teacher", **style)
        for rival in directs:
            least = break_even(spent[-1] - hours[method].sum(), hours[method].mean(), hours[rival].mean())
            label = f"break-even with {rival}: " + (f"n = {least:.0f}" if least < math.inf else "never")
            axes.axvline(least if least <= len(hours) else math.nan, color=style["color"], lw=0.8, ls=":", label=label)
    axes.set_xticks(number, ["none", *hours.index], rotation=30, ha="right", rotation_mode="anchor")
    axes.set(xlabel="architectures released", ylabel="cumulative time (h)", ylim=(0, None))
    legend(figure)
    return figure


def _datasets(teachers: pd.DataFrame) -> pd.DataFrame:
    """The robust datasets that the students train on: a teacher at hand does not include them."""
    nearest = teachers.drop_duplicates(["student", *(["folder"] if "folder" in teachers else [])])
    return nearest[nearest["kind"] == "robust dataset"]


def _spent(students: pd.DataFrame, teachers: pd.DataFrame) -> list[float]:
    """Hours spent before the first student and after each, with its expenses; students share a common expense."""
    paid: dict[str, float] = {}
    spent: list[float] = []
    for row in students.itertuples():
        needed = teachers[teachers["student"] == row.id]
        if "folder" in needed:
            needed = needed[needed["folder"] == row.folder]
        paid = dict(zip(needed["needs"], needed["hours"], strict=True)) | paid
        # The expenses of the first student are spent before it trains.
        spent += [] if spent else [sum(paid.values())]
        paid.setdefault(row.id, row.hours)
        spent.append(sum(paid.values()))
    return spent


_SERIES = ["arch", "method", "nodes"]
"""Columns with equal values along a line of a scaling plot."""


def _scaling(frame: pd.DataFrame) -> Plot:
    absent = frame[frame["speedup"].isna()]
    frame = frame.dropna(subset="speedup").sort_values(["ranks", "nodes"])
    frame = frame.assign(method=_labels(frame.drop(columns="ranks")))
    kinds = [kind for kind in ("strong", "weak") if kind in set(frame["kind"])]
    if not kinds:
        raise ValueError("no speedup was measured")
    looks = dict(zip(frame.groupby(_SERIES).groups, styles(), strict=False))
    figure = Plot(0.8 + 1.7 * len(kinds), left_out(absent, ["not timed"] * len(absent)))
    panels = figure.subplots(len(kinds), squeeze=False, sharex=True)[:, 0]
    for axes, kind in zip(panels, kinds, strict=True):
        most = frame["ranks"].max()
        axes.plot([1, most], [1, most], color="grey", lw=0.8, ls=":", label="ideal")
        for series, rows in frame[frame["kind"] == kind].groupby(_SERIES):
            arch, method, nodes = series
            label = f"{arch} {method}, {nodes} node{'s' if nodes > 1 else ''}"
            axes.errorbar(rows["ranks"], rows["speedup"], yerr=errors(rows, "speedup"), label=label, **looks[series])
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(ticks := sorted({1, *frame["ranks"]}), list(map(str, ticks)))
        axes.set_ylabel(f"{kind} speedup (times)")
    panels[-1].set_xlabel("ranks")
    legend(figure)
    return figure
