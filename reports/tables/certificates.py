"""Certificates by smoothing, image by image."""

from itertools import compress

import pandas as pd

from bench.manifest.labels import name
from bench.results.measured import Measured
from bench.results.robustness import kind


def certificates(measured: list[Measured]) -> pd.DataFrame:
    """A row an image and certificate by smoothing: name, right, radius, and pA_low where it was estimated.

    The name is of the architecture and method, and of what else tells one certificate from another here.
    """
    found = [(m, spec) for m in measured for spec in m.cell.evals if kind(spec.name) == "smoothing"]
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
