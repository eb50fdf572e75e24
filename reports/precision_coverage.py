"""Simulated coverage of intervals of ratios whose number of runs is decided by their width."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track
from scipy import special

from bench.manifest.manifest import Timing
from bench.results.intervals import paired_ratio
from bench.results.precision import needed_runs
from bench.results.statistics import CONFIDENCE, wilson
from reports.interval_coverage import BAND, CASES, EPOCH, EPOCHS, OWN, RATIOS, Case, draw

SEED = 21
MOST = 20
"""Most runs of a study (`timing.at_most`)."""
FIRST = (3, 5, 10)
UNTIL = (0.015, 0.03, 0.06)
FIXED = "fixed number of runs, t over runs"
NAIVE = "naive: a look after each run, t over runs"
ONE_LOOK = "number from the first runs, t over all runs"
STAGES = "number from the first runs, Stein's interval (this project)"


def outcomes(logs: np.ndarray, first: int, until: float) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield each rule with the number of runs that it takes, and the low and high ends of the first ratio's interval.

    `logs` are log ratios (replicates, ratios of a study, MOST runs, EPOCHS rounds). Ends are logs.
    """
    means = logs.mean(-1)
    target, timing = np.log1p(until), Timing(runs=first, at_most=MOST, until=until)
    means_so_far, halves = _running(means)
    yield FIXED, *_ends(means_so_far, halves, np.full(len(means), first))
    reached = (halves <= target).all(1)[:, first - 1 :]
    stops = np.where(reached.any(1), first + reached.argmax(1), MOST)
    yield NAIVE, *_ends(means_so_far, halves, stops)
    needed = np.array([needed_runs(study[:, :first].tolist(), timing) for study in means])
    yield ONE_LOOK, *_ends(means_so_far, halves, needed)
    staged = [paired_ratio(study[0, :count].tolist(), first) for study, count in zip(logs, needed, strict=True)]
    low, high = np.log([(interval.low, interval.high) for interval in staged]).T
    yield STAGES, needed, low, high


def _running(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first n runs, and the half-width of Student's t interval, for each n from 1."""
    n = np.arange(1, MOST + 1)
    mean = means.cumsum(-1) / n
    df = np.maximum(n - 1, 1)
    variance = ((means**2).cumsum(-1) - n * mean**2) / df
    halves = special.stdtrit(df, (1 + CONFIDENCE) / 2) * np.sqrt(np.maximum(variance, 0) / n)
    return mean, np.where(n > 1, halves, np.inf)


def _ends(mean: np.ndarray, halves: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The number of runs, and the ends of the first ratio's interval after that many."""
    place = np.arange(len(stops)), 0, stops - 1
    return stops, mean[place] - halves[place], mean[place] + halves[place]


def simulate(case: Case, ratios: int, replicates: int) -> list[dict]:
    """A row for each rule, number of first runs and precision, in studies of so many ratios."""
    rng = np.random.default_rng([SEED, CASES.index(case), ratios])
    paired = draw(rng, case, MOST, replicates).paired[:, :ratios]
    logs = np.log(paired[:, :, 0] / paired[:, :, 1])
    rows = []
    for first, until in product(FIRST, UNTIL):
        for rule, runs, low, high in outcomes(logs, first, until):
            truth = np.log(RATIOS[0])
            coverage = wilson(int(((low <= truth) & (truth <= high)).sum()), replicates)
            row = {"rule": rule, "first": first, "until": until, "ratios": ratios, "phi": case.phi, "host": case.host}
            row |= {"replicates": replicates, "coverage": coverage.mean}
            row |= {"coverage_low": coverage.low, "coverage_high": coverage.high, "runs": runs.mean()}
            # A bound on rounding: the number of runs is decided to give exactly this width.
            narrow = np.expm1((high - low) / 2) <= until * (1 + 1e-9)
            rows.append(row | {"width": float(np.median(np.expm1((high - low) / 2))), "reached": narrow.mean()})
    return rows


def publish(replicates: int, out: Path) -> None:
    """Simulate, and write the coverage to precision.md and .csv in the folder `out`."""
    blocks = track(list(product(CASES, (1, len(RATIOS)))), "Simulating precision on demand")
    frame = pd.DataFrame([row for case, ratios in blocks for row in simulate(case, ratios, replicates)])
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "precision.csv", index=False, float_format="%.5g")
    page = _PAGE.format(
        one=_table(frame[frame["ratios"] == 1]),
        several=_table(frame[frame["ratios"] > 1]),
        worst=_worst(frame),
        replicates=replicates,
        seed=SEED,
        most=MOST,
        epochs=EPOCHS,
        own=100 * OWN,
        epoch=100 * EPOCH,
        ratios=len(RATIOS),
        low=100 * BAND[0],
        high=100 * BAND[1],
    )
    (out / "precision.md").write_text(page, encoding="utf-8")


def _table(frame: pd.DataFrame) -> str:
    """Coverage of each rule by case, with the mean number of runs and the share of studies that reach the precision."""
    heads = ["rule", "first runs", "until", *(case.label for case in CASES), "runs", "reached, %"]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for (rule, first, until), rows in frame.groupby(["rule", "first", "until"], sort=False):
        row = rows.set_index(["phi", "host"])
        middle = row.loc[(CASES[1].phi, CASES[1].host)]
        coverages = [_marked(row.loc[(case.phi, case.host), "coverage"]) for case in CASES]
        cells = [str(rule), str(first), f"±{100 * until:g} %", *coverages]
        lines.append(" | ".join([*cells, f"{middle['runs']:.1f}", f"{100 * middle['reached']:.0f}"]))
    return "\n".join(f"| {line} |" for line in lines)


def _marked(coverage: float) -> str:
    text = f"{100 * coverage:.1f}"
    return text if BAND[0] <= coverage <= BAND[1] else f"**{text}**"


def _worst(frame: pd.DataFrame) -> str:
    lowest = frame.groupby("rule", sort=False)["coverage"].agg(["min", "max"])
    return "\n".join(f"- {rule}: {100 * row['min']:.1f} to {100 * row['max']:.1f} %" for rule, row in lowest.iterrows())


_PAGE = """# Do intervals keep their coverage when their width decides the number of runs?

`timing: {{runs: 3, until: 2%, at_most: 20}}` adds runs until the interval of every ratio of a study is narrow. A rule
that looks at the interval after every run and stops at the first that is narrow enough stops too often where the runs
agree by chance: the interval then misses the true value more often than 5 % of the time. This page shows by how much,
and that the rule of this project does not.

## The rule

The spread of the first `runs` runs decides, once, the number of all (Stein, *A two-sample test for a linear
hypothesis whose power is independent of the variance*, 1945): with s the standard deviation of their mean log ratios
and t Student's quantile with `runs` - 1 degrees of freedom, (t s / log(1 + until))² runs, at most `at_most`; with
several ratios, the largest number counts. The interval is mean ± t s / √n, with the mean over all n runs and the s of
the first. For normal log ratios s is independent of the mean of all runs however many they are, so the coverage is
exactly 95 %, also for studies that end at `at_most`.

## The simulation

{replicates:,} studies for each number, the model of [intervals.md](intervals.md): paired log ratios, an effect of
each run (sd {own:g} % for each arm), epochs (sd {epoch:g} %, AR(1) with autocorrelation φ), {epochs} epochs a run, at
most {most} runs. Functions of `bench/results` decide and compute. Rules beside it: no rule at all; the naive one; and
the number from the first runs with the ordinary t interval over all runs. Coverage in %, bold outside {low:g} to
{high:g} %; *runs* is the mean number, and *reached* the share of studies with an interval as narrow as asked, both at
φ = 0.5.

Smallest and largest coverage of each rule over all cases:

{worst}

### One ratio

{one}

### {ratios} ratios, which all must be narrow enough; the coverage is that of the first

{several}

## Conclusions

- **Stopping at the first narrow interval loses coverage,** most with few first runs and a precision that needs some
  more.
- **To compute the number once is not enough:** the ordinary interval over all runs is too narrow where the first runs
  agreed.
- **Stein's interval keeps it,** with any number of first runs. Its price is width: it knows the spread from the first
  runs alone. With three of them t is 4.3, with five 2.8, with ten 2.3: the same precision needs fewer runs in all
  with more first runs, unless three are enough.
- A study that ends at `at_most` has a valid interval, which is wider than asked; the report says so.

## How to reproduce it

`python -m reports.coverage --replicates {replicates}`, seed {seed}. It writes this page and its CSV beside the
others.
"""
