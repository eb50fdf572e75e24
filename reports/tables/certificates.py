"""Certificates by randomized smoothing, one row per image."""

from itertools import compress

import pandas as pd

from bench.manifest.labels import name
from bench.results.measured import Measured
from bench.results.robustness import kind

_NAMES = ["name", "right", "radius", "pA_low", "image", "cell", "evaluation_id", "folder", "eval", "seed", "n", "nA"]


def certificates(measured: list[Measured]) -> pd.DataFrame:
    """A row per image and certificate: name, right, radius, pA_low and its counts where it was estimated, and its cell.

    The name has the architecture, the method, and the settings in which the certificates differ. `image` is the index
    of the image in the test set; `cell`, `evaluation_id` and `folder` are those of the tidy observations.
    """
    certified = [(m, spec) for m in measured for spec in m.cell.evals if kind(spec.name) == "smoothing"]
    settings = [(spec.label, f"sigma {m.cell.threat.sigma:g}", str(m.folder)) for m, spec in certified]
    varies = [len(set(values)) > 1 for values in zip(*settings, strict=True)]
    rows = [
        {
            "name": ", ".join([f"{m.cell.arch} {name(m.cell)}", *compress(words, varies)]),
            "right": verdict.prediction == verdict.label,
            "radius": verdict.radius,
            "pA_low": verdict.details.get("pA_low"),
            "image": verdict.index,
            "cell": m.id,
            "evaluation_id": spec.id,
            "eval": spec.label,
            "seed": m.cell.seed,
            "folder": str(m.folder),
            "n": verdict.details.get("n"),
            "nA": verdict.details.get("nA"),
        }
        for (m, spec), words in zip(certified, settings, strict=True)
        for verdict in m.verdicts.get(spec.id, {}).values()
    ]
    return pd.DataFrame(rows, columns=_NAMES)
