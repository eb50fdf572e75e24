"""Cancel a manifest's jobs in Slurm."""

import time
from collections.abc import Sequence
from pathlib import Path

from bench.manifest import read_manifest
from bench.plan.job_states import Queue, ask_slurm, states
from bench.plan.waves import pluralize
from launchers.ledger import Ledger
from launchers.states import ask, queued

_PATIENCE = 60.0
"""Seconds to wait for cancelled jobs to end, so that the next submit no longer sees them."""


def cancel(manifest: Path, runs: Path, data: Path, quick: bool, overrides: Sequence[str] = ()) -> str:
    """Cancel the queued and running jobs; return a message with their number. ValueError if Slurm does not answer.

    They are those of finished tasks, too: Slurm may hold a job for ever whose work is done.
    """
    parsed = read_manifest(manifest, quick, networks=False, overrides=overrides)
    queue = _ask_slurm()
    job_states, _ = states(parsed, runs, data, queue=queue)
    submitted = Ledger(runs).submitted(queue.cluster, queue.seen)
    found = (submitted.get(state.job.task.key) for state in job_states)
    jobs = {each.id for each in found if each and each.find(queue.seen)}
    if not jobs:
        return "no job of this manifest is queued"
    refusal = None
    try:
        ask("scancel", *sorted(jobs))
    except ValueError as error:
        refusal = error  # such as for a job that ended meanwhile
    try:
        remaining = _remaining(jobs, 0.0 if refusal else _PATIENCE)
    except ValueError as error:
        raise ValueError(f"{refusal or error} (cancel again once Slurm answers)") from None
    if refusal and remaining:
        raise ValueError(f"{refusal} ({len(remaining)} of {pluralize(len(jobs))} are queued still: cancel again)")
    return f"cancelled {pluralize(len(jobs))}" + (f" ({len(remaining)} have not ended yet)" if remaining else "")


def _remaining(jobs: set[str], patience: float) -> set[str]:
    """The jobs that are still queued after at most `patience` seconds."""
    deadline = time.monotonic() + patience
    while (remaining := jobs & set(queued())) and time.monotonic() < deadline:
        time.sleep(0.5)
    return remaining


def _ask_slurm() -> Queue:
    try:
        return ask_slurm()
    except ValueError as error:
        here = "jobs on this machine end with ctrl-C in the terminal that started them"
        raise ValueError(f"{error} (nothing is cancelled: cancel again once Slurm answers; {here})") from None
