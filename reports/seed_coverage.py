"""The page on the coverage of the intervals over seeds: tables, a plot, and what follows from them."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track

from bench.results.statistics import CONFIDENCE
from reports.seed_model import COLLAPSE, COLLAPSES, DIFFERENCES, DIFFICULTY, MEANS, Case
from reports.seed_simulation import METHODS, SEED, families, simulate

COUNTS = (2, 3, 5, 10)
MANY = (2, 3, 4, 5, 6, 7, 8, 9, 10, 20)
"""Numbers of seeds of the case in which trainings collapse."""
EQUAL = Case("equal methods, independent seeds", sd=0.3)
BAND = (0.93, 0.97)
_GROUPS = ((MEANS, COUNTS, "mean"), ((COLLAPSES,), MANY, "mean, collapses"), (DIFFERENCES, COUNTS, "difference"))
"""Cases, numbers of seeds, and the quantity that is estimated."""
_FAMILIES = "all pairs"


def publish(studies: int, out: Path) -> None:
    """Simulate, and write the coverage to seeds.md, .csv and .png in the folder `out`."""
    frame = pd.DataFrame(list(_simulated(studies)))
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "seeds.csv", index=False, float_format="%.5g")
    _plot(frame, out / "seeds.png")
    (out / "seeds.md").write_text(_page(frame, studies), encoding="utf-8")


def _simulated(studies: int) -> Iterator[dict]:
    blocks = [
        (quantity, case, seeds, key)
        for cases, counts, quantity in _GROUPS
        for (key, case), seeds in product(enumerate(cases), counts)
    ]
    for quantity, case, seeds, key in track(blocks, "Simulating seeds and images"):
        yield from ({"quantity": quantity} | row for row in simulate(case, seeds, studies, key))
    for seeds in track(COUNTS, "Simulating pairs of methods"):
        yield from ({"quantity": _FAMILIES} | row for row in families(EQUAL, seeds, studies))


def _plot(frame: pd.DataFrame, file: Path) -> None:
    figure = Figure(figsize=(13, 6.5), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
    for axis, quantity in zip(axes, ("mean", "difference"), strict=True):
        rows = frame[frame["quantity"] == quantity]
        names = list(rows["interval"].unique())
        cases = list(dict.fromkeys(zip(rows["case"], rows["images"], strict=True)))[::-1]
        axis.axvspan(*BAND, color="0.88")
        axis.axvline(CONFIDENCE, color="0.6", linewidth=0.8)
        for k, name in enumerate(names):
            own = rows[rows["interval"] == name]
            heights = [
                cases.index(each) + 0.8 * (k / len(names) - 0.4)
                for each in zip(own["case"], own["images"], strict=True)
            ]
            axis.scatter(own["coverage"], heights, s=2 + 1.5 * own["seeds"], label=name)
        axis.set_yticks(range(len(cases)), [f"{case}, {images:,} images" for case, images in cases], fontsize=8)
        axis.set_xlabel("coverage")
        axis.set_title(f"{quantity} (larger dots: more seeds)", fontsize=10)
        axis.legend(fontsize=7, loc="lower left")
    figure.savefig(file, dpi=100)


def _table(frame: pd.DataFrame, counts: tuple[int, ...]) -> str:
    """A row for each case and interval, a column for each number of seeds."""
    heads = ["case", "images", "interval", *(f"{seeds} seeds" for seeds in counts)]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for (case, images, name), rows in frame.groupby(["case", "images", "interval"], sort=False):
        lines.append(" | ".join([case, f"{images:,}", name, *map(_cell, rows.itertuples())]))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(row) -> str:
    coverage, low, high = (f"{100 * value:.1f}" for value in (row.coverage, row.coverage_low, row.coverage_high))
    marked = coverage if BAND[0] <= row.coverage <= BAND[1] else f"**{coverage}**"
    return f"{marked} [{low}, {high}]" + ("" if np.isnan(row.width) else f"; {100 * row.width:.1f}")


def _page(frame: pd.DataFrame, studies: int) -> str:
    part = dict(list(frame.groupby("quantity")))
    ours = frame["interval"].isin(["seeds x images", "paired by seed and image"])
    fair = frame[ours & ~frame["case"].str.contains("collapse|large")]
    return _PAGE.format(
        studies=studies,
        seed=SEED,
        difficulty=DIFFICULTY,
        collapse=100 * COLLAPSE,
        methods=METHODS,
        pairs=METHODS * (METHODS - 1) // 2,
        low=100 * BAND[0],
        high=100 * BAND[1],
        least=100 * fair["coverage"].min(),
        most=100 * fair["coverage"].max(),
        mean=_table(part["mean"], COUNTS),
        collapses=_table(part["mean, collapses"], MANY),
        difference=_table(part["difference"], COUNTS),
        families=_table(part[_FAMILIES].drop(columns="width").assign(width=np.nan), COUNTS),
    )


_PAGE = """# Does an interval of a few seeds contain the method's mean?

PLACEHOLDER
"""
