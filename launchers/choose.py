"""Choose the launcher for `auto`: Slurm if a cluster answers, else this machine."""

import shutil
import sys
from typing import Literal

from launchers.states import can_submit

_SECONDS = 5.0
"""Seconds to wait for a cluster's answer; short, since the user did not ask for a cluster."""


def choose(profile: bool) -> Literal["slurm", "local"]:
    """Slurm if `profile` or if a cluster answers; a note on stderr if sbatch exists and no cluster answers."""
    if profile:
        return "slurm"
    if not shutil.which("sbatch"):
        return "local"
    try:
        can_submit(_SECONDS)
    except ValueError as error:
        print(f"note: no cluster answers ({error}); jobs run on this machine", file=sys.stderr)
        return "local"
    return "slurm"
