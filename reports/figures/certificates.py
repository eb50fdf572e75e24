"""Figure of certificates by smoothing: certified accuracy over the radius."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from bench.results.accuracy import RADIUS_STEP
from bench.results.statistics import Interval, wilson
from reports.figures.draw import Plot, legend, looks
from reports.figures.series import CONTEXT, OVER_SEEDS, estimate, in_series, joined, panels, with_cells

_STEPS = 200
"""Most radii at which a curve is drawn."""


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
    drawn = pd.concat([_curve(series, grid) for series in _series(rows)], ignore_index=True)
    title, parts = panels(drawn)
    caption = (
        "Share of images that are classified correctly and certified up to each radius. Bands are 95 % intervals: "
        f"Wilson's for a single seed. {OVER_SEEDS}."
    )
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


def _curve(series: tuple[dict, str, pd.DataFrame], grid: np.ndarray) -> pd.DataFrame:
    """Certified accuracy in percent of one series at each radius of the grid, over its seeds."""
    context, name, rows = series
    seeds = []
    for _, own in rows.groupby("seed"):
        certified = np.sort(own["radius"][own["right"]])
        counts = len(certified) - np.searchsorted(certified, grid)
        seeds.append(counts / len(own))
    # A single seed has the interval of its images.
    if len(seeds) == 1:
        at_radii = [[wilson(int(count), len(own))] for count in counts]
    else:
        at_radii = [[Interval(share, math.nan, math.nan) for share in shares] for shares in np.transpose(seeds)]
    points = [Interval(*(100 * end for end in estimate(at, "share"))) for at in at_radii]
    ends = dict(zip(("estimate", "low", "high"), np.array(points).T, strict=True))
    return pd.DataFrame({**context, "series": name, "seeds": len(seeds), "radius": grid, **ends})
