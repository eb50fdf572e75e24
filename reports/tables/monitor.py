"""Accuracy and loss of monitored networks over the epochs of their training."""

from itertools import compress
from typing import Any

import pandas as pd

from bench.manifest.labels import Names, lineage, varying
from bench.manifest.manifest import Manifest
from bench.results.columns import Source, columns
from bench.results.measured import Measured

_NAMES = ["dataset", "arch", "method", "teacher", "name", "eval", "epoch", "images", "clean", "standing", "loss"]


def monitored(manifest: Manifest, measured: list[Measured]) -> pd.DataFrame:
    """A row per cell, epoch and monitored evaluation; epochs without an evaluation have a row with the loss alone.

    Epochs count from 1, each replay as one; `standing` is the accuracy at the evaluation's eps; `mean_...` are further
    results of the evaluation. Cells without a monitor are left out.
    """
    watched = [m for m in measured if m.cell.monitor and m.losses]
    splits = ("held-out images" if m.cell.held_out else "test images" for m in watched)
    settings = [(m.cell.dataset, m.cell.arch, str(m.folder), split) for m, split in zip(watched, splits, strict=True)]
    varies = varying(settings)
    rows, names = [], Names(manifest.cells)
    for m, words in zip(watched, settings, strict=True):
        method = names.label(m.cell)
        row: dict[str, Any] = {
            "dataset": m.cell.dataset,
            "arch": m.cell.arch,
            "method": method,
            "teacher": lineage(m.cell.teacher),
        }
        row |= {"name": ", ".join([method, *compress(words, varies)]), "folder": str(m.folder)}
        row["source"] = Source(m)
        row |= {"id": m.id, "seed": m.cell.seed}
        for epoch, loss in sorted(m.losses.items()):
            trained = row | {"epoch": (epoch + 1) * m.cell.replays, "loss": loss}
            rows += [trained | result for result in _results(m, epoch)] or [trained]
    means = dict.fromkeys(key for row in rows for key in row if key.startswith("mean_"))
    return pd.DataFrame(rows, columns=columns([*_NAMES, *means, "id", "seed"], measured))


def _results(m: Measured, epoch: int) -> list[dict]:
    """Results of each monitored evaluation after the epoch."""
    evaluations = m.cell.monitor.evals if m.cell.monitor else []
    points = [(spec, m.curves.get((spec.id, epoch))) for spec in evaluations]
    return [
        {
            "eval": spec.label,
            "images": point.images,
            "clean": point.right,
            "standing": point.standing,
            "source": Source(m, spec=spec),
        }
        | {f"mean_{key}": value for key, value in point.details.items()}
        for spec, point in points
        if point
    ]
