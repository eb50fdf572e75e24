"""The page on the Pareto front's uncertainty: how often its shares name the methods that truly are on the front."""

from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.progress import track
from scipy import special

from bench.results.front import drawn_costs, drawn_means, pareto
from bench.results.statistics import CONFIDENCE, Interval, normal_quantile, wilson

SEED = 23
COUNTS = (1, 2, 3, 5, 10)
LEAST = 0.05
"""Share of draws from which on a method counts as possibly on the front."""
IMAGES, DIFFICULTY, DRAWS = 250, 2.0, 300
COST = 0.01
"""Standard deviation of the logarithm of a cost."""


class Case(NamedTuple):
    """True costs and typical accuracies of methods, and the effect of a seed on the logit."""

    label: str
    costs: tuple[float, ...]
    shares: tuple[float, ...]
    sd: float


CASES = (
    Case("far apart", (1.0, 1.5, 2.0, 4.0), (0.30, 0.50, 0.40, 0.70), 0.1),
    Case("close", (1.0, 1.2, 1.5, 3.0), (0.40, 0.45, 0.43, 0.48), 0.1),
    Case("close, seeds differ more", (1.0, 1.2, 1.5, 3.0), (0.40, 0.45, 0.43, 0.48), 0.3),
    Case("equal accuracies", (1.0, 1.2, 1.5, 3.0), (0.45, 0.45, 0.45, 0.45), 0.3),
)


def publish(studies: int, out: Path) -> None:
    """Simulate half of `studies`, at least 2,000 by default, and write front.md and .csv in the folder `out`."""
    count = max(studies // 2, 1)
    blocks = track(list(product(range(len(CASES)), COUNTS)), "Simulating Pareto fronts")
    frame = pd.DataFrame([simulate(key, seeds, count) for key, seeds in blocks])
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "front.csv", index=False, float_format="%.5g")
    (out / "front.md").write_text(_page(frame, count), encoding="utf-8")


def simulate(key: int, seeds: int, studies: int) -> dict[str, object]:
    """Shares of studies in which the estimated front, and the methods with LEAST or more, hold the true front."""
    case, random = CASES[key], np.random.default_rng([SEED, key, seeds])
    true = pareto(np.array(case.costs), np.array(case.shares))
    naive, ours, sizes = np.zeros(2), np.zeros(2), 0
    width = normal_quantile(CONFIDENCE) * COST
    for _ in range(studies):
        tables = _trainings(case, seeds, random)
        costs = np.array(case.costs) * np.exp(random.normal(0, COST, len(case.costs)))
        estimated = pareto(costs, np.array([table.mean() for table in tables]))
        intervals = [Interval(cost, cost * np.exp(-width), cost * np.exp(width)) for cost in costs]
        means, drawn = drawn_means(tables, True, random, DRAWS), drawn_costs(intervals, random, DRAWS)
        possible = pareto(drawn, means).mean(0) >= LEAST
        naive += [estimated[true].all(), not estimated[~true].any()]
        ours += [possible[true].all(), not possible[~true].any()]
        sizes += possible.sum()
    row: dict[str, object] = {"case": case.label, "seeds": seeds, "studies": studies, "true": int(true.sum())}
    for name, (holds, excludes) in (("naive", naive), ("ours", ours)):
        interval = wilson(int(holds), studies)
        row |= {f"{name}_holds": interval.mean, f"{name}_holds_low": interval.low, f"{name}_holds_high": interval.high}
        row[f"{name}_excludes"] = excludes / studies
    return row | {"size": sizes / studies}


def _trainings(case: Case, seeds: int, random: np.random.Generator) -> list[np.ndarray]:
    """Correctness (seeds, images) of each method: images have a difficulty, trainings an effect of their seed."""
    difficulty = random.normal(0, DIFFICULTY, IMAGES)
    # The mean of a logistic function over normal difficulties, by the usual approximation of its slope.
    slope = np.sqrt(1 + np.pi * (DIFFICULTY**2 + case.sd**2) / 8)
    found = []
    for share in case.shares:
        level = special.logit(share) * slope + random.normal(0, case.sd, (seeds, 1))
        found.append((random.random((seeds, IMAGES)) < special.expit(level - difficulty)).astype(float))
    return found


def _page(frame: pd.DataFrame, studies: int) -> str:
    heads = (
        "case,seeds,methods on the true front,naive holds it,naive excludes others,ours holds it,ours excludes others"
    )
    lines = [" | ".join([*heads.split(","), "size of ours"]), " | ".join(["---"] * 8)]
    for row in frame.itertuples():
        ends = f"[{100 * row.ours_holds_low:.1f}, {100 * row.ours_holds_high:.1f}]"
        numbers = [f"{100 * value:.1f}" for value in (row.naive_holds, row.naive_excludes)]
        numbers += [f"{100 * row.ours_holds:.1f} {ends}", f"{100 * row.ours_excludes:.1f}", f"{row.size:.2f}"]
        lines.append(" | ".join([str(row.case), str(row.seeds), str(row.true), *numbers]))
    table = "\n".join(f"| {line} |" for line in lines)
    several = frame[frame["seeds"] > 1]
    return _PAGE.format(
        studies=studies,
        seed=SEED,
        images=IMAGES,
        difficulty=DIFFICULTY,
        cost=100 * COST,
        draws=DRAWS,
        least=100 * LEAST,
        table=table,
        low=100 * several["ours_holds"].min(),
        naive=100 * several["naive_holds"].min(),
        one=100 * frame[frame["seeds"] == 1]["ours_holds"].min(),
        replicates=2 * studies,
    )


_PAGE = """# Which methods may be on the Pareto front?

A report gives, for each method, the share of bootstrap draws in which no other method is at least as accurate for at
most the cost (`bench/results/front.py`). Methods with {least:g} % or more of the draws may be on the front. This page
shows how often these methods hold the true front, beside the naive way: the front of the estimates.

## The model

Four methods are trained with some seeds each and judged on {images} common images. An image is right with a
probability whose logit is that of the method, plus a normal effect of the seed (sd 0.1 or 0.3), less the image's
difficulty (sd {difficulty:g}). The logarithm of each cost has the sd {cost:g} %. {studies:,} studies for each number,
{draws} draws in each.

## Results

*holds it*: share of studies in which every method of the true front is named, in %, with its binomial 95 % interval.
*excludes others*: share of studies in which no truly dominated method is named. *size*: mean number of named methods.
[front.csv](front.csv) has every number.

{table}

## Conclusions

- With two or more seeds the methods with {least:g} % or more hold the true front in at least {low:.1f} % of the studies
  of every case; the front of the estimates in as few as {naive:.1f} %.
- With one seed they hold it in as few as {one:.1f} %: one training does not show how the next would do.
- The price is that methods which are dominated by little are named, too: shares between {least:g} and 95 % say that
  these measurements cannot tell.

## How to reproduce it

`python -m reports.coverage --replicates {replicates}`, seed {seed}. It writes this page and its CSV beside the others.
"""
