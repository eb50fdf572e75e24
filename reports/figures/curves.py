"""Figures of curves: certified accuracy over the radius, bounds of probability, and training over its epochs."""

from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.results.statistics import wilson
from bench.results.warnings import several
from reports.figures.draw import Plot, legend, styles, write

_BINS = np.linspace(0.5, 1, 51)


def certified(frame: pd.DataFrame, path: Path) -> list[str]:
    """Share of images that are right and certified at least at each radius, with Wilson's interval at each.

    Returns what is left out, and why. ValueError where nothing was certified.
    """
    return write(_certified, frame, path)


def likelihood(frame: pd.DataFrame, path: Path) -> list[str]:
    """How many images, of all judged, have which lower bound of the right class's probability.

    Returns what is left out, and why. ValueError where nothing was certified.
    """
    return write(_likelihood, frame, path)


def training(frame: pd.DataFrame, path: Path) -> list[str]:
    """Accuracy (solid) and accuracy at eps (broken) over the epochs, and below them the training loss.

    Between them, where evaluations tell it, the loss of test images (solid) and that of worst logits at eps (broken).
    Returns what is left out, and why. ValueError where no network was monitored.
    """
    return write(_training, frame, path)


def _groups(frame: pd.DataFrame):
    if frame.empty:
        raise ValueError("no certificates to draw: no image was judged by Smoothing")
    return zip(frame.groupby("name", sort=False), (style["color"] for style in styles()), strict=False)


def _certified(frame: pd.DataFrame) -> Plot:
    figure = Plot(2.4)
    axes = figure.subplots()
    for (label, rows), color in _groups(frame):
        radii = np.sort(rows["radius"][rows["right"]])
        ends = np.unique(np.append(0.0, radii))
        # The share is that at the right end of each step, and 0 past the last.
        counts = len(radii) - np.searchsorted(radii, ends)
        shares = 100 * np.array([wilson(int(count), len(rows)) for count in counts])
        axes.step(np.append(ends, ends[-1]), np.append(shares[:, 0], 0.0), where="pre", color=color, label=label)
        axes.fill_between(ends, shares[:, 1], shares[:, 2], step="pre", color=color, alpha=0.2, lw=0)
    axes.set(xlabel="$\\ell_2$ radius", ylabel="certified accuracy (%)", xlim=(0, None), ylim=(0, None))
    legend(figure)
    return figure


def _likelihood(frame: pd.DataFrame) -> Plot:
    figure = Plot(2.4)
    axes = figure.subplots()
    for (label, rows), color in _groups(frame):
        bounds = rows["pA_low"][rows["right"]].dropna()
        label = f"{label}: {100 * (1 - len(bounds) / len(rows)):.1f} % not certified"
        axes.hist(
            bounds, _BINS, weights=np.full(len(bounds), 100 / len(rows)), histtype="step", color=color, label=label
        )
    axes.set(xlabel="lower bound of the class's probability", ylabel="images (%)", xlim=(0.5, 1))
    legend(figure)
    return figure


def _training(frame: pd.DataFrame) -> Plot:
    seen = frame.dropna(subset="clean")
    if seen.empty:
        raise ValueError("no curves to draw: no network was monitored while it trained")
    bounded = "mean_worst_loss" in seen and bool(seen["mean_worst_loss"].notna().any())
    unseen = [name for name in frame["name"].unique() if name not in set(seen["name"])]
    missing = [f"{several(unseen)}: not looked at yet, but for the loss"] if unseen else []
    figure = Plot(4.8 if bounded else 3.6, missing)
    accuracy, *middle, loss = figure.subplots(3 if bounded else 2, sharex=True)
    dashes = dict(zip(seen["eval"].unique(), cycle(("--", ":", "-."))))
    for (name, rows), style in zip(frame.groupby("name", sort=False), styles(), strict=False):
        once = rows.drop_duplicates("epoch")
        clean = once.dropna(subset="clean")
        accuracy.plot(clean["epoch"], 100 * clean["clean"], color=style["color"], label=name)
        loss.plot(once["epoch"], once["loss"], color=style["color"])
        for judge, own in rows.groupby("eval", sort=False):
            accuracy.plot(own["epoch"], 100 * own["standing"], color=style["color"], ls=dashes[judge])
            for panel in middle:
                _losses(panel, own.dropna(subset="mean_worst_loss"), style["color"], dashes[judge])
    for judge, dash in dashes.items():
        accuracy.plot([], [], color="grey", ls=dash, label=f"at eps, {judge}")
    accuracy.set(ylabel="accuracy (%)", ylim=(0, None))
    for panel in middle:
        panel.set(ylabel="test loss", yscale="log")
    loss.set(xlabel="epoch", ylabel="training loss")
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure)
    return figure


def _losses(panel: Axes, rows: pd.DataFrame, colour: str, dash: str) -> None:
    """Of one network by one evaluation."""
    if not rows.empty:
        panel.plot(rows["epoch"], rows["mean_loss"], color=colour)
        panel.plot(rows["epoch"], rows["mean_worst_loss"], color=colour, ls=dash)
