"""Expected time of jobs: from records of the same device if there are any, else from counted operations."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.build.cost import Count
from bench.plan.devices import Speed
from bench.plan.waves import BenchJob, BenchWave
from bench.records import Epoch, Start, read
from launchers.task import unfinished

Rates = dict[str, float]
"""Measured speed of a rank in counted operations per second, by `arch-Method`."""


class Expected(NamedTuple):
    """Expected time of a job."""

    seconds: float | None
    """None if unknown, as for a job that writes a dataset."""
    recorded: bool
    """True if the time comes from records, False if it is estimated."""


def rates(runs: Path, speed: Speed) -> Rates:
    """Speeds from the records in a runs folder: the median over epochs on the device."""
    measured: dict[str, list[float]] = {}
    for file in (*runs.glob("*/train.jsonl"), *runs.glob("*/run*/time.jsonl")):
        start = None
        for record in read(file):
            if isinstance(record, Start):
                start = record if speed.is_of(record.device) else None
            elif isinstance(record, Epoch) and start and not record.warmup:
                # A record without a count tells no rate.
                if operations := start.flops.get(record.arm):
                    rate = operations * record.images / record.seconds / start.world_size
                    measured.setdefault(_kind(record.arm), []).append(rate)
    return {kind: sorted(speeds)[len(speeds) // 2] for kind, speeds in measured.items()}


def _kind(cell_id: str) -> str:
    return cell_id.rsplit("-", 2)[0]


def expected(job: BenchJob, speed: Speed, known: Rates) -> Expected:
    """Expected time for the rest of a job."""
    parts = list(job.task.cost())
    if not parts:
        return Expected(None, False)
    # Evaluations on held-out images have no recorded speed, beside a training that may have one.
    training = [part for part in parts if part.rate]
    recorded = bool(training) and all(part.rate in known for part in training)
    speeds = [known[part.rate] if recorded and part.rate else speed.flops(part.precision) for part in parts]
    seconds = sum(part.operations() / each for part, each in zip(parts, speeds, strict=True))
    remaining = max(0.0, 1 - job.progress.done / job.progress.total)
    return Expected(seconds * remaining / job.task.ranks, recorded)


def precisions(job: BenchJob) -> set[str]:
    """The precisions that a job computes in."""
    return {part.precision for part in job.task.cost()}


def counts(job: BenchJob) -> Iterable[Count]:
    """Counts that are needed to estimate a job."""
    return (count for part in job.task.cost() for count in part.counts)


def longest_chain(waves: Iterable[BenchWave], seconds: Mapping[str, float | None]) -> list[BenchJob]:
    """The chain of unfinished jobs, each waiting for the one before, with the longest total time.

    It bounds the time of the manifest from below, however many GPUs there are. A wave waits for every job of the wave
    that it comes after, as under Slurm. `seconds` are by task key.
    """
    chains: list[list[BenchJob]] = []
    time = lambda job: seconds.get(job.task.key) or 0.0  # noqa: E731
    for wave in waves:
        previous = chains[wave.after] if wave.after is not None else []
        jobs = unfinished([wave])
        chains.append([*previous, max(jobs, key=time)] if jobs else previous)
    return max(chains, key=lambda chain: sum(map(time, chain)), default=[])
