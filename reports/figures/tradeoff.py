"""Figure of results over the cost of training, with the Pareto front."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bench.manifest.labels import written
from bench.results.front import pareto
from bench.results.robustness import kind
from reports.figures.draw import Plot, errors, left_out, legend, logarithmic, looks, paid, unpaid, varies
from reports.figures.series import (
    CONTEXT,
    NORMS,
    OVER_SEEDS,
    SETTINGS,
    cells,
    in_series,
    joined,
    over_seeds,
    panels,
    short_names,
)

_UNITS = ((1 / 60, "hours", 1.0), (1 / 3600, "minutes", 60.0), (0.0, "seconds", 3600.0))
"""Least hours that are drawn in a unit, the unit, and how many there are in an hour."""
_CAPTION = (
    "Each mark is one method. Filled marks are on the Pareto front (the line): no other method is at least as good in "
    "at most the time. Hollow marks are dominated. Time is that of the whole training with its teachers'; its interval "
    f"is that of the method's own training. Bars are 95 % intervals. {OVER_SEEDS}."
)


def tradeoff(timing: pd.DataFrame, robustness: pd.DataFrame) -> Plot:
    """Draw the figures by which a family is judged over the time of training, with intervals and the Pareto front.

    Panels: certified accuracy at 2 sigma (smoothing) and at each eps (bounds), accuracy under each principal attack,
    clean accuracy, and last ACR, which depends on the number of draws and favours easy images (Sun et al., 2025,
    https://arxiv.org/abs/2410.06895). Bounds at one eps share a panel; where they differ, each series names its own.
    ValueError where fewer than two cells have both a result and their hours.
    """
    frame, missing = _paid(_with_proofs(cells(timing), robustness))
    if frame.empty:
        reason = "no cell has both an accuracy and hours that include those of its teachers"
        raise ValueError("; ".join([reason, *missing]))
    if in_series(frame).groupby(_context(frame), dropna=False)["series"].nunique().max() == 1:
        # No architecture has two methods, so that architectures are compared.
        frame = frame.assign(method=frame["arch"] + " " + frame["method"], arch="")
    frame = in_series(frame).rename(columns={"series": "point"})
    frame = _with_bounds(in_series(frame, [key for key in SETTINGS if key != "epochs"], numbered=False))
    order = frame[_context(frame)].drop_duplicates()
    drawn = order.merge(pd.concat(list(_measures(frame)), ignore_index=True), on=_context(frame))
    several = drawn.groupby([*_context(drawn), "measure"], dropna=False)["point"].transform("size") > 1
    alone = {f"{row.arch} {row.point}".strip(): None for row in drawn[~several].itertuples()}
    drawn = drawn[several]
    drawn = drawn[drawn["measure"].isin([m for m, rows in drawn.groupby("measure") if varies(rows["estimate"])])]
    if drawn.empty:
        raise ValueError("; ".join(["no two methods have both time and a result that differs", *missing]))
    shown = {f"{row.arch} {row.point}".strip() for row in drawn.itertuples()}
    missing += [f"{name}: no other method there has both time and result" for name in alone if name not in shown]
    measures = drawn["measure"].nunique()
    title, _ = panels(drawn)
    parts = [(words, rows) for words, own in panels(drawn)[1] for _, rows in own.groupby("measure", sort=False)]
    taught = " incl. teachers" if frame["teacher"].notna().any() else ""
    figure = Plot(joined("Trade-off", title), _CAPTION, drawn, missing)
    styles, (_, unit, scale) = looks(drawn["series"]), _unit(drawn["hours"])
    for axes, (words, rows) in zip(figure.panels(len(parts), 2.1, min(3, measures)), parts, strict=True):
        _panel(axes, rows, styles, scale)
        axes.set_title(words)
        axes.set(ylabel=rows["measure"].iloc[0], xlabel=f"training{taught} ({unit})")
    axes.plot([], [], "o", color="grey", mfc="white", label="dominated")
    axes.plot([], [], color="grey", lw=0.9, label="Pareto front")
    legend(figure)
    return figure


def _with_proofs(timing: pd.DataFrame, robustness: pd.DataFrame) -> pd.DataFrame:
    """Cells with the accuracy of their first smoothed network, and the certified accuracy of their principal bound.

    The latter is in `proved`, with the radius `proved_at` and the bound's label `bound`.
    """
    key = ["id", *(["folder"] if "folder" in robustness else [])]
    known = robustness.filter(regex=r"^certified_at_0\.00")
    if not known.empty:
        rows = pd.concat([robustness[key], known], axis=1)[known.notna().any(axis=1)].drop_duplicates(key)
        timing = timing.merge(rows, on=key, how="left")
    if "at_eps" not in robustness or "judge" not in robustness:
        return timing
    bounds = robustness[robustness["judge"].map(kind).eq("bound") & robustness["at_eps"].notna()]
    # The bound at the threat's eps counts, as where methods are judged, else the first.
    first = bounds["eps"].ne(bounds["trained_eps"]).sort_values(kind="stable").index
    bounds = bounds.loc[first].drop_duplicates(key)
    names = {f"at_eps{end}": f"proved{end}" for end in ("", "_low", "_high")} | {"eps": "proved_at", "eval": "bound"}
    return timing.merge(bounds[[*key, *names]].rename(columns=names), on=key, how="left")


def _with_bounds(frame: pd.DataFrame) -> pd.DataFrame:
    """Series and points that name the bound which proves them, where bounds differ in a panel."""
    if "bound" not in frame:
        return frame
    panel = [*_context(frame), "norm", "proved_at"]
    differ = frame.groupby(panel, dropna=False)["bound"].transform("nunique") > 1
    by = frame["bound"].map(short_names(frame["bound"].dropna()), na_action="ignore").map(" by {}".format)
    named = differ & frame["bound"].notna()
    return frame.assign(**{key: frame[key].where(~named, frame[key] + by) for key in ("series", "point")})


def _paid(timing: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Evaluated cells with their hours, teachers' included, in `paid` with its interval; lines on the others.

    A seed without hours stays where another seed of its method has them: a study times one seed for all.
    """
    results = timing.filter(regex=r"^(acr|clean|at_eps|proved|certified|certified_at_0\.00)$")
    known = results.notna().any(axis=1)
    missing = left_out(timing[~known], ["not evaluated"] * int((~known).sum()))
    timing = timing[known]
    hours = paid(timing)
    half = [timing["hours"] * (timing[f"s_per_epoch{end}"] / timing["s_per_epoch"] - 1) for end in ("_low", "_high")]
    frame = timing.assign(paid=hours, paid_low=hours + half[0], paid_high=hours + half[1])
    if frame.empty:
        return frame, missing
    methods = in_series(frame)
    timed = methods.groupby([*_context(methods), "series"], dropna=False)["paid"].transform("count") > 0
    absent = frame[~timed]
    return frame[timed], missing + left_out(absent, unpaid(absent))


def _context(frame: pd.DataFrame) -> list[str]:
    return [key for key in CONTEXT if key in frame]


def _measures(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Rows of each result over seeds: its name in `measure`, in percent where it is a share, and `on_front`."""
    for measure, key, rows, scale in _results(frame):
        rows = rows.dropna(subset=key)
        for _, panel in rows.groupby(_context(rows), sort=False, dropna=False):
            found = over_seeds(panel, [*_context(rows), "series", "point"], paid="positive", **{key: scale})
            new = {key: "estimate", f"{key}_low": "low", f"{key}_high": "high"}
            found = found.rename(columns=new | {f"paid{end}": f"hours{end}" for end in ("", "_low", "_high")})
            if scale == "share":
                found[["estimate", "low", "high"]] *= 100
            front = pareto(found["hours"], found["estimate"])
            yield found.assign(measure=measure, on_front=front)


def _results(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame, str]]:
    """Name, column and rows of each result by which these networks are judged, and its scale over seeds."""
    smoothed = frame[frame["certified_at_0.00"].notna()] if "certified_at_0.00" in frame else frame[:0]
    for sigma, rows in smoothed.groupby("sigma", sort=False):
        yield f"certified at {2 * sigma:g} (%)", "certified", rows, "share"
    if not smoothed.empty and smoothed["clean"].isna().all():
        yield "certified at 0 (%)", "certified_at_0.00", smoothed, "share"
    if "proved" in frame:
        for (norm, radius), rows in frame.dropna(subset="proved").groupby(["norm", "proved_at"], sort=False):
            yield f"certified at {NORMS.get(norm, norm)} {written(radius)} (%)", "proved", rows, "share"
    attacked = frame.dropna(subset="at_eps")
    for by, rows in attacked.groupby("at_eps_by", sort=False):
        name, norm = str(by).split("(")[0].split(" at ")[0], rows["norm"].iloc[0]
        radius = str(by).rsplit(" ", 1)[-1]
        if kind(name) == "attack":
            yield f"{name} at {NORMS.get(norm, norm)} {radius} (%)", "at_eps", rows, "share"
    yield "clean (%)", "clean", frame, "share"
    if not smoothed.empty:
        yield "ACR", "acr", smoothed, "real"


def _unit(hours: pd.Series) -> tuple[float, str, float]:
    return next(unit for unit in _UNITS if hours.median() >= unit[0])


def _panel(axes: Axes, rows: pd.DataFrame, styles: dict[str, dict], scale: float) -> None:
    """Draw the front and the marks of one result."""
    rows = rows.assign(time=rows["hours"] * scale, time_low=rows["hours_low"] * scale)
    rows = rows.assign(time_high=rows["hours_high"] * scale).sort_values("time", kind="stable")
    front = rows[rows["on_front"]]
    axes.step(front["time"], front["estimate"], where="post", color="grey", lw=0.9, zorder=1)
    bounds = rows.rename(columns={"low": "estimate_low", "high": "estimate_high"})
    for series, own in bounds.groupby("series", sort=False):
        look = styles[series] | {"ls": ""}
        if len(own) > 1:
            axes.plot(own["time"], own["estimate"], color=look["color"], lw=0.6, ls=":", zorder=1)
        for front_of, part in own.groupby("on_front"):
            face = look["color"] if front_of else "white"
            bars: dict[str, Any] = {"xerr": errors(part, "time"), "yerr": errors(part, "estimate")}
            axes.errorbar(part["time"], part["estimate"], **bars, **look, mfc=face, elinewidth=0.7)
        axes.add_line(Line2D([], [], **look, label=series))
    logarithmic(axes, "x", rows["time"])
    _cut(axes, rows)


def _cut(axes: Axes, rows: pd.DataFrame) -> None:
    """Begin the axis at the second lowest mark, if the lowest would squeeze all others together; write its value."""
    lowest = rows.loc[rows["estimate"].idxmin()]
    others = rows.drop(index=lowest.name).fillna({key: rows["estimate"] for key in ("low", "high")})
    bottom, top = others["low"].min(), others["high"].max()
    if len(rows) > 3 and lowest["estimate"] < bottom - (top - bottom):
        room = 0.15 * (top - bottom)
        axes.set_ylim(bottom - room, top + room / 2)
        words: dict[str, Any] = {"xytext": (3, 2), "textcoords": "offset points", "fontsize": 7}
        axes.annotate(f"↓ {lowest['series']}: {lowest['estimate']:.2g}", (lowest["time"], bottom - room), **words)
