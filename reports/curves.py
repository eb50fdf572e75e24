"""Figures of certificates: certified accuracy over the radius, and how likely the certified class was found to be."""

from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reports.load import Measured
from reports.plots import WIDTH, legend, styles, write
from reports.stats import wilson
from reports.tables import name

_BINS = np.linspace(0.5, 1, 51)


def certificates(measured: list[Measured]) -> pd.DataFrame:
    """A row an image and certificate by smoothing: name, right, radius, and pA_low where it was estimated.

    The name is of the architecture and method, and of what else tells one certificate from another here.
    """
    found = [(m, spec) for m in measured for spec in m.cell.evals if spec.name == "Smoothing"]
    more = [(spec.label, f"sigma {m.cell.threat.sigma:g}", str(m.folder)) for m, spec in found]
    varies = [len(set(values)) > 1 for values in zip(*more, strict=True)]
    rows = [
        {
            "name": ", ".join([f"{m.cell.arch} {name(m.cell)}", *compress(words, varies)]),
            "right": verdict.prediction == verdict.label,
            "radius": verdict.radius,
            "pA_low": verdict.details.get("pA_low"),
        }
        for (m, spec), words in zip(found, more, strict=True)
        for verdict in m.verdicts.get(spec.id, {}).values()
    ]
    return pd.DataFrame(rows, columns=["name", "right", "radius", "pA_low"])


def certified(frame: pd.DataFrame, path: Path) -> None:
    """Share of images that are right and certified at least at each radius, with Wilson's interval at each.

    ValueError where nothing was certified.
    """
    write(_certified, frame, path)


def likelihood(frame: pd.DataFrame, path: Path) -> None:
    """How many images, of all judged, have which lower bound of the right class's probability.

    ValueError where nothing was certified.
    """
    write(_likelihood, frame, path)


def _groups(frame: pd.DataFrame):
    if frame.empty:
        raise ValueError("no certificates to draw: no image was judged by Smoothing")
    return zip(frame.groupby("name", sort=False), (style["color"] for style in styles()), strict=False)


def _figure() -> Figure:
    return Figure(figsize=(WIDTH, 2.4), layout="constrained")


def _certified(frame: pd.DataFrame) -> Figure:
    figure = _figure()
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


def _likelihood(frame: pd.DataFrame) -> Figure:
    figure = _figure()
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
