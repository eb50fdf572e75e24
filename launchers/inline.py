"""One after another, in this process."""

from collections.abc import Sequence

from launchers.environment import cleaned
from launchers.task import Task, Wave, unfinished


def launch(waves: Sequence[Wave[Task]]) -> int:
    """Run every task; ValueError for one that asks for more than one rank. How many failed: none, or it raises."""
    tasks = [job.task for job in unfinished(waves)]
    for task in tasks:
        if task.ranks > 1:
            raise ValueError(
                f"{task.key}: {task.ranks} ranks do not fit in one process (allowed: --launcher local, slurm)"
            )
    # One process is one rank, whatever started it.
    with cleaned():
        for task in tasks:
            task.run()
    return 0
