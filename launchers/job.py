"""Class of jobs that an earlier version queued; submitit unpickles them as `launchers.job.Job`."""

from collections.abc import Callable
from typing import Any


class Call:
    """Call of `function(*args)` on every rank. New jobs are queued as `launchers.task.Task` instead."""

    function: Callable[..., None]
    args: tuple[Any, ...]

    def __call__(self) -> None:
        from launchers.rendezvous import join_ranks

        with join_ranks():
            self.function(*self.args)

    def checkpoint(self) -> Any:
        """Resubmit the same call after preemption or a timeout; it resumes from its last epoch."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


Job = Call
"""Name under which such jobs are pickled."""
