"""Ratios of comparable times, paired where both were measured in one process."""

import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

from bench.cell import StepKey
from bench.manifest.manifest import Manifest
from bench.records import Machine, Start
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
"""Fields of a start record that two times must share to be divided, beside ARITHMETIC, those of their recipes."""
FIELDS = (*COMPARED, *ARITHMETIC)


class Ratio(NamedTuple):
    """Ratio of two times, and the allowed fields in which they differ."""

    interval: Interval
    unlike: tuple[str, ...] = ()


def check_fields(allow: Collection[str]) -> None:
    """Raise ValueError for a field that is not compared, so that it cannot be allowed."""
    for name in allow:
        if name not in FIELDS:
            raise ValueError(f"--allow {name}: no such field (allowed: {', '.join(FIELDS)})")


def mismatched_fields(first: Measured, second: Measured, allow: Collection[str] = ()) -> tuple[str, ...]:
    """Allowed fields in which the machine, software or settings of two times differ.

    ValueError naming the first field that differs and is not allowed.
    """
    fields = []
    for name in FIELDS:
        if name in ARITHMETIC:
            values = {getattr(m.cell.recipe, name) for m in (first, second)}
        else:
            values = {value for start in (*first.starts, *second.starts) for value in _values(start, name)}
        if len(values) > 1 and name not in allow:
            raise ValueError(
                f"{first.id} and {second.id} cannot be compared: they differ in"
                f" {name}: {', '.join(sorted(map(str, values)))} (--allow {name} compares them, and marks it)"
            )
        fields += [name] * (len(values) > 1)
    return tuple(fields)


def environment(starts: Iterable[Start], allow: Collection[str] = ()) -> dict[str, str]:
    """Values of the fields that two times must share, by name, without those in `allow`."""
    known = list(starts)
    return {
        name: " and ".join(sorted(set().union(*(_values(start, name) for start in known))))
        for name in COMPARED
        if name not in allow
    }


def _values(start: Start, name: str) -> set[str]:
    """The values of a field in a start record; of a machine's, those of all ranks, joined where they differ."""
    if name not in Machine.model_fields:
        return {str(getattr(start, name))}
    return {" and ".join(sorted({str(getattr(machine, name)) for machine in start.machines}))}


def pairs(m: Measured, base: Measured) -> list[list[float]]:
    """Log-ratios of the times of one image in one replay, by run, over the rounds that both have."""
    both = [(m.logs[run], base.logs[run]) for run in sorted(m.runs.keys() & base.runs.keys())]
    return [[mine[turn] - theirs[turn] for turn in sorted(mine.keys() & theirs.keys())] for mine, theirs in both]


def ratio(m: Measured, base: Measured | None, paired: bool, allow: Collection[str] = ()) -> Ratio:
    """Ratio of geometric means with its interval; ValueError for mismatched fields that are not allowed."""
    if base is None or not m.runs or not base.runs:
        return Ratio(NOTHING)
    if m is base:
        return Ratio(Interval(1.0, math.nan, math.nan))
    fields = mismatched_fields(m, base, allow)
    return Ratio(paired_ratio(pairs(m, base), m.first_runs) if paired else welch_ratio(m.seconds, base.seconds), fields)


def baseline_as_published(manifest: Manifest, m: Measured) -> Measured | None:
    """The baseline with its own recipe."""
    return next((base for base in m.comparison_group if manifest.is_baseline(base.cell)), None)


def baseline_at(manifest: Manifest, m: Measured, step_key: StepKey) -> Measured | None:
    """The baseline with this step key."""
    for base in m.comparison_group:
        if manifest.is_baseline(base.cell) and base.cell.step_key == step_key:
            return base
    return None


def matching_baseline(manifest: Manifest, m: Measured) -> Measured | None:
    """The baseline with the same global batch size and compute settings."""
    return baseline_at(manifest, m, m.cell.step_key)
