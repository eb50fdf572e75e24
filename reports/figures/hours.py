"""Figures of hours: those of each network with its teachers', and their sum over the architectures that are trained."""

import math
from typing import Any

import numpy as np
import pandas as pd

from reports.figures.draw import Plot, bar_axis, folded, left_out, legend, looks, paid, places, unpaid
from reports.figures.series import CONTEXT, cells, in_series, joined, over_seeds, panels, short_names, unseeded

_PARTS = (
    ("own", "own training", "#9CC3DD", ""),
    ("making", "robust dataset", "#E69F00", "////"),
    ("teachers", "teachers", "#F4D9C6", "\\\\\\\\"),
)


def stacked(timing: pd.DataFrame) -> Plot:
    """Draw the hours of each cell's own training, stacked with those of its robust dataset and its teachers.

    ValueError where no teacher was timed.
    """
    # A student whose teacher was not timed would look as cheap as a network without a teacher.
    hours = paid(timing)
    frame, absent = timing[hours.notna()], timing[hours.isna()]
    missing = left_out(absent, unpaid(absent))
    if frame["hours_with_teacher"].isna().all():
        raise ValueError("; ".join(["no teacher was timed", *missing]))
    frame = in_series(cells(frame))
    making = frame["hours_making"].fillna(0)
    teachers = (frame["hours_with_teacher"] - frame["hours"] - making).fillna(0)
    frame = frame.assign(own=frame["hours"], making=making, teachers=teachers)
    keys = [*(key for key in CONTEXT if key in frame), "series", "teacher"]
    drawn = over_seeds(frame, keys, own="real", making="real", teachers="real").filter(regex="(?<!_low)(?<!_high)$")
    title, _ = panels(drawn, [key for key in CONTEXT if drawn.get(key, pd.Series(dtype=object)).nunique() == 1])
    apart = [key for key in CONTEXT if key in drawn and drawn[key].nunique(dropna=False) > 1]
    names = [_name(row, apart) for _, row in drawn.iterrows()]
    caption = (
        "Hours of the whole training of each network, of its robust dataset and of its teachers, in the mean of seeds."
    )
    figure = Plot(joined("Hours with teachers", title), caption, drawn, missing)
    at, left = places(names), np.zeros(len(drawn))
    (axes,) = figure.panels(1, max(1.3, 0.6 + 0.16 * at[-1]))
    for part, label, color, hatch in _PARTS:
        if drawn[part].any():
            look: dict[str, Any] = {"color": color, "hatch": hatch, "edgecolor": "black", "lw": 0.5, "label": label}
            axes.barh(at, drawn[part], height=0.7, left=left, **look)
        left = left + drawn[part].to_numpy()
    bar_axis(axes, names)
    axes.set(xlabel="hours", xlim=(0, 1.03 * left.max()))
    legend(figure)
    return figure


def _name(row: pd.Series, apart: list[str]) -> str:
    """Name of a network: the words of its context that vary, its series, and its teacher."""
    words = [str(row[key]) for key in apart if row[key]]
    teacher = row["teacher"] if isinstance(row["teacher"], str) else ""
    named = f" from {teacher}" if teacher and f"from {teacher}" not in row["series"] else ""
    return folded(" ".join([*words, row["series"]]) + named, 32)


def cumulative(timing: pd.DataFrame, teachers: pd.DataFrame) -> Plot:
    """Draw the hours spent until each architecture, in the table's order, is trained: directly, and from a teacher.

    `teachers` lists the expenses of students; each is paid once. Only architectures with hours for every method are
    drawn. ValueError where fewer than two architectures are left, where there is no method with or none without a
    teacher, or where two cells have the same method and architecture.
    """
    frame = _summable(timing)
    # A student whose teacher was not timed would look as cheap as a network that is trained directly.
    known, direct = frame["hours"].notna() & paid(frame).notna(), frame["teacher"].isna()
    missing = left_out(frame[~known], unpaid(frame[~known]))
    # Only teachers are shared among architectures: initial weights and a validation are each network's own.
    frame = frame.assign(hours=paid(frame).where(direct, frame["hours"]))[known]
    taught, direct = frame[frame["teacher"].notna()], frame[frame["teacher"].isna()]
    if taught.empty or direct.empty:
        kind = "with a timed teacher" if taught.empty else "without a teacher"
        raise ValueError("; ".join([f"no method {kind} was timed", *missing]))
    every = frame.pivot(index="arch", columns="method", values="hours")
    every = every.reindex([arch for arch in dict.fromkeys(timing["arch"]) if arch in every.index])
    hours = every[every.notna().all(axis=1)]
    missing += [
        f"{arch}: no hours for {', '.join(row.index[row.isna()])}"
        for arch, row in every.drop(index=hours.index).iterrows()
    ]
    if len(hours) < 2:
        few = "no" if hours.empty else "only one"
        raise ValueError("; ".join([f"{few} architecture was timed with every method", *missing]))
    return _drawn(timing, hours, taught, list(direct["method"].unique()), teachers, missing)


def _summable(timing: pd.DataFrame) -> pd.DataFrame:
    """Cells other than the baseline's, one for each method and architecture; ValueError where there are two."""
    frame = cells(timing).assign(method=unseeded(timing["method"]))
    frame = frame[frame["method"] != frame["baseline"]]
    frame = frame.assign(method=frame["method"].map(short_names(frame["method"])))
    named = frame.reindex(columns=["method", "ranks", "folder"]).itertuples(index=False)
    methods = [
        row.method
        + (f", {row.ranks:g} ranks" if row.ranks > 1 else "")
        + (f", {row.folder}" if isinstance(row.folder, str) else "")
        for row in named
    ]
    frame = frame.assign(method=methods)
    # A teacher and its students are summed, so that of several seeds one can be.
    seeds = frame["seed"].fillna(0)
    frame = frame[seeds == seeds.groupby([frame["method"], frame["arch"]]).transform("min")]
    twice = frame[frame["hours"].notna() & frame.duplicated(["method", "arch"])]
    if not twice.empty:
        raise ValueError(f"hours cannot be summed: {twice['method'].iloc[0]} has two cells of {twice['arch'].iloc[0]}")
    return frame


def _drawn(
    timing: pd.DataFrame,
    hours: pd.DataFrame,
    taught: pd.DataFrame,
    directs: list[str],
    teachers: pd.DataFrame,
    missing: list[str],
) -> Plot:
    """Draw the sums of `hours` (architectures, methods): of methods without a teacher, and of students."""
    students = list(taught["method"].unique())
    sums: dict[str, list[float]] = {method: [0.0, *hours[method].cumsum()] for method in directs}
    pays: dict[str, float] = {}
    for method in students:
        rows = taught[taught["method"] == method].set_index("arch").loc[hours.index]
        sums[f"{method}, teacher at hand"] = _spent(rows, _datasets(teachers))
        spent = sums[f"{method} and its teacher"] = _spent(rows, teachers)
        for rival in directs:
            least = break_even(spent[-1] - hours[method].sum(), hours[method].mean(), hours[rival].mean())
            pays[f"{method} with {rival} " + (f"at {least:.0f}" if least < math.inf else "never")] = least
    drawn = pd.DataFrame({"trained": ["none", *hours.index], **sums})
    title, _ = panels(timing.reset_index(), ["dataset"])
    caption = (
        "Hours until so many architectures are trained; each teacher is paid once. Of several seeds, the first is "
        "summed. Vertical lines: the least number of architectures for which a teacher pays, at mean hours: "
        f"{', '.join(pays)}."
    )
    figure = Plot(joined("Cumulative hours", title), caption, drawn, missing)
    (axes,) = figure.panels(1, 2.4)
    number, styles = range(len(hours) + 1), looks([*directs, *students])
    for name, values in sums.items():
        method = next(m for m in styles if name in (m, f"{m}, teacher at hand", f"{m} and its teacher"))
        at_hand = {"ls": "--", "mfc": "white"} if name.endswith("teacher at hand") and name != method else {}
        axes.plot(number, values, label=name, **styles[method] | at_hand)
    for least in sorted({least for least in pays.values() if least <= len(hours)}):
        axes.axvline(least, color="grey", lw=0.8, ls=":", zorder=1, label="break-even")
    axes.set_xticks(number, ["none", *hours.index], rotation=30, ha="right", rotation_mode="anchor")
    axes.set(xlabel="architectures trained", ylabel="cumulative time (h)", ylim=(0, None))
    legend(figure)
    return figure


def break_even(teacher_hours: float, student_hours: float, direct_hours: float) -> float:
    """The least number n of students with teacher + n student < n direct; infinite if there is none."""
    if student_hours >= direct_hours:
        return math.inf
    return math.floor(teacher_hours / (direct_hours - student_hours)) + 1.0


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
