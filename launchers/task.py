"""Tasks, and the jobs and waves in which launchers run them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar


class Task(ABC):
    """A piece of work that a launcher starts in `ranks` processes and identifies by its key.

    A subclass implements `key`, `group` and `run`. It overrides `ranks` and `nodes` if it needs several processes, and
    `timed` if its time is no result. It is a frozen dataclass at the top level of a module that imports no torch. A
    launcher pickles it, and Slurm requeues it unchanged, so it holds the description of the work and no progress.
    """

    @property
    @abstractmethod
    def key(self) -> str:
        """Name of the task, unique in a runs folder. Ledgers contain it, so new versions must keep it."""

    @property
    @abstractmethod
    def group(self) -> str:
        """Name that the shards or runs of the same work share; tables show a group as one row."""

    @abstractmethod
    def run(self) -> None:
        """Do this rank's part of the work, resuming where an earlier attempt stopped."""

    @property
    def ranks(self) -> int:
        """Number of processes over all nodes."""
        return 1

    @property
    def nodes(self) -> int:
        """Number of nodes; the ranks are spread over them evenly."""
        return 1

    @property
    def timed(self) -> bool:
        """True if times are results, so that the task should run alone on its nodes."""
        return True

    def __call__(self) -> None:
        """Run as one of the task's ranks: submitit calls this in each process."""
        from launchers.rendezvous import join_ranks  # imports torch, which planning must not

        with join_ranks():
            self.run()

    def checkpoint(self) -> Any:
        """Task for submitit to resubmit after preemption or a timeout: the same one, which resumes by itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class TaskProgress(NamedTuple):
    """Progress of a task."""

    done: int = 0
    """Epochs, images or chunks done, out of `total`."""
    total: int = 1
    finished: bool = False
    """True if nothing is left to do."""


T_co = TypeVar("T_co", bound=Task, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Job(Generic[T_co]):
    """A task of a plan, and its progress when the plan was made."""

    task: T_co
    progress: TaskProgress


@dataclass(frozen=True, kw_only=True)
class Wave(Generic[T_co]):
    """Jobs that may run at once after all jobs of wave number `after` have ended, successfully or not."""

    name: str
    jobs: tuple[Job[T_co], ...]
    after: int | None


def unfinished(waves: Iterable[Wave[T_co]]) -> list[Job[T_co]]:
    """Unfinished jobs, in order."""
    return [job for wave in waves for job in wave.jobs if not job.progress.finished]
