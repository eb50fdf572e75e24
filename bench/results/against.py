"""Times of the same cells at two versions of the code, or in two runs folders: which became slower or faster."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from bench.manifest.manifest import Manifest
from bench.results.intervals import welch_ratio, welch_test
from bench.results.loading import load
from bench.results.measured import Measured
from bench.results.ratios import matching_baseline, pairs
from bench.results.seeds import holm
from bench.results.statistics import NOTHING, Interval

Verdict = Literal["slower", "faster", "machine or shared code", "no change shown", "too few runs"]
LEVEL = 0.05
"""Largest adjusted p-value of a change."""
_DIGITS = 7
"""Least number of digits that name a commit."""


class Change(NamedTuple):
    """Times of a cell, all its seeds together, now and before."""

    now: tuple[Measured, ...]
    before: tuple[Measured, ...]
    runs: tuple[int, int]
    """Numbers of runs now and before; each seed's training is a run."""
    ratio: Interval
    """Time now relative to before, by Welch's t of the logs of run means; no interval with one run on either side."""
    slowdown: Interval
    """Slowdown now relative to before, likewise; NOTHING for the baseline, and where it was not timed beside it."""
    p: float
    """P-value of no change of the slowdown, else of the time; NaN without an interval.

    It is adjusted for the number of cells (Holm), of baselines apart from those of others.
    """
    is_reference: bool
    """True for the baseline of a study, whose time alone cannot tell a slower machine from slower code."""

    @property
    def verdict(self) -> Verdict:
        """Word for the change."""
        if math.isnan(self.p):
            return "too few runs"
        if self.p > LEVEL:
            return "no change shown"
        if self.is_reference:
            return "machine or shared code"
        return "slower" if self.decisive.mean > 1 else "faster"

    @property
    def decisive(self) -> Interval:
        """The ratio that the verdict is about."""
        return self.ratio if math.isnan(self.slowdown.mean) else self.slowdown


def changes(manifest: Manifest, now: Iterable[Measured], before: Iterable[Measured]) -> list[Change]:
    """The cells that both were timed, in the order of `now`.

    Runs of one day share the speed that the machine has that day, which no interval over these runs covers. It cancels
    in the ratio to the baseline of the same rounds, so this decides where there is one.
    """
    new, old = _by_cell(now), _by_cell(before)
    found, p_values = [], []
    for key in (key for key in new if key in old):
        pair = new[key], old[key]
        times = [[run for m in part for run in m.seconds if run] for part in pair]
        slowdowns = [[run for m in part for run in _slowdowns(manifest, m)] for part in pair]
        beside = all(slowdowns)
        decisive = slowdowns if beside else times
        p_values.append(welch_test(*decisive) if all(len(runs) > 1 for runs in decisive) else math.nan)
        found.append(
            Change(
                tuple(new[key]),
                tuple(old[key]),
                (len(times[0]), len(times[1])),
                welch_ratio(*times),
                welch_ratio(*slowdowns) if beside else NOTHING,
                math.nan,
                manifest.timing is not None and manifest.is_baseline(new[key][0].cell),
            )
        )
    adjusted: dict[int, float] = {}
    for kind in (False, True):
        known = [k for k, p in enumerate(p_values) if not math.isnan(p) and found[k].is_reference is kind]
        adjusted |= zip(known, holm([p_values[k] for k in known]), strict=True)
    return [change._replace(p=adjusted.get(k, math.nan)) for k, change in enumerate(found)]


def _slowdowns(manifest: Manifest, m: Measured) -> list[list[float]]:
    """Geometric mean over rounds of the time relative to the baseline, by run; empty for the baseline itself."""
    base = matching_baseline(manifest, m)
    if not m.study or base is None or base.id == m.id:
        return []
    return [[math.exp(math.fsum(logs) / len(logs))] for logs in pairs(m, base) if logs]


def _by_cell(measured: Iterable[Measured]) -> dict[tuple, list[Measured]]:
    """The timed ones by study and by their cell without its seed."""
    groups: dict[tuple, list[Measured]] = {}
    for m in measured:
        if m.timed:
            groups.setdefault((m.study, m.cell.seedless.id), []).append(m)
    return groups


def told_apart(manifest: Manifest, measured: list[Measured], against: str) -> tuple[list[Measured], list[Measured]]:
    """The records now, and those before: of the runs folder, or of the commit, that `against` names.

    The records of that commit are taken out of `measured`. ValueError for a name of neither.
    """
    if Path(against).is_dir():
        return measured, load(manifest, [Path(against)])
    commits = sorted({str(start.commit) for m in measured for start in m.started.values() if start.commit})
    named = [commit for commit in commits if commit.startswith(against.lower())]
    if len(against) < _DIGITS or len(named) != 1:
        allowed = ", ".join(["a runs folder", *(commit[:10] for commit in commits)])
        raise ValueError(f"--against {against}: neither a folder nor one recorded commit (allowed: {allowed})")
    return [_of(m, named[0], False) for m in measured], [_of(m, named[0], True) for m in measured]


def _of(m: Measured, commit: str, same: bool) -> Measured:
    """A copy with the runs of a commit, or with the others."""
    commits = {run: m.started[run].commit if run in m.started else None for run in m.runs}
    runs = [run for run in m.runs if (commits[run] == commit) is same]
    started = {run: m.started[run] for run in runs if run in m.started}
    return replace(m, runs={run: m.runs[run] for run in runs}, started=started)
