"""A table of the jobs that are left of a manifest, and of the time that they take."""

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
    console: Console, manifest: Manifest, found: list[BenchWave], speed: Speed, known: Rates, most: float | None = None
) -> None:
    """Print what is left and how long it takes; ValueError where that is more than `most` GPU-hours."""
    jobs = unfinished(found)
    cost.prepare(count for job in jobs for count in counts(job))
    times = {job.task.key: expected(job, speed, known) for job in jobs}
    total = sum((times[job.task.key].seconds or 0.0) * job.task.ranks for job in jobs)
    console.print(_table(manifest, found, times, speed.whose))
    for line in _lines(manifest, found, times, speed, total):
        console.print(line, soft_wrap=True)
    if most is not None and total > most * HOUR:
        amount = summed(total, speed.whose)
        raise ValueError(f"--max-gpu-hours {most:g}: {amount} are expected, which is more (choose cells with --only)")


def _table(manifest: Manifest, found: list[BenchWave], times: dict[str, Expected], whose: str) -> Table:
    table = Table("wave", "what", "jobs", "ranks", title=manifest.title)
    table.columns[1].overflow = "fold"
    table.add_column("a job", justify="right")
    table.add_column("in all", justify="right")
    table.add_column("from")
    called = cell_labels(job for wave in found for job in wave.jobs)
    for wave in found:
        for name, jobs in _together(wave).items():
            what, ranks = labels.titled(name, called.get(jobs[0].task.key)), jobs[0].task.ranks
            seconds = [times[job.task.key].seconds for job in jobs]
            words = ["–", "–", "unknown"]
            if None not in seconds:
                recorded = all(times[job.task.key].recorded for job in jobs)
                words = [duration(max(seconds)), summed(sum(seconds) * ranks, whose)]
                words.append("records" if recorded else "estimate")
            table.add_row(wave.name, what, str(len(jobs)), str(ranks), *words)
    return table


def _lines(
    manifest: Manifest, found: list[BenchWave], times: dict[str, Expected], speed: Speed, total: float
) -> list[str]:
    """The sum, the longest chain, and what both assume."""
    lines, jobs = [], unfinished(found)
    if manifest.quick:
        images = manifest.timing.images if manifest.timing else manifest.cells[0].images
        lines.append(f"--quick: a declared reduction to {images} training images; not the paper's experiment.")
    timed = [job for job in jobs if times[job.task.key].seconds is not None]
    if not timed:
        return lines
    lines.append(f"In all: {summed(total, speed.whose)}.")
    seconds = {job.task.key: times[job.task.key].seconds for job in timed}
    chain = [job.task.key for job in longest_chain(found, seconds) if job.task.key in seconds]
    longest = " -> ".join(f"{name} ({duration(seconds[name])})" for name in chain)
    took = duration(sum(seconds[name] for name in chain))
    lines.append(f"Longest chain of dependent jobs, the least time with all of them at once: {took}: {longest}.")
    guessed = [job for job in timed if not times[job.task.key].recorded]
    if len(guessed) < len(timed):
        lines.append(f"Records: epochs on {speed.name} in the runs folder.")
    if guessed:
        asked = set().union(*map(precisions, guessed))
        lines.append(f"Estimates: counted operations at the speed of {speed.words(asked)}.")
    return lines


def _together(wave: BenchWave) -> dict[str, list[BenchJob]]:
    """The wave's unfinished jobs by what they work on: shards and runs of one thing are a row."""
    rows: dict[str, list[BenchJob]] = {}
    for job in unfinished([wave]):
        rows.setdefault(job.task.group, []).append(job)
    return rows
