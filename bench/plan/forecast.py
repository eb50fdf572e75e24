"""Table of a manifest's unfinished jobs and their expected time."""

from rich.console import Console
from rich.table import Table

from bench.build import cost
from bench.manifest import labels
from bench.manifest.manifest import Manifest
from bench.measure.durations import HOUR, duration, summed
from bench.plan.devices import Speed
from bench.plan.estimate import Expected, Rates, counts, expected, longest_chain, precisions
from bench.plan.waves import BenchJob, BenchWave, cell_labels
from launchers.task import unfinished


def show(
    console: Console, manifest: Manifest, waves: list[BenchWave], speed: Speed, known: Rates, most: float | None = None
) -> None:
    """Print the unfinished jobs and their expected time; ValueError if that exceeds `most` GPU-hours."""
    jobs = unfinished(waves)
    cost.prepare(count for job in jobs for count in counts(job))
    times = {job.task.key: expected(job, speed, known) for job in jobs}
    total = sum((times[job.task.key].seconds or 0.0) * job.task.ranks for job in jobs)
    console.print(_table(manifest, waves, times, speed.whose))
    for line in _lines(manifest, waves, times, speed, total):
        console.print(line, soft_wrap=True)
    if most is not None and total > most * HOUR:
        amount = summed(total, speed.whose)
        raise ValueError(f"--max-gpu-hours {most:g}: {amount} are expected, which is more (choose cells with --only)")


def _table(manifest: Manifest, waves: list[BenchWave], times: dict[str, Expected], whose: str) -> Table:
    table = Table("wave", "what", "jobs", "ranks", title=manifest.title)
    table.columns[1].overflow = "fold"
    table.add_column("per job", justify="right")
    table.add_column("total", justify="right")
    table.add_column("source")
    label_by_key = cell_labels(job for wave in waves for job in wave.jobs)
    for wave in waves:
        for group, jobs in _by_group(wave).items():
            title, ranks = labels.titled(group, label_by_key.get(jobs[0].task.key)), jobs[0].task.ranks
            expected_times = [times[job.task.key] for job in jobs]
            seconds = [time.seconds for time in expected_times if time.seconds is not None]
            time_columns = ["–", "–", "unknown"]
            if len(seconds) == len(jobs):
                source = "records" if all(time.recorded for time in expected_times) else "estimate"
                time_columns = [duration(max(seconds)), summed(sum(seconds) * ranks, whose), source]
            table.add_row(wave.name, title, str(len(jobs)), str(ranks), *time_columns)
    return table


def _lines(
    manifest: Manifest, waves: list[BenchWave], times: dict[str, Expected], speed: Speed, total: float
) -> list[str]:
    """Lines with the total, the longest chain, and the assumptions of both."""
    lines, jobs = [], unfinished(waves)
    if manifest.quick:
        images = manifest.timing.images if manifest.timing else manifest.cells[0].images
        lines.append(f"--quick: a declared reduction to {images} training images; not the paper's experiment.")
    seconds = {key: time.seconds for key, time in times.items() if time.seconds is not None}
    timed = [job for job in jobs if job.task.key in seconds]
    if not timed:
        return lines
    lines.append(f"In all: {summed(total, speed.whose)}.")
    chain = [job.task.key for job in longest_chain(waves, seconds) if job.task.key in seconds]
    longest = " -> ".join(f"{name} ({duration(seconds[name])})" for name in chain)
    least = duration(sum(seconds[name] for name in chain))
    lines.append(f"Longest chain of dependent jobs, a lower bound on the time with any hardware: {least}: {longest}.")
    estimated = [job for job in timed if not times[job.task.key].recorded]
    if len(estimated) < len(timed):
        lines.append(f"Records: epochs on {speed.name} in the runs folder.")
    if estimated:
        used = set().union(*map(precisions, estimated))
        lines.append(f"Estimates: counted operations at the speed of {speed.words(used)}.")
    return lines


def _by_group(wave: BenchWave) -> dict[str, list[BenchJob]]:
    """The wave's unfinished jobs by group: the shards or runs of the same work share a row."""
    groups: dict[str, list[BenchJob]] = {}
    for job in unfinished([wave]):
        groups.setdefault(job.task.group, []).append(job)
    return groups
