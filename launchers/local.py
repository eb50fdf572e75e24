"""Launcher that runs jobs one after another on this machine through submitit, one process per rank."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from submitit import Job
from submitit.core.utils import UncompletedJobError
from submitit.local.local import LocalExecutor

from launchers.environment import ALLOCATOR, RENDEZVOUS, cleaned
from launchers.task import Task, Wave, unfinished

_MINUTES = 60 * 24 * 30


def launch(waves: Sequence[Wave[Task]], logs: Path) -> int:
    """Run each task in new processes and print its output; return how many failed, after naming their logs.

    If this process is interrupted or terminated, KeyboardInterrupt is raised once no process of the task is left.
    """
    failed = 0
    # Handle SIGTERM like ctrl-C, so that the processes of the task end with this one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for job in unfinished(waves):
        failed += not _run(job.task, logs)
    return failed


@dataclass(frozen=True)
class _Rank:
    """Callable for submitit: one rank of a task, which sees this process's GPUs and ends at SIGTERM."""

    task: Task
    gpus: str | None
    """CUDA_VISIBLE_DEVICES of this process, which submitit would replace to hide the GPUs."""

    def __call__(self) -> None:
        if self.gpus is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus
        # submitit makes ranks ignore SIGTERM, which its controller forwards; here SIGTERM must end them.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.task()


def _run(task: Task, logs: Path) -> bool:
    """Run one task and wait for it, because submitit would start all tasks of an array at once on the same hardware."""
    executor = LocalExecutor(folder=logs)
    executor.update_parameters(tasks_per_node=task.ranks, timeout_min=_MINUTES)
    with tempfile.NamedTemporaryFile(prefix="rendezvous-", dir=logs) as rendezvous:
        return _finish(task, _start(task, executor, {RENDEZVOUS: rendezvous.name}))


def _start(task: Task, executor: LocalExecutor, environment: dict[str, str]) -> Job[None]:
    """Start the task's processes."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // task.ranks))
    # The allocator reads its settings at the start of a process, so they must be in the environment it inherits.
    fixed = {name: os.environ.get(name, value) for name, value in (ALLOCATOR | {"OMP_NUM_THREADS": threads}).items()}
    # The ranks inherit that ctrl-C is ignored: only this process is interrupted, and it ends the ranks.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with cleaned(**fixed, **environment):
            return executor.submit(_Rank(task, os.environ.get("CUDA_VISIBLE_DEVICES")))
    finally:
        signal.signal(signal.SIGINT, handler)


def _finish(task: Task, running: Job[None]) -> bool:
    """Wait for the task and report a failure; True if the task succeeded."""
    try:
        _follow(running)
        running.results()
    except UncompletedJobError:
        lines = (running.stderr() or "").strip().splitlines() or ["nothing"]
        return _report(task, running, f"ended without a result, its last words: {lines[-1]}")
    except KeyboardInterrupt:
        _end(running)
        raise
    except Exception as error:
        return _report(task, running, str(error).strip().splitlines()[-1])
    return True


def _end(running: Job[None]) -> None:
    """End the ranks and their controller. A second ctrl-C is ignored, as it would leave them running."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while not running.done():
        # Repeat the signal, because a rank that is just starting misses it.
        with suppress(ProcessLookupError):
            os.kill(int(running.job_id), signal.SIGTERM)
        time.sleep(0.2)


def _follow(running: Job[None]) -> None:
    """Print the output of rank 0 while the task runs."""
    printed = 0
    while True:
        done = running.done()
        path = running.paths.stdout
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        end = text.rfind("\n") + 1
        for line in text[printed:end].splitlines():
            if not line.startswith("submitit"):
                print(line, flush=True)
        printed = max(printed, end)
        if done:
            return
        time.sleep(0.2)


def _report(task: Task, running: Job[None], reason: str) -> bool:
    print(f"failed: {task.key}: {reason} (log: {running.paths.stderr})", file=sys.stderr, flush=True)
    return False
