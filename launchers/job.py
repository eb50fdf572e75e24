"""Jobs that an earlier version queued: submitit unpickles them as `launchers.job.Job`."""

from collections.abc import Callable
from typing import Any


class Call:
    """`function(*args)` on every rank; today's launchers queue `launchers.task.Task` instead."""

    function: Callable[..., None]
    args: tuple[Any, ...]

    def __call__(self) -> None:
        from launchers.rendezvous import join_ranks

        with join_ranks():
            self.function(*self.args)

    def checkpoint(self) -> Any:
        """Preempted or out of time: submit the same call again, which goes on from its last epoch."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


Job = Call
"""The name under which such a job was pickled."""
