"""Figures of times: slowdown and scaling."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from bench.results.statistics import CONFIDENCE
from reports.figures.draw import Plot, bar_axis, errors, folded, left_out, legend, logarithmic, looks, places
from reports.figures.series import CONTEXT, OVER_SEEDS, SETTINGS, cells, in_series, joined, over_seeds, panels, unseeded

_ROW = 0.17
"""Height of a bar in inches."""


def slowdown(timing: pd.DataFrame) -> Plot:
    """Draw the slowdown of each method as a bar from 1, sorted, with its interval, and the ideal as a mark.

    ValueError where fewer than two methods were timed with the baseline.
    """
    others = timing[unseeded(timing["method"]) != timing["baseline"]]
    frame, absent = others[others["slowdown"].notna()], others[others["slowdown"].isna()]
    missing = left_out(
        absent, ("not timed" if unknown else "no baseline timed with it" for unknown in absent["hours"].isna())
    )
    if frame.empty:
        raise ValueError("no method was timed with the baseline")
    frame = in_series(cells(frame), [*SETTINGS, "unlike"])
    keys = [*(key for key in CONTEXT if key in frame), "series"]
    drawn = over_seeds(frame, keys, slowdown="positive", ideal="positive").drop(columns=["ideal_low", "ideal_high"])
    if len(drawn) < 2:
        raise ValueError("; ".join(["only one method was timed with the baseline", *missing]))
    title, parts = panels(drawn)
    parts = [(words, rows.sort_values("slowdown", kind="stable")) for words, rows in parts]
    baseline = frame["baseline"].iloc[0]
    caption = (
        f"Time of an epoch over that of {baseline}; whiskers are {100 * CONFIDENCE:g} % intervals. "
        f"The mark is the ideal, the ratio of counted operations. {OVER_SEEDS}."
    )
    figure = Plot(joined(f"Slowdown over {baseline}", title), caption, pd.concat([rows for _, rows in parts]), missing)
    names = [[folded(name, 28) for name in rows["series"]] for _, rows in parts]
    most = max(places(own)[-1] for own in names) + 0.5
    for axes, (words, rows), labels in zip(figure.panels(len(parts), 0.6 + _ROW * most, 2), parts, names, strict=True):
        _bars(axes, rows, labels)
        axes.set_ylim(most + 0.1, None)
        logarithmic(axes, "x", pd.concat([drawn["slowdown"], drawn["ideal"], pd.Series([1.0])]))
        axes.set_title(words)
        axes.set_xlabel(f"slowdown over {baseline} (times)")
    # Bars of all panels compare.
    ends = [axes.get_xlim() for axes in figure.axes if axes.axison]
    for axes in figure.axes:
        axes.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
    legend(figure)
    return figure


def _bars(axes: Axes, rows: pd.DataFrame, labels: list[str]) -> None:
    """Draw the bars of one panel, the least slowdown above."""
    at = places(labels)
    axes.barh(at, rows["slowdown"] - 1, left=1.0, height=0.62, color="#9CC3DD", edgecolor="black", lw=0.5)
    bars: dict[str, Any] = {"ls": "", "color": "black", "elinewidth": 0.8, "capsize": 2}
    axes.errorbar(rows["slowdown"], at, xerr=errors(rows, "slowdown"), **bars)
    axes.plot(
        rows["ideal"],
        at,
        "D",
        color="#D55E00",
        mec="black",
        mew=0.5,
        ms=4,
        clip_on=False,
        label="ideal (counted operations)",
    )
    axes.axvline(1, color="black", lw=0.6)
    for place, value in zip(at, rows["slowdown"], strict=True):
        axes.text(1.02, place, f"{value:.3g}", transform=axes.get_yaxis_transform(), va="center", fontsize=7)
    bar_axis(axes, labels)


def scaling(frame: pd.DataFrame) -> Plot:
    """Draw the speedup over one rank with its interval, and the ideal; panels for strong and weak scaling.

    ValueError where fewer than two speedups were measured.
    """
    missing = left_out(absent := frame[frame["speedup"].isna()], ["not timed"] * len(absent))
    known = frame.dropna(subset="speedup").sort_values(["ranks", "nodes"], kind="stable")
    if known.empty:
        raise ValueError("; ".join(["no speedup was measured", *missing]))
    if len(known) < 2:
        raise ValueError("; ".join(["only one speedup was measured", *missing]))
    known = in_series(known.assign(norm="", sigma=0.0, trained_eps=0.0), ["nodes"], numbered=False)
    keys = [*(key for key in CONTEXT if key in known), "kind", "series", "ranks", "nodes"]
    drawn = over_seeds(known, keys, speedup="positive")
    title, parts = panels(drawn.sort_values("kind", kind="stable"), [*CONTEXT, "kind"])
    caption = f"Images per second over those of one rank, with {100 * CONFIDENCE:g} % intervals; dotted: the ideal."
    figure = Plot(joined("Scaling", title), caption, drawn.sort_values([*keys[:-2], "ranks"]), missing)
    styles, most = looks(drawn["series"]), drawn["ranks"].max()
    ticks = sorted({1, *drawn["ranks"]})
    for axes, (words, rows) in zip(figure.panels(len(parts), 2.1), parts, strict=True):
        axes.plot([1, most], [1, most], color="grey", lw=0.8, ls=":", label="ideal")
        for series, own in rows.groupby("series", sort=False):
            axes.errorbar(own["ranks"], own["speedup"], yerr=errors(own, "speedup"), label=series, **styles[series])
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(ticks, list(map(str, ticks)))
        axes.set_title(words)
        axes.set(xlabel="ranks", ylabel="speedup (times)")
    legend(figure)
    return figure
