"""Which launcher `auto` is: Slurm where a cluster answers, else this machine."""

import shutil
import sys
from typing import Literal

from launchers.states import can_submit

_SECONDS = 5.0
"""Time that a cluster gets to answer: nobody asked for one."""


def choose(profile: bool) -> Literal["slurm", "local"]:
    """Slurm if a profile was named or a cluster answers; a remark on stderr where sbatch is there and none answers."""
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
