"""Times and peak memory of methods beside their restatements in plain PyTorch, from the records of `bench.speed`."""

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.manifest.manifest import Manifest
from bench.manifest.restated import restated_studies
from bench.records import StepMemory, read
from bench.results.intervals import nested_ci
from bench.results.loading import measure
from bench.results.measured import Measured
from bench.results.ratios import ratio
from bench.results.statistics import Interval
from crt.training.recipe import ARITHMETIC


class Side(NamedTuple):
    """The method or its restatement."""

    measured: Measured
    step: Interval
    """Seconds of an optimizer step."""
    memory: float
    """Peak memory in MB; NaN where it was not measured."""


class Restated(NamedTuple):
    """A method beside its restatement, and the ratio of the times of paired rounds."""

    ours: Side
    plain: Side
    ratio: Interval


def restated(manifest: Manifest, folder: Path, allow: Collection[str] = ()) -> Iterator[Restated]:
    """Yield each cell that was timed beside its restatement in a runs folder.

    ValueError for times that differ in a field, other than compute settings, that is not in `allow`.
    """
    for study in restated_studies(manifest) if manifest.timing else ():
        ours, plain = measure(study, folder, study.arms)
        if not (ours.timed and plain.timed):
            continue
        records = read(folder / study.id / "memory.jsonl")
        memory = {record.arm: record.memory for record in records if isinstance(record, StepMemory)}
        found = ratio(ours, plain, True, {*allow, *ARITHMETIC}).interval
        yield Restated(_side(ours, memory), _side(plain, memory), found)


def _side(m: Measured, memory: dict[str, float]) -> Side:
    steps = [[pace * m.cell.per_step for pace in paces.values()] for paces in m.paces.values()]
    return Side(m, nested_ci(steps), memory.get(m.id, math.nan))
