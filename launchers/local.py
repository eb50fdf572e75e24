"""One job after another on this machine, a process a rank, through submitit's LocalExecutor."""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from submitit.core.utils import UncompletedJobError
from submitit.local.local import LocalExecutor, LocalJob

from launchers.job import ALLOCATOR, Job, Wave, unfinished

_MINUTES = 60 * 24 * 30


def launch(waves: list[Wave], logs: Path) -> int:
    """Run every job, each in fresh processes, its output passed on; how many failed (their logs are named)."""
    failed = 0
    # Told to end, it ends what it started, as it does when it is interrupted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for job in unfinished(waves):
        failed += not _run(job, logs)
    return failed


def _run(job: Job, logs: Path) -> bool:
    """submitit would start a whole array at once on the same hardware: so one job is given, and waited for."""
    executor = LocalExecutor(folder=logs)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    executor.update_parameters(tasks_per_node=job.ranks, timeout_min=_MINUTES)
    threads = str(max(1, len(os.sched_getaffinity(0)) // job.ranks))
    fixed = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)} | ALLOCATOR
    before = {name: os.environ.get(name) for name in fixed}
    os.environ.update({name: value for name, value in fixed.items() if before[name] is None})
    try:
        # The allocator reads its settings when a process starts, so they must be in what it inherits.
        environment = {"CUDA_VISIBLE_DEVICES": visible}
        running = executor.submit(replace(job, environment=environment))
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
    try:
        _follow(running)
        running.results()
    except UncompletedJobError:
        said = (running.stderr() or "").strip().splitlines() or ["nothing"]
        return _report(job, running, f"ended without a result, its last words: {said[-1]}")
    except KeyboardInterrupt:
        running.cancel(check=False)
        raise
    except Exception as error:
        return _report(job, running, str(error).strip().splitlines()[-1])
    return True


def _follow(running: LocalJob) -> None:
    """Pass on what rank 0 prints while it works."""
    seen = 0
    while True:
        done = running.done()
        path = running.paths.stdout
        text = path.read_text(errors="replace") if path.exists() else ""
        end = text.rfind("\n") + 1
        for line in text[seen:end].splitlines():
            if not line.startswith("submitit"):
                print(line, flush=True)
        seen = max(seen, end)
        if done:
            return
        time.sleep(0.2)


def _report(job: Job, running: LocalJob, reason: str) -> bool:
    print(f"failed: {job.name}: {reason} (log: {running.paths.stderr})", file=sys.stderr, flush=True)
    return False
