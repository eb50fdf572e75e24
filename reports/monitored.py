"""What was seen of networks while they trained: accuracy and loss over the epochs."""

from itertools import compress, cycle
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.tables import Manifest
from reports.couples import called, varying
from reports.load import Measured
from reports.plots import WIDTH, legend, styles, write
from reports.tables import columns, lineage

_NAMES = ["dataset", "arch", "method", "teacher", "name", "eval", "epoch", "images", "clean", "standing", "loss"]


def monitored(manifest: Manifest, measured: list[Measured]) -> pd.DataFrame:
    """A row a cell, epoch and monitored evaluation, and one of the loss alone where an epoch was not looked at.

    Epochs are of the recipe, from 1 on, each replay counting as one; `standing` is the share that is right at the
    evaluation's eps; `mean_...` is what the evaluation says beside. Cells without a monitor are left out.
    """
    watched = [m for m in measured if m.cell.monitor and m.losses]
    more = [(m.cell.dataset, m.cell.arch, str(m.folder)) for m in watched]
    varies = varying(more)
    rows = []
    for m, words in zip(watched, more, strict=True):
        method = called(m.cell, manifest.cells)
        row = {"dataset": m.cell.dataset, "arch": m.cell.arch, "method": method, "teacher": lineage(m.cell.teacher)}
        row |= {"name": ", ".join([method, *compress(words, varies)]), "folder": str(m.folder)}
        for epoch, loss in sorted(m.losses.items()):
            seen = row | {"epoch": (epoch + 1) * m.cell.replays, "loss": loss}
            rows += [seen | one for one in _seen(m, epoch)] or [seen]
    means = dict.fromkeys(key for row in rows for key in row if key.startswith("mean_"))
    return pd.DataFrame(rows, columns=columns([*_NAMES, *means], measured))


def _seen(m: Measured, epoch: int) -> list[dict]:
    """What each monitored evaluation saw after the epoch."""
    found = [(spec, m.curves.get((spec.id, epoch))) for spec in m.cell.monitor.evals]
    return [
        {"eval": spec.label, "images": curve.images, "clean": curve.right, "standing": curve.standing}
        | {f"mean_{key}": value for key, value in curve.details.items()}
        for spec, curve in found
        if curve
    ]


def curves(frame: pd.DataFrame, path: Path) -> None:
    """Accuracy (solid) and accuracy at eps (broken) over the epochs, and below them the training loss.

    Between them, where evaluations tell it, the loss of test images (solid) and that of worst logits at eps (broken).
    ValueError where no network was monitored.
    """
    write(_curves, frame, path)


def _curves(frame: pd.DataFrame) -> Figure:
    seen = frame.dropna(subset="clean")
    if seen.empty:
        raise ValueError("no curves to draw: no network was monitored while it trained")
    bounded = "mean_worst_loss" in seen and bool(seen["mean_worst_loss"].notna().any())
    figure = Figure(figsize=(WIDTH, 4.8 if bounded else 3.6), layout="constrained")
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
