"""Time methods beside their restatements in plain PyTorch within a time budget, and print the ratios."""

import math
import sys
from collections import Counter
from pathlib import Path

from bench.cell import Cell
from bench.commands.speed_study import chosen, obstacle, run, with_images
from bench.jobs.lease import JobPaths
from bench.jobs.timing_tasks import RestatementTask
from bench.manifest import read_manifest
from bench.manifest.labels import name, switches
from bench.manifest.manifest import Manifest
from bench.manifest.restated import restated_studies
from bench.measure.provenance import check_install
from bench.results.restated import Restated, restated
from bench.results.statistics import Interval
from crt import screen
from crt.fitted_table import FittedTable
from crt.table_layout import Column
from crt.text import printable

AGAINST = "plain-eager"


def check_against(against: str | None) -> None:
    """Raise ValueError for another reference than the restatements."""
    if against not in (None, AGAINST):
        raise ValueError(f"--against {printable(str(against))}: no such reference (allowed: {AGAINST})")


def time_restatements(
    path: Path, methods: str | None, archs: str | None, seconds: int, runs: Path, data: Path
) -> tuple[int, int]:
    """Time each cell of a manifest beside its restatement within `seconds`; print all that is timed so far.

    Returns the numbers of complete and of all tasks. ValueError, before anything is timed, for a manifest without a
    timing study, unknown names, missing images, or nothing to time.
    """
    place = JobPaths(runs=runs.absolute(), data=data.absolute(), process="shared")
    check_install()
    manifest = read_manifest(path)
    if not manifest.timing:
        raise ValueError(f"{path}: timing: missing (bench.speed times a study)")
    names = chosen("methods", methods, {cell.method.name for cell in manifest.cells})
    networks = chosen("archs", archs, {cell.arch for cell in manifest.cells})
    tasks = _tasks(with_images(manifest, place.data), names, networks, place)
    if not tasks:
        raise ValueError(f"{path}: no cell to time beside a restatement (allowed: cells on one rank, loop: train)")
    finished = run(tasks, seconds)
    if rows := list(restated(manifest, place.runs)):
        console = screen.output()
        console.print(table(rows))
    return finished, len(tasks)


def _tasks(
    manifest: Manifest, methods: list[str] | None, archs: list[str] | None, place: JobPaths
) -> list[RestatementTask]:
    """The runs of all studies; the first run of every study comes before the second of any."""
    studies, left_out = [], []
    for study in restated_studies(manifest):
        arm = study.arms[0]
        if (archs is None or arm.arch in archs) and (methods is None or arm.method.name in methods):
            why = obstacle(arm)
            if why is None:
                studies.append(study)
            else:
                left_out.append(why)
    for why, count in Counter(left_out).items():
        print(f"left out: {count} arms: {why}", file=sys.stderr)
    runs = range(manifest.study_timing.runs)
    return [RestatementTask(study=study, number=number, place=place) for number in runs for study in studies]


def table(rows: list[Restated]) -> FittedTable:
    """The ratios of times, with their intervals, and of peak memory."""
    cells = [row.ours.measured.cell for row in rows]
    columns = [
        Column("method", [name(cell) for cell in cells], left=True, fold=True),
        Column("network", [_network(cell) for cell in cells], left=True),
        Column("settings", [switches(cell) for cell in cells], left=True, fold=True, hide=1),
        Column("ms/step", [f"{1000 * row.ours.step.mean:,.1f}" for row in rows]),
        Column("restated", [f"{1000 * row.plain.step.mean:,.1f}" for row in rows]),
        Column("ratio", [_ratio(row.ratio) for row in rows]),
        Column("MB", [_megabytes(row.ours.memory) for row in rows], hide=2),
        Column("restated MB", [_megabytes(row.plain.memory) for row in rows], hide=3),
        Column("memory", [_quotient(row.ours.memory / row.plain.memory) for row in rows]),
    ]
    caption = "ratio, memory: ours / the plain PyTorch restatement; brackets: 95 % intervals"
    return FittedTable("Beside plain PyTorch", columns, hint="python -m reports shows them", caption=caption)


def _network(cell: Cell) -> str:
    return f"{cell.arch}, {cell.dataset}"


def _ratio(ratio: Interval) -> str:
    ends = "" if math.isnan(ratio.low) else f" [{ratio.low:.3f}, {ratio.high:.3f}]"
    return f"{ratio.mean:.3f}{ends}"


def _megabytes(memory: float) -> str:
    return "–" if math.isnan(memory) else f"{memory:,.0f}"


def _quotient(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
