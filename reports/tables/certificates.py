"""Certificates by randomized smoothing, one row per image."""

from itertools import compress

import pandas as pd

from bench.manifest.labels import name
from bench.results.measured import Measured
from bench.results.robustness import kind


def certificates(measured: list[Measured]) -> pd.DataFrame:
    """A row per image and certificate: name, right, radius, and pA_low where it was estimated.

    The name has the architecture, the method, and the settings in which the certificates differ.
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
        }
        for (m, spec), words in zip(certified, settings, strict=True)
        for verdict in m.verdicts.get(spec.id, {}).values()
    ]
    return pd.DataFrame(rows, columns=["name", "right", "radius", "pA_low"])
