"""Time what the switches of arithmetic bring, within a budget."""

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
from bench.jobs.time_certification import certifications
from bench.jobs.timing_tasks import CertificationTask, TimeTask, TimingTask
from bench.manifest import read_manifest
from bench.manifest.manifest import Manifest
from bench.measure.provenance import check_install
from bench.records import read
from crt import distributed
from crt.data import DATASETS
from crt.data.beton_file import ensure
from crt.text import printable
from crt.training.precision import check

_LEAST = 1.0
"""Seconds that are worth beginning with."""
_EARLY = 0.7
"""The share of the time that may go to what is not compiled."""


def time_switches(
    path: Path, methods: str | None, archs: str | None, seconds: int, runs: Path, data: Path
) -> tuple[int, int]:
    """Time a manifest's studies within so many seconds; how many are whole now, of how many.

    ValueError, before anything is timed, for what is not a timing study, or names or images that are not there.
    """
    place = JobPaths(runs=runs.absolute(), data=data.absolute(), process="shared")
    check_install()
    asked = read_manifest(path)
    if not asked.timing:
        raise ValueError(f"{path}: timing: missing (bench.speed times a study)")
    firsts = [study.arms[0] for study in asked.studies]
    names = _names("methods", methods, {arm.method.name for arm in firsts})
    networks = _names("archs", archs, {arm.arch for arm in firsts})
    tasks = list(_tasks(_with_images(asked, place.data), names, networks, place))
    if not tasks:
        given = [f"--{name} {value}" for name, value in (("methods", methods), ("archs", archs)) if value]
        raise ValueError(f"{' '.join(given)}: no study of {path} whose images are there is of such")
    return run(tasks, seconds), len(tasks)


def run(tasks: Sequence[TimingTask], seconds: float) -> int:
    """Each as long as its share of what is left; how many are whole. Ended by its time or by ctrl-C, records stay."""
    deadline = time.monotonic() + seconds
    # What was never begun goes before what was cut short, so that a second call goes further.
    left = [task for task in tasks if not _whole(task)]
    left.sort(key=lambda task: (task.compiled, task.records.exists()))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        for number, task in enumerate(left):
            seconds_left = deadline - time.monotonic()
            alike = sum(other.compiled == task.compiled for other in left[number:])
            if seconds_left <= _LEAST:
                break
            if not _do(task, seconds_left * (_EARLY if not task.compiled and left[-1].compiled else 1.0) / alike):
                print("stopped: the GPU takes no more work from this process; the next call goes on")
                break
    except KeyboardInterrupt:
        print(f"cut off after {seconds - (deadline - time.monotonic()):.0f} s")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return sum(map(_whole, tasks))


def _do(task: TimingTask, seconds: float) -> bool:
    """Whether another can be done after it."""
    try:
        task.run_within(seconds)
    except (ValueError, RuntimeError) as error:
        # Its own records say so, too; the others may well run.
        print(f"{task.id}: {printable(str(error).strip().splitlines()[0])}", file=sys.stderr)
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        try:
            # After a recording that failed nothing can be drawn any more.
            torch.rand(1, device=distributed.device())
        except RuntimeError:
            return False
    return True


def _whole(task: TimingTask) -> bool:
    return task.progress(read(task.records)).finished


def _names(option: str, written: str | None, known: Collection[str]) -> list[str] | None:
    """The names that an option gives, or None; ValueError where no study is of one of them."""
    names = None if written is None else [name.strip() for name in written.split(",")]
    for name in names or ():
        if name not in known:
            raise ValueError(f"--{option} {name!r}: no study is of such (allowed: {', '.join(sorted(known))})")
    return names


def _with_images(manifest: Manifest, data: Path) -> Manifest:
    """The cells whose images are there; ValueError, as of the first dataset, where none are."""
    lacking = {}
    for dataset in dict.fromkeys(cell.dataset for cell in manifest.cells):
        try:
            for split in ("train", "test"):
                ensure(DATASETS[dataset], split, data)
        except ValueError as error:
            lacking[dataset] = error
    there = tuple(cell for cell in manifest.cells if cell.dataset not in lacking)
    if not there:
        raise next(iter(lacking.values()))
    for error in lacking.values():
        print(f"left out: {printable(str(error))}", file=sys.stderr)
    return manifest.model_copy(update={"cells": there})


def _tasks(
    manifest: Manifest, methods: Collection[str] | None, archs: Collection[str] | None, place: JobPaths
) -> Iterator[TimingTask]:
    for certification in certifications(manifest):
        # Without a compiler there are no ways to time.
        if methods is None and (archs is None or certification.cell.arch in archs) and certification.ways:
            yield CertificationTask(certification=certification, place=place)
    cannot = {arm.id: why for study in manifest.studies for arm in study.arms if (why := _why_not(arm))}
    for why, arms in Counter(cannot.values()).items():
        print(f"left out: {arms} arms: {why}", file=sys.stderr)
    for study in manifest.studies:
        # A study of one method holds the baseline beside it: its own arm is the first.
        if (archs is None or study.arms[0].arch in archs) and (methods is None or study.arms[0].method.name in methods):
            yield TimeTask(study=study, place=place, left_out=tuple(cannot))


def _why_not(arm: Cell) -> str | None:
    """Why this device or installation cannot do it, if it cannot."""
    try:
        check(arm.recipe, distributed.device())
    except ValueError as error:
        return str(error)
