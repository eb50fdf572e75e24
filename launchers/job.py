"""A picklable call on some ranks."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Job:
    """`function(*args)` in `ranks` processes over `nodes`; under Slurm it is requeued with the same arguments."""

    name: str
    ranks: int
    nodes: int
    function: Callable[..., None]
    args: tuple[Any, ...]
    environment: dict[str, str | None] = field(default_factory=dict)
    """Set in the process before anything else; None takes a variable away."""

    def __call__(self) -> None:
        """What submitit unpickles and runs, once a rank."""
        from submitit.helpers import TorchDistributedEnvironment

        # The default would overwrite the masking of GPUs that Slurm or the user set.
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        for name, value in self.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self.function(*self.args)

    def checkpoint(self) -> Any:
        """Preempted or out of time: submit the same call again, which goes on from its last epoch."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
