"""Figures of a paper column's width: slowdown, cumulative hours, scaling; PDF or PNG by the file's suffix."""

import math
from pathlib import Path

import pandas as pd

from reports.figures.draw import Plot, errors, left_out, legend, logarithmic, styles, unpaid, write


def slowdown(timing: pd.DataFrame, path: Path) -> list[str]:
    """Slowdown over the baseline with its interval, beside the ideal, of each architecture's methods.

    Returns what is left out, and why. ValueError where nothing was measured.
    """
    return write(_slowdown, timing, path)


def cumulative(timing: pd.DataFrame, path: Path, teachers: pd.DataFrame) -> list[str]:
    """Hours spent when each architecture, in the table's order, is released: trained directly, and from a teacher.

    What `teachers` says that students need is paid once. Only architectures count that every method drawn has hours
    of. Returns what is left out, and why. ValueError where nothing is left, or no method of either kind, or two cells
    of one method and architecture.
    """
    return write(lambda frame: _cumulative(frame, teachers), timing, path)


def scaling(frame: pd.DataFrame, path: Path) -> list[str]:
    """Speedup over one rank with its interval, and the ideal, a panel each for strong and weak scaling.

    Columns: those of `reports.tables.scaling`. Returns what is left out, and why. ValueError where nothing was
    measured.
    """
    return write(_scaling, frame, path)


def break_even(teacher_hours: float, student_hours: float, direct_hours: float) -> float:
    """Least number n of students with teacher + n student < n direct; infinite if there is none."""
    if student_hours >= direct_hours:
        return math.inf
    return math.floor(teacher_hours / (direct_hours - student_hours)) + 1.0


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


def _slowdown(timing: pd.DataFrame) -> Plot:
    others = timing[timing["method"] != timing["baseline"]]
    frame, absent = others[others["slowdown"].notna()], others[others["slowdown"].isna()]
    if frame.empty:
        raise ValueError("no slowdown to draw: no method but the baseline was measured beside it")
    frame = frame.assign(method=_labels(frame))
    archs = [arch for arch in timing["arch"].unique() if arch in set(frame["arch"])]
    # A row a measurement, those of an architecture together, half a row between architectures.
    frame = frame.sort_values("arch", key=lambda names: names.map(archs.index), kind="stable")
    frame = frame.assign(place=[row + archs.index(arch) / 2 for row, arch in enumerate(frame["arch"])])
    missing = left_out(absent, ("not timed" if bare else "no baseline beside it" for bare in absent["hours"].isna()))
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
        raise ValueError(f"hours cannot be summed: {twice['method'].iloc[0]} has {twice['arch'].iloc[0]} twice")
    # A student whose teacher was not timed would look as cheap as what is trained directly.
    known = frame["hours"].notna() & (frame["teacher"].isna() | frame["hours_with_teacher"].notna())
    missing, frame = left_out(frame[~known], unpaid(frame[~known])), frame[known]
    taught, direct = frame[frame["teacher"].notna()], frame[frame["teacher"].isna()]
    if taught.empty or direct.empty:
        kind = "with a teacher, itself timed," if taught.empty else "without a teacher"
        raise ValueError("; ".join([f"no cumulative hours to draw: no method {kind} was timed", *missing]))
    every = frame.pivot(index="arch", columns="method", values="hours")
    every = every.reindex([arch for arch in dict.fromkeys(timing["arch"]) if arch in every.index])
    hours = every[every.notna().all(axis=1)]
    if hours.empty:
        raise ValueError("no cumulative hours to draw: no architecture was timed with every method")
    for arch, row in every.drop(index=hours.index).iterrows():
        missing.append(f"{arch}: no hours of {', '.join(row.index[row.isna()])}")
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
        for other in directs:
            least = break_even(spent[-1] - hours[method].sum(), hours[method].mean(), hours[other].mean())
            label = f"break-even with {other}: " + (f"n = {least:.0f}" if least < math.inf else "never")
            axes.axvline(least if least <= len(hours) else math.nan, color=style["color"], lw=0.8, ls=":", label=label)
    axes.set_xticks(number, ["none", *hours.index], rotation=30, ha="right", rotation_mode="anchor")
    axes.set(xlabel="architectures released", ylabel="cumulative time (h)", ylim=(0, None))
    legend(figure)
    return figure


def _datasets(teachers: pd.DataFrame) -> pd.DataFrame:
    """The robust datasets that the students themselves train on: nobody has them at hand who has the teacher."""
    nearest = teachers.drop_duplicates(["student", *(["folder"] if "folder" in teachers else [])])
    return nearest[nearest["kind"] == "robust dataset"]


def _spent(students: pd.DataFrame, teachers: pd.DataFrame) -> list[float]:
    """Hours spent before the first student and after each, with all that it needs; what several need is paid once."""
    paid: dict[str, float] = {}
    spent = []
    for row in students.itertuples():
        mine = teachers[teachers["student"] == row.id]
        if "folder" in mine:
            mine = mine[mine["folder"] == row.folder]
        paid = dict(zip(mine["needs"], mine["hours"], strict=True)) | paid
        # Before its first student, a method has spent what this one needs.
        spent += [] if spent else [sum(paid.values())]
        paid.setdefault(row.id, row.hours)
        spent.append(sum(paid.values()))
    return spent


_SERIES = ["arch", "method", "nodes"]
"""What one line of a scaling plot shares."""


def _scaling(frame: pd.DataFrame) -> Plot:
    absent = frame[frame["speedup"].isna()]
    frame = frame.dropna(subset="speedup").sort_values(["ranks", "nodes"])
    frame = frame.assign(method=_labels(frame.drop(columns="ranks")))
    kinds = [kind for kind in ("strong", "weak") if kind in set(frame["kind"])]
    if not kinds:
        raise ValueError("no scaling to draw: no speedup was measured")
    looks = dict(zip(frame.groupby(_SERIES).groups, styles(), strict=False))
    figure = Plot(0.8 + 1.7 * len(kinds), left_out(absent, ["not timed"] * len(absent)))
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
