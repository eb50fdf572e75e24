"""Figures of certificates by smoothing: certified accuracy over the radius, and the distribution of p."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.results.accuracy import RADIUS_STEP
from bench.results.statistics import Interval, wilson
from reports.figures.draw import Plot, left_out, legend, looks
from reports.figures.series import CONTEXT, OVER_SEEDS, estimate, in_series, joined, panels, with_cells

_STEPS = 200
"""Most values at which a curve is drawn."""
_DISTRIBUTION = (
    "Share of images that get the right class with at least the probability p under noise, where p is the share of the "
    "counted draws. At the right end, no counted draw changes the class. Bands are 95 % intervals: Wilson's for a "
    f"single seed. {OVER_SEEDS}."
)
_GRID = " Grid certificates decide at their own radii; between two of these, the curve is a lower bound."


def certified(certificates: pd.DataFrame, timing: pd.DataFrame, left_out: list[str]) -> Plot:
    """Draw the share of images that are right and certified up to each radius, with a band.

    ValueError where nothing was certified above radius 0.
    """
    rows = _evaluated(certificates, timing)
    radii = np.unique(rows["radius"][rows["right"]])
    if not radii.size or radii[-1] <= 0:
        raise ValueError("; ".join(["no image is certified at a radius above 0", *left_out]))
    grid = np.union1d(0.0, radii)
    grid = grid if len(grid) <= _STEPS else np.linspace(0, radii[-1], _STEPS + 1)
    drawn = pd.concat([_curve(series, "radius", grid) for series in _series(rows)], ignore_index=True)
    title, parts = panels(drawn)
    caption = (
        "Share of images that are classified correctly and certified up to each radius. Bands are 95 % intervals: "
        f"Wilson's for a single seed. {OVER_SEEDS}."
    ) + _GRID * ("drawn" in rows)
    figure = Plot(joined("Certified accuracy", title), caption, drawn, left_out)
    styles = looks(drawn["series"])
    for number, (axes, (words, panel)) in enumerate(
        zip(figure.panels(len(parts), 2.2, sharey=True), parts, strict=True)
    ):
        for name, curve in panel.groupby("series", sort=False):
            look = styles[name]
            # Each step has the share of its right end; past the last certificate the share is 0.
            ends = curve.loc[: curve["estimate"].gt(0)[::-1].idxmax()]
            axes.step(
                [*ends["radius"], ends["radius"].iloc[-1]],
                [*ends["estimate"], 0.0],
                where="pre",
                color=look["color"],
                ls=look["ls"],
            )
            axes.fill_between(
                ends["radius"], ends["low"], ends["high"], step="pre", color=look["color"], alpha=0.15, lw=0
            )
            marks = ends[np.diff(ends["radius"] // (RADIUS_STEP / 2), prepend=-1) > 0]
            axes.plot(marks["radius"], marks["estimate"], **look | {"ls": ""}, clip_on=False)
            axes.plot([], [], **look, label=name)
        axes.set_title(words)
        axes.set(xlabel="ℓ2 radius", xlim=(0, None), ylim=(0, None))
        if number % min(3, len(parts)) == 0:
            axes.set_ylabel("certified accuracy (%)")
    legend(figure)
    return figure


def probability(certificates: pd.DataFrame, timing: pd.DataFrame) -> Plot:
    """Draw the share of images that are right with at least each p, over 1 - p on a logarithmic axis, with a band.

    ValueError where no record counts the draws of its images.
    """
    rows = _evaluated(certificates, timing)
    # Only right classes are drawn, and only they need counts.
    uncounted = rows["right"] & rows["nA"].isna()
    old = uncounted.groupby([rows[key] for key in _cell(rows)]).transform("any")
    cells = rows[old].drop_duplicates(_cell(rows))
    missing = left_out(cells, ["its records have no count of a fixed number of draws of each image"] * len(cells))
    rows = rows[~old]
    if not rows["right"].any():
        raise ValueError("; ".join(["no record counts the draws of right images", *missing]))
    rows = rows.assign(p=(rows["nA"] - rows["n"]) / rows["n"])
    least = 1 / rows["n"].max()
    misses = np.unique(-rows["p"][rows["right"]])
    if len(misses) > _STEPS:
        misses = np.append(0.0, np.geomspace(least, 0.5, _STEPS))
    drawn = pd.concat([_curve(series, "p", -np.union1d(misses, [0.0, 0.5])[::-1]) for series in _series(rows)])
    drawn = drawn.assign(changed=-drawn["p"], p=1 + drawn["p"]).reset_index(drop=True)
    title, parts = panels(drawn)
    figure = Plot(joined("Distribution of p", title), _DISTRIBUTION, drawn, missing)
    styles = looks(drawn["series"])
    for axes, (words, panel) in zip(figure.panels(len(parts), 2.2, sharey=True), parts, strict=True):
        for name, curve in panel.groupby("series", sort=False):
            _distribution(axes, curve.iloc[::-1], styles[name], least)
            axes.plot([], [], **styles[name], label=name)
        axes.set_title(words)
        axes.set(xscale="log", xlim=(0.5, least / 2), xlabel="1 - p (share of noisy copies)")
    figure.axes[0].set_ylabel("images (%)")
    legend(figure)
    return figure


def _distribution(axes: Axes, curve: pd.DataFrame, look: dict, least: float) -> None:
    """Draw one distribution, whose rows ascend in 1 - p; 0 is drawn at half the least share of draws."""
    x = curve["changed"].clip(lower=least / 2)
    axes.step(x, curve["estimate"], where="post", color=look["color"], ls=look["ls"])
    axes.fill_between(x, curve["low"], curve["high"], step="post", color=look["color"], alpha=0.15, lw=0)
    marks = curve[np.diff(np.floor(4 * np.log10(x)), prepend=-np.inf) > 0]
    axes.plot(marks["changed"].clip(lower=least / 2), marks["estimate"], **look | {"ls": ""}, clip_on=False)


def _evaluated(certificates: pd.DataFrame, timing: pd.DataFrame) -> pd.DataFrame:
    if certificates.empty:
        raise ValueError("Smoothing has evaluated no image")
    # Like every other frame, one of a single runs folder has no column for it.
    certificates = certificates.rename(columns={"cell": "id"})
    rows = with_cells(certificates.drop(columns=[] if "folder" in timing else "folder", errors="ignore"), timing)
    labelled = in_series(rows.drop_duplicates(_cell(rows)))
    evaluations = labelled.groupby("id")["eval"].transform("nunique") > 1
    labelled["series"] = labelled["series"].where(~evaluations, labelled["series"] + ", " + labelled["eval"])
    return rows.merge(labelled[[*_cell(rows), "threat", "series"]], on=_cell(rows))


def _cell(frame: pd.DataFrame) -> list[str]:
    return ["id", "eval", *(["folder"] if "folder" in frame else [])]


def _series(rows: pd.DataFrame) -> Iterator[tuple[dict, str, pd.DataFrame]]:
    keys = [*(key for key in CONTEXT if key in rows), "series"]
    for values, own in rows.groupby(keys, sort=False, dropna=False):
        yield dict(zip(keys[:-1], values[:-1], strict=True)), values[-1], own


def _curve(series: tuple[dict, str, pd.DataFrame], key: str, grid: np.ndarray) -> pd.DataFrame:
    """Share in percent of one series' images that are right with at least each value of the grid, over its seeds."""
    context, name, rows = series
    seeds = []
    for _, own in rows.groupby("seed"):
        values = np.sort(own[key][own["right"]])
        counts = len(values) - np.searchsorted(values, grid)
        seeds.append(counts / len(own))
    # A single seed has the interval of its images.
    if len(seeds) == 1:
        at_radii = [[wilson(int(count), len(own))] for count in counts]
    else:
        at_radii = [[Interval(share, math.nan, math.nan) for share in shares] for shares in np.transpose(seeds)]
    points = [Interval(*(100 * end for end in estimate(at, "share"))) for at in at_radii]
    ends = dict(zip(("estimate", "low", "high"), np.array(points).T, strict=True))
    return pd.DataFrame({**context, "series": name, "seeds": len(seeds), key: grid, **ends})
