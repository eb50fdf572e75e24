"""How long jobs will take: from records of the same device where there are some, else from counted operations."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.build.cost import Count
from bench.plan.devices import Speed
from bench.plan.waves import BenchJob, BenchWave
from bench.records import Epoch, Start, read
from launchers.task import unfinished

Rates = dict[str, float]
"""Counted operations a second that a rank was seen to do, by `arch-Method`."""


class Expected(NamedTuple):
    """How long a job will take."""

    seconds: float | None
    """None where nothing tells, as of a dataset that is written."""
    recorded: bool
    """True where records give the time, False where it is estimated."""


def rates(runs: Path, speed: Speed) -> Rates:
    """Speeds by the records in a runs folder: those of the median epoch on a device."""
    seen: dict[str, list[float]] = {}
    for file in (*runs.glob("*/train.jsonl"), *runs.glob("*/run*/time.jsonl")):
        start = None
        for record in read(file):
            if isinstance(record, Start):
                start = record if speed.is_of(record.device) else None
            elif isinstance(record, Epoch) and start and not record.warmup:
                rate = start.flops.get(record.arm, 0.0) * record.images / record.seconds / start.world_size
                seen.setdefault(_kind(record.arm), []).append(rate)
    return {kind: sorted(found)[len(found) // 2] for kind, found in seen.items()}


def _kind(cell_id: str) -> str:
    return cell_id.rsplit("-", 2)[0]


def expected(job: BenchJob, speed: Speed, known: Rates) -> Expected:
    """Seconds that are left of a job."""
    parts = list(job.task.cost())
    if not parts:
        return Expected(None, False)
    recorded = all(part.rate in known for part in parts)
    seconds = sum(part.operations() / (known[part.rate] if recorded else speed.flops(part.precision)) for part in parts)
    left = max(0.0, 1 - job.progress.done / job.progress.total)
    return Expected(seconds * left / job.task.ranks, recorded)


def precisions(job: BenchJob) -> set[str]:
    """The precisions that a job computes in."""
    return {part.precision for part in job.task.cost()}


def counts(job: BenchJob) -> Iterable[Count]:
    """Everything that must be counted before a job can be estimated."""
    return (count for part in job.task.cost() for count in part.counts)


def longest_chain(waves: Iterable[BenchWave], seconds: Mapping[str, float | None]) -> list[BenchJob]:
    """The unfinished jobs, each waiting for the one before, that take longest together: no GPUs make it faster.

    A wave waits for every job of the wave that it comes after, as it does under Slurm. `seconds` are by task key.
    """
    chains: list[list[BenchJob]] = []
    took = lambda job: seconds.get(job.task.key) or 0.0  # noqa: E731
    for wave in waves:
        before = chains[wave.after] if wave.after is not None else []
        left = unfinished([wave])
        chains.append([*before, max(left, key=took)] if left else before)
    return max(chains, key=lambda chain: sum(map(took, chain)), default=[])
