"""A picklable call on some ranks, and the waves in which such calls are made."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31)}
"""glibc's defaults fault large tensors in again at each use, or not, by the process's history: fixed for every rank."""

RENDEZVOUS = "BENCH_RENDEZVOUS"
"""Names the file, on storage that its nodes share, by which the ranks of one attempt at a job find each other."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """`function(*args)` in `ranks` processes over `nodes`; under Slurm it is requeued with the same arguments."""

    name: str
    ranks: int
    nodes: int
    function: Callable[..., None]
    args: tuple[Any, ...]
    records: Path
    """The file that its first rank writes."""
    timed: bool = True
    """Whether its seconds are results, so that it should have its nodes to itself."""
    steps: tuple[int, int] = (0, 1)
    """Done and in all: epochs, images or timed epochs."""
    done: bool = False
    """Whether nothing is left of it to do."""
    environment: dict[str, str | None] = field(default_factory=dict)
    """Set in the process before anything else; None takes a variable away."""

    def __call__(self) -> None:
        """What submitit unpickles and runs, once a rank."""
        from launchers.rendezvous import joined

        for name, value in self.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        with joined():
            self.function(*self.args)

    def checkpoint(self) -> Any:
        """Preempted or out of time: submit the same call again, which goes on from its last epoch."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True, kw_only=True)
class Wave:
    """Jobs that may run at once, when those of the wave number `after` have ended, well or not."""

    name: str
    jobs: tuple[Job, ...]
    after: int | None


def unfinished(waves: list[Wave]) -> list[Job]:
    """The jobs that have something left to do, in order."""
    return [job for wave in waves for job in wave.jobs if not job.done]
