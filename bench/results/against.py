"""Times of the same cells at two versions of the code, or in two runs folders: which became slower or faster."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bench.manifest.manifest import Manifest
from bench.results.intervals import welch_ratio, welch_test
from bench.results.loading import load
from bench.results.measured import Measured
from bench.results.seeds import holm
from bench.results.statistics import Interval

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
    p: float
    """P-value of no change, by the same t, adjusted for the number of cells (Holm); NaN without an interval."""

    @property
    def verdict(self) -> str:
        """Word for the change."""
        if math.isnan(self.p):
            return "too few runs"
        if self.p > LEVEL:
            return "no change shown"
        return "slower" if self.ratio.mean > 1 else "faster"


def changes(now: Iterable[Measured], before: Iterable[Measured]) -> list[Change]:
    """The cells that both were timed, in the order of `now`."""
    new, old = _by_cell(now), _by_cell(before)
    common = [key for key in new if key in old]
    times = [[[run for m in part[key] for run in m.seconds if run] for part in (new, old)] for key in common]
    tests = [welch_test(*pair) if all(len(runs) > 1 for runs in pair) else math.nan for pair in times]
    known = [k for k, p in enumerate(tests) if not math.isnan(p)]
    adjusted = dict(zip(known, holm([tests[k] for k in known]), strict=True))
    return [
        Change(
            tuple(new[key]),
            tuple(old[key]),
            (len(pair[0]), len(pair[1])),
            welch_ratio(*pair),
            adjusted.get(k, math.nan),
        )
        for k, (key, pair) in enumerate(zip(common, times, strict=True))
    ]


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
    runs = [run for run in m.runs if (m.started[run].commit == commit) is same]
    return replace(m, runs={run: m.runs[run] for run in runs}, started={run: m.started[run] for run in runs})
