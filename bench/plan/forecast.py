"""Table of a manifest's unfinished jobs and their expected time."""

from rich.console import Console

from bench.build import cost
from bench.manifest.manifest import Manifest
from bench.manifest.plugin_spec import evaluation
from bench.measure.durations import HOUR, duration, summed
from bench.plan.devices import Speed
from bench.plan.estimate import Expected, Rates, counts, expected, longest_chain, precisions
from bench.plan.required import required
from bench.plan.waves import BenchJob, BenchWave, cell_labels
from crt.fitted_table import FittedTable
from crt.table_layout import Column
from launchers.task import unfinished

_IN_FP32 = "--set recipe.precision=fp32 makes cells of fp32, --set teacher.recipe.precision=fp32 their teachers"
"""Remedy for recipes in a precision that a device computes slowly."""


def show(
    console: Console,
    manifest: Manifest,
    waves: list[BenchWave],
    summary: str,
    speed: Speed,
    known: Rates,
    most: float | None = None,
) -> None:
    """Print the counts of all jobs, the unfinished ones and their expected time.

    ValueError if that exceeds `most` GPU-hours.
    """
    jobs = unfinished(waves)
    cost.prepare(count for job in jobs for count in counts(job))
    times = {job.task.key: expected(job, speed, known) for job in jobs}
    total = sum((times[job.task.key].seconds or 0.0) * job.task.ranks for job in jobs)
    title = f"{manifest.title}: {summary}"
    console.print(_table(title, waves, times, speed.whose) if jobs else title, crop=False)
    for line in _lines(manifest, waves, times, speed, total):
        console.print(line, soft_wrap=True)
    if most is not None and total > most * HOUR:
        amount = summed(total, speed.whose)
        raise ValueError(f"--max-gpu-hours {most:g}: {amount} are expected, which is more (choose cells with --only)")


def _table(title: str, waves: list[BenchWave], times: dict[str, Expected], whose: str) -> FittedTable:
    label_by_key = cell_labels(job for wave in waves for job in wave.jobs)
    rows = []
    for wave in waves:
        for group, jobs in _by_group(wave).items():
            job, ranks = " ".join(filter(None, (group, label_by_key.get(jobs[0].task.key)))), jobs[0].task.ranks
            expected_times = [times[job.task.key] for job in jobs]
            seconds = [time.seconds for time in expected_times if time.seconds is not None]
            time_columns = ["–", "–", "unknown"]
            if len(seconds) == len(jobs):
                source = "records" if all(time.recorded for time in expected_times) else "estimate"
                time_columns = [duration(max(seconds)), summed(sum(seconds) * ranks, whose), source]
            rows.append([wave.name, job, str(len(jobs)), str(ranks), *time_columns])
    wave_names, titles, numbers, processes, each, total, sources = zip(*rows, strict=True)
    columns = [
        Column("wave", wave_names, left=True),
        Column("unfinished job", titles, left=True, fold=True, fixed=True),
        Column("jobs", numbers, hide=3),
        Column("ranks", processes, hide=2),
        Column("per job", each, fixed=True),
        Column("total", total, hide=4, fixed=True),
        Column("source", sources, left=True, hide=1),
    ]
    return FittedTable(title, columns)


def _lines(
    manifest: Manifest, waves: list[BenchWave], times: dict[str, Expected], speed: Speed, total: float
) -> list[str]:
    """Lines with the total, the longest chain, and the assumptions of both."""
    lines, jobs = [], unfinished(waves)
    if manifest.quick:
        images = manifest.timing.images if manifest.timing else manifest.cells[0].images
        lines.append(f"--quick: a declared reduction to {images} training images; not the paper's experiment.")
    lines += _cut_schedules(manifest) + _grids(manifest)
    seconds = {key: time.seconds for key, time in times.items() if time.seconds is not None}
    timed = [job for job in jobs if job.task.key in seconds]
    if not timed:
        return lines
    lines.append(f"In all: {summed(total, speed.whose)}.")
    chain = [job.task.key for job in longest_chain(waves, seconds) if job.task.key in seconds]
    longest = " -> ".join(f"{name} ({duration(seconds[name])})" for name in chain)
    least = duration(sum(seconds[name] for name in chain))
    lines.append(f"Longest chain of dependent jobs, a lower bound on the time with any hardware: {least}: {longest}.")
    lines += required(manifest, jobs, times, speed.whose)
    estimated = [job for job in timed if not times[job.task.key].recorded]
    if len(estimated) < len(timed):
        lines.append(f"Records: epochs on {speed.name} in the runs folder.")
    if estimated:
        used = set().union(*map(precisions, estimated))
        lines.append(f"Estimates: counted operations at the speed of {speed.words(used)}.")
        if any(cell.recipe.compute == "fastest" for job in timed for cell in job.task.training_cells):
            lines.append(
                "compute: fastest is estimated as exact, without its trials, which take minutes, once for cells alike."
            )
        if slow := ", ".join(sorted(filter(speed.is_slow, used))):
            lines.append(f"{slow}: slower than fp32 on this device ({_IN_FP32}).")
    return lines


def _cut_schedules(manifest: Manifest) -> list[str]:
    """A line if methods end before their own schedule does: one that never leaves its warm-up trains as Standard."""
    networks = [network for cell in manifest.trained for network in (cell, *cell.ancestors)]
    cut = {f"{cell.method.label} ({parts})" for cell in networks if (parts := cell.cut_schedule)}
    if not cut:
        return []
    return [
        f"The methods' own schedules are longer than the training: {', '.join(sorted(cut))}. Shorten these arguments,"
        " or train longer."
    ]


def _grids(manifest: Manifest) -> list[str]:
    """A line if certificates end early, and one for radii that even agreeing draws do not certify."""
    evaluations = [(cell, spec, evaluation(spec, cell.threat)) for cell in manifest.cells for spec in cell.evals]
    early = sorted({spec.label for _, spec, built in evaluations if built.decided_radii})
    beyond = sorted({f"{radius:g} ({spec.label})" for _, spec, built in evaluations for radius in built.out_of_reach})
    lines = []
    if early:
        lines.append(f"{', '.join(early)}: draws end early; estimates count all of them, and are bounds.")
    if beyond:
        lines.append(f"Radii that no number of hits in n draws certifies: {', '.join(beyond)}. Raise n.")
    return lines


def _by_group(wave: BenchWave) -> dict[str, list[BenchJob]]:
    """The wave's unfinished jobs by group: the shards or runs of the same work share a row."""
    groups: dict[str, list[BenchJob]] = {}
    for job in unfinished([wave]):
        groups.setdefault(job.task.group, []).append(job)
    return groups
