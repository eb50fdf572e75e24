"""Lines of a plan: the seeds and hours that a stated difference of robustness needs, by records or by assumptions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.build import cost
from bench.cell import Cell, Spec
from bench.jobs.tasks import EvaluateTask, RobustDatasetTask, TrainTask
from bench.manifest.manifest import Manifest
from bench.measure.durations import summed
from bench.plan.estimate import Expected, counts
from bench.plan.waves import BenchJob, BenchWave
from crt.data.held import held

if TYPE_CHECKING:
    from bench.results.contenders import Setting
    from bench.results.power import Spread


def distinguish(
    manifest: Manifest,
    waves: Sequence[BenchWave],
    points: float,
    runs: Path,
    data: Path,
    expect: Callable[[BenchJob], Expected],
    whose: str,
) -> Iterator[str]:
    """Yield a line for every two or more methods that are judged alike: the seeds that show `points` between two.

    `points` are percentage points of the accuracy that the methods are judged by.
    """
    # These import scipy, which other plans do not need.
    from bench.results.contenders import settings
    from bench.results.loading import load
    from bench.results.power import POWER, images_needed, seeds_needed, typical

    jobs = [job for wave in waves for job in wave.jobs]
    groups = _groups(manifest)
    if not groups:
        yield "No two methods of this manifest are evaluated alike, so robustness tells none apart."
    compared = settings(manifest, load(manifest, [runs])) if groups else []
    for spec, cells in groups:
        methods = len({cell.seedless.id for cell in cells})
        pairs, gap = methods * (methods - 1) // 2, points / 100
        images = len(spec.indices(held(cells[0].data, "test", data)))
        spreads, source = _spreads(cells, compared)
        common = typical(spreads)
        text = f"A difference of {points:g} points of {_where(cells, images)} between two of {methods} methods needs"
        usual = seeds_needed(gap, common, images, pairs)
        if usual is None:
            least = images_needed(gap, common, pairs)
            yield f"{text} more images: {least} or more, whatever the number of seeds; {source}."
            continue
        widest = [seeds_needed(gap, each, images, pairs) for each in spreads]
        worst = _worst(usual, widest)
        present = len({cell.seed for cell in cells})
        seconds = _cost_of_a_seed(cells, jobs, expect)
        price = f"; one more seed of all methods costs {summed(seconds, whose)}" if seconds is not None else ""
        tests = f"(power {100 * POWER:g} %, {pairs} pair{'s' * (pairs > 1)} by Holm)"
        yield f"{text} {usual} seeds of both{worst} {tests}, and the manifest has {present}{price}; {source}."


def _where(cells: list[Cell], images: int) -> str:
    from bench.results.judging import figure

    return f"{figure(cells)} ({cells[0].dataset}, {cells[0].arch}, {images} images)"


def _worst(usual: int, needed: list[int | None]) -> str:
    """The seeds that the pair which varies most needs, where they are more than the usual ones."""
    if unreachable := needed.count(None):
        return f", while no number suffices for {unreachable} pairs"
    most = max(each for each in needed if each is not None)
    return f", {most} for the pair that varies most" if most > usual else ""


def _groups(manifest: Manifest) -> list[tuple[Spec, list[Cell]]]:
    """Cells that are compared with each other, two methods or more, with the evaluation that they are judged by."""
    from bench.results.judging import judged_alike, judging

    groups: dict[tuple, list[Cell]] = {}
    specs: dict[tuple, Spec] = {}
    for cell in manifest.trained:
        if spec := judging(cell):
            key = (cell.comparison_group, judged_alike(cell))
            groups.setdefault(key, []).append(cell)
            specs.setdefault(key, spec)
    return [(specs[key], cells) for key, cells in groups.items() if len({cell.seedless.id for cell in cells}) > 1]


def _spreads(cells: Sequence[Cell], compared: Sequence["Setting"]) -> tuple[list["Spread"], str]:
    """Variances of the pairs by records, else assumed ones; and where they come from, in words."""
    from bench.results.power import ASSUMED, spread

    own = {cell.id for cell in cells}
    judged = [
        each.robust
        for setting in compared
        if own & {m.id for each in setting.contenders for m in each.by_seed.values()}
        for each in setting.judged
    ]
    found = [
        each for i, first in enumerate(judged) for second in judged[:i] if (each := spread(first, second)) is not None
    ]
    if found:
        return found, f"by records of {len(found)} pairs over seeds"
    return [ASSUMED], (
        "assumed, for want of records of several seeds: the accuracy of a seed varies by 1 point (sd), and one image in"
        " ten tells two methods apart"
    )


def _cost_of_a_seed(
    cells: Sequence[Cell], jobs: Sequence[BenchJob], expect: Callable[[BenchJob], Expected]
) -> float | None:
    """Expected seconds, times ranks, of all training and evaluation of one seed; None where one is unknown.

    Ancestors count where each seed has its own.
    """
    first = [cell for cell in cells if cell.seed == cells[0].seed]
    wanted = {cell.id for cell in first}
    for cell in first:
        parents = {tuple(p.id for p in other.parents) for other in cells if other.seedless.id == cell.seedless.id}
        if len(parents) > 1:
            wanted |= {each.id for each in cell.ancestors}
    tasks = (TrainTask, EvaluateTask, RobustDatasetTask)
    # A finished job is as long as one that has not begun.
    own = [
        replace(job, progress=job.progress._replace(done=0))
        for job in jobs
        if isinstance(job.task, tasks) and job.task.cell.id in wanted
    ]
    cost.prepare(count for job in own for count in counts(job))
    seconds = [(expect(job).seconds, job.task.ranks) for job in own]
    return None if any(each is None for each, _ in seconds) else sum((each or 0.0) * ranks for each, ranks in seconds)
