"""Figures of curves: certified accuracy over the radius, bounds of probability, and training over epochs."""

from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.results.statistics import wilson
from bench.results.warnings import several
from reports.figures.draw import Plot, legend, styles, write

_BINS = np.linspace(0.5, 1, 51).tolist()


def certified(frame: pd.DataFrame, path: Path) -> list[str]:
    """Draw the share of images that are right and certified up to each radius, with Wilson's interval.

    Returns a line for each reason to leave cells out. ValueError where nothing was certified.
    """
    return write(_certified, frame, path)


def likelihood(frame: pd.DataFrame, path: Path) -> list[str]:
    """Draw a histogram of the lower bounds of the right class's probability, over all evaluated images.

    Returns a line for each reason to leave cells out. ValueError where nothing was certified.
    """
    return write(_likelihood, frame, path)


def training(frame: pd.DataFrame, path: Path) -> list[str]:
    """Draw accuracy (solid) and accuracy at eps (dashed) over the epochs, and the training loss below them.

    A panel between them shows the loss on test images (solid) and that of the worst logits at eps (dashed), where
    evaluations measure these. Returns a line for each reason to leave cells out. ValueError where no network was
    monitored.
    """
    return write(_training, frame, path)


def _groups(frame: pd.DataFrame):
    if frame.empty:
        raise ValueError("Smoothing has evaluated no image")
    return zip(frame.groupby("name", sort=False), (style["color"] for style in styles()), strict=False)


def _certified(frame: pd.DataFrame) -> Plot:
    figure = Plot(2.4)
    axes = figure.subplots()
    for (label, rows), color in _groups(frame):
        radii = np.sort(rows["radius"][rows["right"]])
        ends = np.unique(np.append(0.0, radii))
        # Each step has the share of its right end; past the last step the share is 0.
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
    evaluated = frame.dropna(subset="clean")
    if evaluated.empty:
        raise ValueError("no network was monitored during training")
    bounded = "mean_worst_loss" in evaluated and bool(evaluated["mean_worst_loss"].notna().any())
    waiting = [name for name in frame["name"].unique() if name not in set(evaluated["name"])]
    missing = [f"{several(waiting)}: not evaluated yet, only the loss is known"] if waiting else []
    figure = Plot(4.8 if bounded else 3.6, missing)
    accuracy, *middle, loss = figure.subplots(3 if bounded else 2, sharex=True)
    dashes = dict(zip(evaluated["eval"].unique(), cycle(("--", ":", "-."))))
    for (name, rows), style in zip(frame.groupby("name", sort=False), styles(), strict=False):
        once = rows.drop_duplicates("epoch")
        clean = once.dropna(subset="clean")
        accuracy.plot(clean["epoch"], 100 * clean["clean"], color=style["color"], label=name)
        loss.plot(once["epoch"], once["loss"], color=style["color"])
        for evaluation, own in rows.groupby("eval", sort=False):
            accuracy.plot(own["epoch"], 100 * own["standing"], color=style["color"], ls=dashes[evaluation])
            for panel in middle:
                _losses(panel, own.dropna(subset="mean_worst_loss"), style["color"], dashes[evaluation])
    for evaluation, dash in dashes.items():
        accuracy.plot([], [], color="grey", ls=dash, label=f"at eps, {evaluation}")
    accuracy.set(ylabel="accuracy (%)", ylim=(0, None))
    for panel in middle:
        panel.set(ylabel="test loss", yscale="log")
    loss.set(xlabel="epoch", ylabel="training loss")
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure)
    return figure


def _losses(panel: Axes, rows: pd.DataFrame, colour: str, dash: str) -> None:
    """Draw the losses of one network under one evaluation."""
    if not rows.empty:
        panel.plot(rows["epoch"], rows["mean_loss"], color=colour)
        panel.plot(rows["epoch"], rows["mean_worst_loss"], color=colour, ls=dash)
