"""Two networks on the same images: what tells them apart is seen image by image."""

from itertools import combinations

import pandas as pd

from reports.load import Measured
from reports.stats import mcnemar, paired_difference
from reports.tables import columns, lineage, name, named


def comparisons(measured: list[Measured]) -> pd.DataFrame:
    """Of each two cells that the same certificate judged, the difference of ACRs and whether one is right more often.

    The interval is a paired bootstrap's over the images that both were judged on; p is of McNemar's exact test of
    accuracy at radius 0.
    """
    rows = []
    judged = [(m, spec) for m in measured for spec in m.cell.evals if spec.name == "Smoothing"]
    for (one, spec), (other, theirs) in combinations(judged, 2):
        mine, others = one.verdicts.get(spec.id, {}), other.verdicts.get(theirs.id, {})
        both = sorted(mine.keys() & others.keys())
        if spec.id != theirs.id or one.folder != other.folder or one.cell.dataset != other.cell.dataset or not both:
            continue
        verdicts = [[of[index] for index in both] for of in (mine, others)]
        right = [[v.prediction == v.label for v in each] for each in verdicts]
        radii = [[v.radius * (v.prediction == v.label) for v in each] for each in verdicts]
        row = {"dataset": one.cell.dataset, "eval": spec.label, "one": _who(one), "other": _who(other)}
        row |= {"images": len(both), "folder": str(one.folder), "mcnemar_p": mcnemar(*right)}
        rows.append(row | named("acr_difference", paired_difference(*radii)))
    names = ["dataset", "eval", "one", "other", "images", "acr_difference", "acr_difference_low", "acr_difference_high"]
    return pd.DataFrame(rows, columns=columns([*names, "mcnemar_p"], measured))


def _who(m: Measured) -> str:
    teacher = lineage(m.cell.teacher)
    return f"{m.cell.arch} {name(m.cell)}" + (f" from {teacher}" if teacher else "")
