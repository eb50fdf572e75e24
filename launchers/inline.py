"""One after another, in this process."""

from launchers.job import Job


def launch(waves: list[list[Job]]) -> int:
    """Run every job; ValueError for one that asks for more than one rank. How many failed: none, or it raises."""
    for job in (job for wave in waves for job in wave):
        if job.ranks > 1:
            raise ValueError(
                f"{job.name}: {job.ranks} ranks do not fit in one process (allowed: --launcher local, slurm)"
            )
    for job in (job for wave in waves for job in wave):
        job.function(*job.args)
    return 0
