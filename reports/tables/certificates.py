"""Certificates by randomized smoothing, one row per image."""

from itertools import compress

import pandas as pd

from bench.manifest.labels import name
from bench.results.measured import Measured
from bench.results.robustness import grid, kind

_NAMES = ["name", "right", "radius", "pA_low", "image", "cell", "evaluation_id", "folder", "eval", "seed", "n", "nA"]


def certificates(measured: list[Measured]) -> pd.DataFrame:
    """A row per image and certificate: name, right, radius, pA_low and its counts where it was estimated, and its cell.

    The name has the architecture, the method, and the settings in which the certificates differ. `image` is the index
    of the image in the test set; `cell`, `evaluation_id` and `folder` are those of the tidy observations. Where a grid
    of radii ends the draws early, `drawn` is the number of draws that estimate the image's certificate.
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
            # The draws of a grid end by what they show, so that their share of hits is no estimate of p.
            "n": None if grid(spec) else verdict.details.get("n"),
            "nA": None if grid(spec) else verdict.details.get("nA"),
            "drawn": verdict.details.get("drawn"),
        }
        for (m, spec), words in zip(certified, settings, strict=True)
        for verdict in m.verdicts.get(spec.id, {}).values()
    ]
    early = any(grid(spec) for _, spec in certified)
    return pd.DataFrame(rows, columns=[*_NAMES, *["drawn"] * early])
