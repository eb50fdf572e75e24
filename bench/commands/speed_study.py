"""Measure the speedup of compute settings within a time budget."""

import gc
import signal
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch

from bench.cell import Cell
from bench.jobs.lease import JobPaths
from bench.jobs.time_certification import engines
from bench.jobs.timing_tasks import CertificationTask, TimeTask, TimingTask
from bench.manifest import read_manifest
from bench.manifest.manifest import Manifest
from bench.measure.provenance import check_install
from bench.records import read
from crt import distributed
from crt.data.beton_file import ensure
from crt.text import printable
from crt.training.precision import check

_LEAST = 1.0
"""Fewest seconds for which it is worth starting a task."""
_EARLY = 0.7
"""Share of the remaining time for tasks without compilation, while compiled ones are still to come."""


def time_switches(
    path: Path, methods: str | None, archs: str | None, seconds: int, runs: Path, data: Path
) -> tuple[int, int]:
    """Time a manifest's studies within `seconds`; return the numbers of complete and of all timing tasks.

    ValueError, before anything is timed, for a manifest without a timing study, unknown names, or missing images.
    """
    place = JobPaths(runs=runs.absolute(), data=data.absolute(), process="shared")
    check_install()
    manifest = read_manifest(path)
    if not manifest.timing:
        raise ValueError(f"{path}: timing: missing (bench.speed times a study)")
    firsts = [study.arms[0] for study in manifest.studies]
    names = chosen("methods", methods, {arm.method.name for arm in firsts})
    networks = chosen("archs", archs, {arm.arch for arm in firsts})
    tasks = list(_tasks(with_images(manifest, place.data), names, networks, place))
    if not tasks:
        given = [f"--{name} {value}" for name, value in (("methods", methods), ("archs", archs)) if value]
        raise ValueError(f"{' '.join(given)}: no study of {path} has these names and its images")
    return run(tasks, seconds), len(tasks)


def run(tasks: Sequence[TimingTask], seconds: float) -> int:
    """Run each task for its share of the remaining time, and return how many of all tasks are complete.

    The time limit or ctrl-C ends it early; records are kept.
    """
    deadline = time.monotonic() + seconds
    # Tasks never begun come before those that were cut short, so that a second call reaches new ones.
    queue = [task for task in tasks if not _complete(task)]
    queue.sort(key=lambda task: (task.compiled, task.records.exists()))
    previous_handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        for number, task in enumerate(queue):
            seconds_left = deadline - time.monotonic()
            same_kind = sum(later.compiled == task.compiled for later in queue[number:])
            if seconds_left <= _LEAST:
                break
            share = (_EARLY if not task.compiled and queue[-1].compiled else 1.0) / same_kind
            if not _run_task(task, seconds_left * share):
                print("stopped: the GPU takes no more work from this process; the next call continues")
                break
    except KeyboardInterrupt:
        print(f"cut off after {seconds - (deadline - time.monotonic()):.0f} s")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)
    return sum(map(_complete, tasks))


def _run_task(task: TimingTask, seconds: float) -> bool:
    """Run a task within `seconds`; False if the GPU can run no other task in this process."""
    try:
        task.run_within(seconds)
    except (ValueError, RuntimeError) as error:
        # The task's records hold the error, too; the other tasks may still run.
        print(f"{task.id}: {printable(str(error).strip().splitlines()[0])}", file=sys.stderr)
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        try:
            # After a failed CUDA graph capture, random numbers can no longer be drawn.
            torch.rand(1, device=distributed.device())
        except RuntimeError:
            return False
    return True


def _complete(task: TimingTask) -> bool:
    return task.progress(read(task.records)).finished


def chosen(option: str, written: str | None, known: Collection[str]) -> list[str] | None:
    """Names in an option, separated by commas; None without the option. ValueError for a name that no study has."""
    names = None if written is None else [name.strip() for name in written.split(",")]
    for name in names or ():
        if name not in known:
            raise ValueError(f"--{option} {name!r}: not in the manifest (allowed: {', '.join(sorted(known))})")
    return names


def with_images(manifest: Manifest, data: Path) -> Manifest:
    """The manifest without cells whose images are missing; if no cell remains, the first dataset's ValueError."""
    missing: dict[str, ValueError] = {}
    for dataset in dict.fromkeys(cell.data for cell in manifest.cells):
        try:
            for split in ("train", "test"):
                ensure(dataset, split, data)
        except ValueError as error:
            missing[dataset.name] = error
    cells = tuple(cell for cell in manifest.cells if cell.dataset not in missing)
    if not cells:
        raise next(iter(missing.values()))
    for reason in missing.values():
        print(f"left out: {printable(str(reason))}", file=sys.stderr)
    return manifest.model_copy(update={"cells": cells})


def _tasks(
    manifest: Manifest, methods: Collection[str] | None, archs: Collection[str] | None, place: JobPaths
) -> Iterator[TimingTask]:
    for certification in manifest.certifications:
        # Without a compiler, a certification has no variants to compare.
        if methods is None and (archs is None or certification.cell.arch in archs) and engines(certification):
            yield CertificationTask(certification=certification, place=place)
    left_out = {arm.id: why for study in manifest.studies for arm in study.arms if (why := obstacle(arm))}
    for why, arms in Counter(left_out.values()).items():
        print(f"left out: {arms} arms: {why}", file=sys.stderr)
    for study in manifest.studies:
        # A study of one method also holds the baseline; the method's own arm comes first.
        if (archs is None or study.arms[0].arch in archs) and (methods is None or study.arms[0].method.name in methods):
            yield TimeTask(study=study, place=place, left_out=tuple(left_out))


def obstacle(arm: Cell) -> str | None:
    """Reason why this device or installation cannot run the arm; None if it can."""
    try:
        check(arm.recipe, distributed.device())
    except ValueError as error:
        return str(error)
    return None
