"""Ratios of times: between what may be compared, paired where both were timed in one process."""

import math
from collections.abc import Collection
from typing import NamedTuple

from bench.cell import StepKey
from bench.manifest.manifest import Manifest
from bench.results.intervals import paired_ratio, welch_ratio
from bench.results.measured import Measured
from bench.results.statistics import NOTHING, Interval
from crt.training.recipe import ARITHMETIC

COMPARED = (
    "device",
    "cpu",
    "driver",
    "python",
    "torch",
    "cuda",
    "ffcv",
    "loader",
    "threads",
    "allocator",
    "world_size",
    "nodes",
)
"""What two times must share before one is divided by the other, beside how their recipes compute."""
FIELDS = (*COMPARED, *ARITHMETIC)


class Ratio(NamedTuple):
    """Ratio of two times, and the mismatched fields that were allowed."""

    interval: Interval
    unlike: tuple[str, ...] = ()


def mismatched_fields(one: Measured, other: Measured, allow: Collection[str] = ()) -> tuple[str, ...]:
    """The allowed fields in which the machines, programs or settings of two times differ.

    ValueError naming the first that differs and is not allowed.
    """
    found = []
    for name in FIELDS:
        if name in ARITHMETIC:
            values = {getattr(m.cell.recipe, name) for m in (one, other)}
        else:
            values = {getattr(start, name) for start in (*one.starts, *other.starts)}
        if len(values) > 1 and name not in allow:
            raise ValueError(
                f"{one.id} and {other.id} cannot be compared: they differ in"
                f" {name}: {', '.join(sorted(map(str, values)))} (--allow {name} compares them, and marks it)"
            )
        found += [name] * (len(values) > 1)
    return tuple(found)


def pairs(m: Measured, base: Measured) -> list[list[float]]:
    """Log-ratios of the times of one image in one replay, of each run the rounds that both have."""
    both = [(m.logs[run], base.logs[run]) for run in sorted(m.runs.keys() & base.runs.keys())]
    return [[mine[turn] - theirs[turn] for turn in sorted(mine.keys() & theirs.keys())] for mine, theirs in both]


def ratio(m: Measured, base: Measured | None, paired: bool, allow: Collection[str] = ()) -> Ratio:
    """Of geometric means, with its interval; ValueError for unlike things that are not allowed."""
    if base is None or not m.runs or not base.runs:
        return Ratio(NOTHING)
    if m is base:
        return Ratio(Interval(1.0, math.nan, math.nan))
    fields = mismatched_fields(m, base, allow)
    return Ratio(paired_ratio(pairs(m, base)) if paired else welch_ratio(m.seconds, base.seconds), fields)


def baseline_as_published(manifest: Manifest, m: Measured) -> Measured | None:
    """The baseline in its own recipe."""
    return next((other for other in m.comparison_group if manifest.is_baseline(other.cell)), None)


def baseline_at(manifest: Manifest, m: Measured, step_key: StepKey) -> Measured | None:
    """The baseline at a step key."""
    for other in m.comparison_group:
        if manifest.is_baseline(other.cell) and other.cell.step_key == step_key:
            return other
    return None


def matching_baseline(manifest: Manifest, m: Measured) -> Measured | None:
    """The baseline that takes as many images to a step, and computes on them in the same way."""
    return baseline_at(manifest, m, m.cell.step_key)
