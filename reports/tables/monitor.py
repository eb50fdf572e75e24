"""What was seen of networks while they trained: accuracy and loss over the epochs."""

from itertools import compress

import pandas as pd

from bench.manifest.labels import Names, lineage, varying
from bench.manifest.manifest import Manifest
from bench.results.columns import columns
from bench.results.measured import Measured

_NAMES = ["dataset", "arch", "method", "teacher", "name", "eval", "epoch", "images", "clean", "standing", "loss"]


def monitored(manifest: Manifest, measured: list[Measured]) -> pd.DataFrame:
    """A row a cell, epoch and monitored evaluation, and one of the loss alone where an epoch was not looked at.

    Epochs are of the recipe, from 1 on, each replay counting as one; `standing` is the share that is right at the
    evaluation's eps; `mean_...` is what the evaluation says beside. Cells without a monitor are left out.
    """
    watched = [m for m in measured if m.cell.monitor and m.losses]
    more = [(m.cell.dataset, m.cell.arch, str(m.folder)) for m in watched]
    varies = varying(more)
    rows, names = [], Names(manifest.cells)
    for m, words in zip(watched, more, strict=True):
        method = names.label(m.cell)
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
