"""What is left of a manifest to do, and the hours to expect, as a table."""

from rich.console import Console
from rich.table import Table

from bench import estimate, names
from bench.tables import Manifest
from launchers.job import Job, Wave, unfinished


def show(
    console: Console,
    manifest: Manifest,
    found: list[Wave],
    tflops: float,
    known: estimate.Rates,
    most: float | None = None,
) -> None:
    """Print it, at what records show or at `tflops` of a rank; ValueError where hours x ranks are more than `most`."""
    table = Table("wave", "what", "jobs", "ranks", title=manifest.title)
    table.columns[1].overflow = "fold"
    table.add_column("hours", justify="right")
    table.add_column("from")
    total, called = 0.0, names.of_jobs(job for wave in found for job in wave.jobs)
    for wave in found:
        for name, jobs in _together(wave).items():
            each = [estimate.hours(job, tflops * 1e12, known) for job in jobs]
            hours = sum(h for h, _ in each)
            total += hours * jobs[0].ranks
            told = "records" if all(told for _, told in each) else "estimate"
            what = names.titled(name, called.get(jobs[0].name))
            table.add_row(wave.name, what, str(len(jobs)), str(jobs[0].ranks), _hours(hours), told)
    console.print(table)
    if manifest.quick:
        images = manifest.timing.images if manifest.timing else manifest.cells[0].images
        console.print(
            f"--quick: a declared reduction to {images} training images; not the paper's experiment.", soft_wrap=True
        )
    console.print(
        f"In all {_hours(total)} hours x ranks; estimates: counted operations at {tflops:g} TFLOP/s.", soft_wrap=True
    )
    if most is not None and total > most:
        raise ValueError(f"--max-gpu-hours {most:g}: {_hours(total)} hours x ranks are expected (choose with --only)")


def _together(wave: Wave) -> dict[str, list[Job]]:
    """The wave's unfinished jobs by what they work on: shards and runs of one thing are a row."""
    rows: dict[str, list[Job]] = {}
    for job in unfinished([wave]):
        rows.setdefault("/".join(job.name.split("/")[:2]), []).append(job)
    return rows


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
