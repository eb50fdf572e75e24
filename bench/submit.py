"""Submit a manifest: `python -m bench.submit manifests/table4.yaml`."""

import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import manifest as manifests
from bench.cells import Cell, Manifest
from bench.environment import check_install
from bench.networks import forward_flops, step_flops
from bench.plan import lineage, plan, timings
from bench.quick import FLOPS
from bench.run import run_cell, run_study
from crt.data import DATASETS
from crt.data.beton import ensure
from launchers import inline, local
from launchers.job import Job


class Launcher(StrEnum):
    """Where jobs run."""

    auto = "auto"
    inline = "inline"
    local = "local"


app = typer.Typer(add_completion=False)


@app.command()
def main(
    manifest: Annotated[Path, typer.Argument(help="The YAML file of a table.")],
    launcher: Annotated[Launcher, typer.Option(help="auto: a process a rank on this machine.")] = Launcher.auto,
    runs: Annotated[Path, typer.Option(help="Where records and weights are kept.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Where the .beton files are.")] = Path("data"),
    quick: Annotated[bool, typer.Option("--quick", help="The declared reduction: minutes on two cores.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Train, time and judge what the manifest asks for and the runs folder does not hold yet."""
    try:
        check_install()
        failed = submit(manifests.read(manifest, quick), manifest, launcher, runs.absolute(), data.absolute(), dry_run)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    raise typer.Exit(1 if failed else 0)


def submit(manifest: Manifest, path: Path, launcher: Launcher, runs: Path, data: Path, dry_run: bool) -> int:
    """Plan, print, launch; how many jobs failed. ValueError for what the user can mend, before anything runs."""
    console = Console()
    process = "shared" if launcher is Launcher.inline else "fresh"
    waves = _jobs(manifest, runs, data, process)
    _print(console, manifest, waves)
    if not any(waves):
        console.print(f"Nothing left to do. Report: python -m reports {path}", soft_wrap=True)
        return 0
    _check_data(manifest, data, dry_run)
    if dry_run:
        return 0
    _check_writable(runs)
    if launcher is Launcher.inline:
        failed = inline.launch(waves)
    else:
        failed = local.launch(waves, runs / "logs")
    flags = (" --quick" if manifest.quick else "") + (f" --runs {runs}" if runs != Path("runs").absolute() else "")
    console.print(f"Report: python -m reports {path}{flags}", soft_wrap=True)
    return failed


def _jobs(manifest: Manifest, runs: Path, data: Path, process: str) -> list[list[Job]]:
    if manifest.timing:
        wave = [
            Job(
                name=f"{study.id}/run{run}",
                ranks=study.arms[0].ranks,
                nodes=study.arms[0].nodes,
                function=run_study,
                args=(study, run, runs, data, process),
            )
            for study, run in timings(manifest, runs)
        ]
        return [wave] if wave else []
    return [
        [
            Job(
                name=cell.id,
                ranks=cell.ranks,
                nodes=cell.nodes,
                function=run_cell,
                args=(cell, runs, data, process),
            )
            for cell in wave
        ]
        for wave in plan(manifest, runs)
    ]


def _print(console: Console, manifest: Manifest, waves: list[list[Job]]) -> None:
    table = Table("wave", "job", "ranks", title=manifest.title)
    table.add_column("hours (estimate)", justify="right")
    for number, wave in enumerate(waves):
        for job in wave:
            table.add_row(str(number), job.name, str(job.ranks), _hours(_operations(job) / FLOPS / 3600))
    console.print(table)
    if manifest.quick:
        cell = manifest.cells[0]
        images = manifest.timing.images if manifest.timing else cell.images
        console.print(
            f"--quick: a declared reduction to {images} training images; not the paper's experiment.", soft_wrap=True
        )
    console.print(f"Hours are counted operations at {FLOPS / 1e9:.0f} GFLOP/s (two ordinary cores).", soft_wrap=True)


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _operations(job: Job) -> float:
    """Counted floating-point operations of a job: training, and every forward of its evaluations."""
    if job.function is run_study:
        study = job.args[0]
        images = study.timing.images or DATASETS[study.arms[0].dataset].train_images
        return sum(step_flops(arm) for arm in study.arms) * images * (1 + study.timing.rounds)
    cell: Cell = job.args[0]
    dataset = DATASETS[cell.dataset]
    training = step_flops(cell) * (cell.images or dataset.train_images) * cell.recipe.epochs
    draws = sum(
        len(spec.indices(dataset.test_images)) * (spec.args.get("n", 1) + spec.args.get("n0", 0)) for spec in cell.evals
    )
    return training + draws * forward_flops(cell)


def _check_data(manifest: Manifest, data: Path, dry_run: bool) -> None:
    needed = {(c.dataset, "train") for cell in manifest.cells for c in (cell, *lineage(cell))}
    needed |= {(cell.dataset, "test") for cell in manifest.cells if cell.evals and not manifest.timing}
    for dataset, split in sorted(needed):
        if dry_run and dataset == "digits":
            continue
        try:
            ensure(DATASETS[dataset], split, data)
        except ValueError as error:
            if not dry_run:
                raise
            print(f"warning: {error}", file=sys.stderr)


def _check_writable(runs: Path) -> None:
    try:
        runs.mkdir(parents=True, exist_ok=True)
        probe = runs / f".probe{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{runs}: {error.strerror} (allowed: a folder for --runs that can be written)") from None
    if shutil.disk_usage(runs).free < 2**28:
        raise ValueError(f"{runs}: less than 256 MB free (weights and records would not fit)")


if __name__ == "__main__":
    app()
