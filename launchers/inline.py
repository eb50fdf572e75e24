"""Launcher that runs tasks one after another in this process."""

import gc
from collections.abc import Sequence

from launchers.environment import cleaned
from launchers.task import Task, Wave, unfinished


def launch(waves: Sequence[Wave[Task]]) -> int:
    """Run every task and return 0, since a failing task raises; ValueError for a task with several ranks."""
    tasks = [job.task for job in unfinished(waves)]
    for task in tasks:
        if task.ranks > 1:
            raise ValueError(
                f"{task.key}: {task.ranks} ranks do not fit in one process (allowed: --launcher local, slurm)"
            )
    gc.enable()  # which the command may have disabled for its start
    # This process is a single rank, even if torchrun or Slurm set others.
    with cleaned():
        for task in tasks:
            task.run()
    return 0
