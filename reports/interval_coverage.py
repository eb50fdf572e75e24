"""Simulated coverage of the intervals of bench.results.intervals."""

from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track
from scipy.signal import lfilter

from bench.results import intervals as stats
from bench.results.statistics import Interval, mean_ci, wilson

SEED = 20
RATIOS = (8.0, 2.0, 4.0, 16.0)
"""True ratio of each architecture; intervals of a single ratio use the first."""
SECONDS, EPOCHS = 10.0, 10
OWN = EPOCH = 0.02
COUNTS = (1, 2, 3, 5, 10)
BAND = (0.93, 0.97)


class Case(NamedTuple):
    """Autocorrelation of a run's epochs, and the sd of the level and of the drift that a host adds to its runs."""

    phi: float
    host: float = 0.0

    @property
    def label(self) -> str:
        return f"φ = {self.phi:g}" + (f", host {100 * self.host:g} %" if self.host else "")


class Draws(NamedTuple):
    """Seconds by replicate, architecture, arm (method, baseline), run and epoch.

    `paired`: both arms in one process; `separate`: one process per arm; `own`: expected mean of each run of `separate`.
    """

    paired: np.ndarray
    separate: np.ndarray
    own: np.ndarray


CASES = (Case(0.0), Case(0.5), Case(0.9), Case(0.5, host=0.05))
_DRIFT = np.linspace(-0.5, 0.5, EPOCHS)


def draw(rng: np.random.Generator, case: Case, runs: int, replicates: int) -> Draws:
    """Draw times: log t = log mean + effect of the run + AR(1) over epochs + level and linear drift of the host.

    All terms are normal.
    """
    shape = (replicates, len(RATIOS), 2, runs, EPOCHS)
    effect = lambda: rng.normal(size=(*shape[:-1], 1))  # noqa: E731
    steady = np.sqrt(1 - case.phi**2)
    noise = rng.normal(size=shape)
    noise[..., 0] /= steady
    noise = EPOCH * lfilter([steady], [1, -case.phi], noise)
    level = np.log(SECONDS * np.array([RATIOS, np.ones(len(RATIOS))]).T)[..., None, None] + OWN * effect()
    host = case.host * (effect() + effect() * _DRIFT)
    own = np.exp(level + host + EPOCH**2 / 2).mean(-1)
    return Draws(np.exp(level + host[:, :, :1] + noise), np.exp(level + host + noise), own)


def intervals(
    paired: np.ndarray, separate: np.ndarray, own: np.ndarray, case: Case
) -> dict[str, tuple[Interval, float]]:
    """Each interval of one replicate, and the true value it should contain."""
    method, baseline = separate[0]
    variance = OWN**2 + EPOCH**2 + case.host**2 * (1 + _DRIFT**2)
    long_run = SECONDS * float(np.exp(variance / 2).mean())
    if len(baseline) < stats.RUNS:
        within, pooled = stats.nested_ci(baseline), mean_ci(baseline.ravel())
        truth = own[0, 1].mean()
        return {
            "within runs, of their own mean": (within, truth),
            "within runs, of the long-run mean": (within, long_run),
            "naive: epochs as independent, of their own mean": (pooled, truth),
        }
    logs = np.log(paired[:, 0] / paired[:, 1])
    naive = Interval(*np.exp(mean_ci(logs[0].ravel())))
    return {
        "seconds: t over run means": (stats.runs_ci(baseline), long_run),
        "ratio: paired logs, t over runs": (stats.paired_ratio(logs[0]), RATIOS[0]),
        "ratio: log-Welch, separate processes": (stats.welch_ratio(method, baseline), RATIOS[0]),
        "ratio: log-Welch, pairs ignored": (stats.welch_ratio(*paired[0]), RATIOS[0]),
        "ratio: Fieller, separate processes": (stats.fieller_ratio(method, baseline), RATIOS[0]),
        "mean of 4 ratios, geometric": (stats.mean_ratio(list(logs), "geometric"), np.exp(np.log(RATIOS).mean())),
        "mean of 4 ratios, arithmetic": (stats.mean_ratio(list(logs), "arithmetic"), np.mean(RATIOS)),
        "naive: seconds, all epochs pooled": (mean_ci(baseline.ravel()), long_run),
        "naive: paired logs, all epochs pooled": (naive, RATIOS[0]),
    }


def simulate(case: Case, runs: int, replicates: int) -> list[dict]:
    """A row per interval: its coverage with Wilson's interval, and its median width relative to the true value."""
    rng = np.random.default_rng([SEED, CASES.index(case), runs])
    outcomes: dict[str, list[tuple[bool, float]]] = {}
    for replicate in zip(*draw(rng, case, runs, replicates), strict=True):
        for name, (interval, truth) in intervals(*replicate, case).items():
            holds = interval.low <= truth <= interval.high
            outcomes.setdefault(name, []).append((holds, (interval.high - interval.low) / truth))
    rows = []
    for name, results in outcomes.items():
        held, widths = zip(*results, strict=True)
        coverage = wilson(sum(held), replicates)
        row = {"interval": name, "runs": runs, "phi": case.phi, "host": case.host, "replicates": replicates}
        row |= {"coverage": coverage.mean, "coverage_low": coverage.low, "coverage_high": coverage.high}
        rows.append(row | {"width": float(np.median(widths))})
    return rows


def publish(replicates: int, out: Path) -> None:
    """Simulate, and write the coverage to intervals.md, .csv and .png in the folder `out`."""
    blocks = track(list(product(CASES, COUNTS)), "Simulating")
    frame = pd.DataFrame([row for case, runs in blocks for row in simulate(case, runs, replicates)])
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "intervals.csv", index=False, float_format="%.5g")
    _plot(frame, out / "intervals.png")
    (out / "intervals.md").write_text(_page(frame, replicates), encoding="utf-8")


def _page(frame: pd.DataFrame, replicates: int) -> str:
    return _PAGE.format(
        table=_table(frame),
        replicates=replicates,
        seed=SEED,
        epochs=EPOCHS,
        own=100 * OWN,
        epoch=100 * EPOCH,
        host=100 * max(case.host for case in CASES),
        ratio=RATIOS[0],
        ratios=", ".join(f"{ratio:g}" for ratio in sorted(RATIOS)),
        low=100 * BAND[0],
        high=100 * BAND[1],
    )


def _plot(frame: pd.DataFrame, file: Path) -> None:
    names = list(frame.sort_values("runs", kind="stable")["interval"].unique())[::-1]
    figure = Figure(figsize=(13, 5.5), layout="constrained")
    axes = figure.subplots(1, len(CASES), sharex=True, sharey=True)
    for axis, case in zip(axes, CASES, strict=True):
        axis.axvspan(*BAND, color="0.88")
        axis.axvline(stats.CONFIDENCE, color="0.6", linewidth=0.8)
        for k, runs in enumerate(COUNTS):
            rows = frame[(frame["phi"] == case.phi) & (frame["host"] == case.host) & (frame["runs"] == runs)]
            ends = np.abs(rows[["coverage_low", "coverage_high"]].to_numpy().T - rows["coverage"].to_numpy())
            heights = [names.index(name) + 0.15 * (2 - k) for name in rows["interval"]]
            axis.errorbar(rows["coverage"], heights, xerr=ends, fmt="o", markersize=3, label=f"{runs}")
        axis.set_title(case.label, fontsize=10)
        axis.set_xlabel("coverage")
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), title="runs", loc="outside right upper")
    figure.savefig(file, dpi=110)


def _table(frame: pd.DataFrame) -> str:
    heads = ["interval", "runs", *(case.label for case in CASES), "width, %", "width, %, host"]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for (name, runs), rows in frame.sort_values("runs", kind="stable").groupby(["interval", "runs"], sort=False):
        widths = rows[rows["phi"] == CASES[1].phi]["width"]
        cells = [name, str(runs), *map(_cell, rows.itertuples()), *(f"{100 * width:.1f}" for width in widths)]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(row) -> str:
    coverage, low, high = (f"{100 * value:.1f}" for value in (row.coverage, row.coverage_low, row.coverage_high))
    marked = coverage if BAND[0] <= row.coverage <= BAND[1] else f"**{coverage}**"
    return f"{marked} [{low}, {high}]"


_PAGE = """# Do the intervals contain the true value?

This page applies the functions of `bench/results/intervals.py`, which compute this project's intervals, to simulated
times whose true mean is known.
*Coverage* is the share of {replicates:,} simulated studies whose interval contains the true value; a valid 95 %
interval has a coverage near 95 %.

## The model

An epoch's time is log-normal: its logarithm is that of a mean time, plus an effect of the run (a fresh process; sd
{own:g} %, independent for each arm), plus variation from epoch to epoch within the run (sd {epoch:g} %, AR(1) with
autocorrelation φ). A run has {epochs} epochs. In the last case the host adds a level (sd {host:g} %) and a linear drift
over the run (sd {host:g} %). Two arms in one process share both, round by round; arms in separate processes do not.
The true ratio is {ratio:g}; the means are over architectures with the true ratios {ratios}.

## Results

Coverage in %, with its binomial (Wilson) 95 % interval; bold outside {low:g} to {high:g} %. *Width* is the
median width of the interval relative to the true value, at φ = 0.5 without and with the host's effect.
[intervals.csv](intervals.csv) has every number.

{table}

![Coverage of each interval, with binomial bars; the band is {low:g} to {high:g} %](intervals.png)

## Conclusions

- **Three or more fresh runs: trust the interval over run means.** It assumes nothing about the epochs within a run,
  so neither autocorrelation nor drift biases it. Three runs are enough for coverage, not for a narrow interval: with
  five runs it is little more than half as wide.
- **Pooling all epochs of all runs as if independent is wrong,** even where epochs are not autocorrelated: it ignores
  the variation from run to run, and more epochs do not repair that.
- **Ratios: pair them where both arms share a process.** The effect of the host on both
  cancels in the ratio. Times from separate processes need the log-Welch interval; its coverage is as good (a little
  high at three runs), but it is much wider where hosts differ. Log-Welch that ignores the pairs is then far too wide.
  Where hosts add nothing, pairs cost some width at few runs, because they have fewer degrees of freedom.
- **Fieller's interval agrees with log-Welch** and serves as a check on it. Log-Welch is always bounded.
- **Means over architectures** are as good as their parts, geometric or arithmetic.
- **One or two runs: the interval is about the mean of those runs only.** It misses the long-run mean far too
  often, because no number of epochs shows how the next process behaves. Even for its own mean it is a little too wide
  without autocorrelation, and with autocorrelation its coverage can fall below {low:g} %: {epochs} epochs do not
  determine φ well. It is much better than treating epochs as independent. A drifting host looks like autocorrelation,
  and widens the interval.

The model is a simplification: real runs may have heavier tails, and fewer than about ten runs cannot show them.

## How to reproduce it

`python -m reports.coverage --replicates {replicates}`, seed {seed}. It writes this page, the CSV and the plot.
"""
