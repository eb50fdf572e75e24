"""One after another, in this process."""

from launchers.inherited import cleaned
from launchers.job import Wave, unfinished


def launch(waves: list[Wave]) -> int:
    """Run every job; ValueError for one that asks for more than one rank. How many failed: none, or it raises."""
    jobs = unfinished(waves)
    for job in jobs:
        if job.ranks > 1:
            raise ValueError(
                f"{job.name}: {job.ranks} ranks do not fit in one process (allowed: --launcher local, slurm)"
            )
    # One process is one rank, whatever started it.
    with cleaned():
        for job in jobs:
            job.function(*job.args)
    return 0
