"""Take a manifest's jobs out of Slurm's queue."""

import time
from collections.abc import Sequence
from pathlib import Path

from bench.manifest import read_manifest
from bench.plan.job_states import states
from bench.plan.waves import pluralize
from launchers.states import ask, check, queued

_PATIENCE = 60.0
"""Seconds that cancelled jobs get to end, so that submitting again finds them gone."""


def cancel(manifest: Path, runs: Path, data: Path, quick: bool, overrides: Sequence[str] = ()) -> str:
    """Cancel the manifest's jobs that run or wait, and say how many; ValueError where Slurm does not answer."""
    asked = read_manifest(manifest, quick, networks=False, overrides=overrides)
    _check_slurm()
    found, _ = states(asked, runs, data)
    jobs = sorted({state.id for state in found if state.word in ("running", "waiting")})
    if not jobs:
        return "nothing of it is queued"
    ask("scancel", *jobs)
    until = time.monotonic() + _PATIENCE
    while (left := set(jobs) & set(queued()[0])) and time.monotonic() < until:
        time.sleep(0.5)
    return f"cancelled {pluralize(len(jobs))}" + (f" ({len(left)} have not ended yet)" if left else "")


def _check_slurm() -> None:
    try:
        check()
    except ValueError as error:
        raise ValueError(f"{error} (what runs on this machine ends with ctrl-C, where it was started)") from None
