"""Cancel a manifest's jobs in Slurm."""

import time
from collections.abc import Sequence
from pathlib import Path

from bench.manifest import read_manifest
from bench.plan.job_states import states
from bench.plan.waves import pluralize
from launchers.states import ask, check, queued

_PATIENCE = 60.0
"""Seconds to wait for cancelled jobs to end, so that the next submit no longer sees them."""


def cancel(manifest: Path, runs: Path, data: Path, quick: bool, overrides: Sequence[str] = ()) -> str:
    """Cancel the running and waiting jobs; return a message with their number. ValueError if Slurm does not answer."""
    parsed = read_manifest(manifest, quick, networks=False, overrides=overrides)
    _check_slurm()
    job_states, _ = states(parsed, runs, data)
    jobs = sorted({state.id for state in job_states if state.word in ("running", "waiting")})
    if not jobs:
        return "no job of this manifest is queued"
    ask("scancel", *jobs)
    deadline = time.monotonic() + _PATIENCE
    while (remaining := set(jobs) & set(queued()[0])) and time.monotonic() < deadline:
        time.sleep(0.5)
    return f"cancelled {pluralize(len(jobs))}" + (f" ({len(remaining)} have not ended yet)" if remaining else "")


def _check_slurm() -> None:
    try:
        check()
    except ValueError as error:
        raise ValueError(f"{error} (jobs on this machine end with ctrl-C in the terminal that started them)") from None
