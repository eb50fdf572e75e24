"""One job after another on this machine, a process a rank, through submitit's LocalExecutor."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from submitit.core.utils import UncompletedJobError
from submitit.local.local import LocalExecutor, LocalJob

from launchers.environment import ALLOCATOR, RENDEZVOUS, cleaned
from launchers.task import Task, Wave, unfinished

_MINUTES = 60 * 24 * 30


def launch(waves: Sequence[Wave[Task]], logs: Path) -> int:
    """Run every task, each in fresh processes, its output passed on; how many failed (their logs are named).

    KeyboardInterrupt where this process is interrupted or told to end, when no process of the task is left.
    """
    failed = 0
    # Told to end, it ends what it started, as it does when it is interrupted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for job in unfinished(waves):
        failed += not _run(job.task, logs)
    return failed


@dataclass(frozen=True)
class _Rank:
    """Callable for submitit: one rank of a task, which sees the GPUs that this process sees and ends when told to."""

    task: Task
    gpus: str | None
    """CUDA_VISIBLE_DEVICES of this process; submitit would hide the GPUs."""

    def __call__(self) -> None:
        if self.gpus is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus
        # submitit has ranks pass over SIGTERM, which its controller hands on: here it ends them.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.task()


def _run(task: Task, logs: Path) -> bool:
    """submitit would start a whole array at once on the same hardware: so one task is given, and waited for."""
    executor = LocalExecutor(folder=logs)
    executor.update_parameters(tasks_per_node=task.ranks, timeout_min=_MINUTES)
    with tempfile.NamedTemporaryFile(prefix="rendezvous-", dir=logs) as meeting:
        return _finish(task, _start(task, executor, {RENDEZVOUS: meeting.name}))


def _start(task: Task, executor: LocalExecutor, environment: dict[str, str]) -> LocalJob:
    """Start the task's processes."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // task.ranks))
    # The allocator reads its settings when a process starts, so they must be in what it inherits.
    fixed = {name: os.environ.get(name, value) for name, value in (ALLOCATOR | {"OMP_NUM_THREADS": threads}).items()}
    # What is started ignores a terminal's ctrl-C as well: this process alone is interrupted, and ends the others.
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with cleaned(**fixed, **environment):
            return executor.submit(_Rank(task, os.environ.get("CUDA_VISIBLE_DEVICES")))
    finally:
        signal.signal(signal.SIGINT, interrupted)


def _finish(task: Task, running: LocalJob) -> bool:
    """Wait for the task and report how it ended; True where it ended well."""
    try:
        _follow(running)
        running.results()
    except UncompletedJobError:
        said = (running.stderr() or "").strip().splitlines() or ["nothing"]
        return _report(task, running, f"ended without a result, its last words: {said[-1]}")
    except KeyboardInterrupt:
        _end(running)
        raise
    except Exception as error:
        return _report(task, running, str(error).strip().splitlines()[-1])
    return True


def _end(running: LocalJob) -> None:
    """End the ranks and their controller; a second ctrl-C would leave them behind, and is ignored."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    while not running.done():
        # Again and again: a rank that is just starting misses it.
        with suppress(ProcessLookupError):
            os.kill(int(running.job_id), signal.SIGTERM)
        time.sleep(0.2)


def _follow(running: LocalJob) -> None:
    """Pass on what rank 0 prints while it works."""
    seen = 0
    while True:
        done = running.done()
        path = running.paths.stdout
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        end = text.rfind("\n") + 1
        for line in text[seen:end].splitlines():
            if not line.startswith("submitit"):
                print(line, flush=True)
        seen = max(seen, end)
        if done:
            return
        time.sleep(0.2)


def _report(task: Task, running: LocalJob, reason: str) -> bool:
    print(f"failed: {task.key}: {reason} (log: {running.paths.stderr})", file=sys.stderr, flush=True)
    return False
