"""Tasks, the waves in which launchers run them, and what every rank of a task finds in its environment."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar


class Task(ABC):
    """A piece of work that a launcher starts in `ranks` processes and knows by its key.

    A task implements `key`, `group` and `run`. It overrides `ranks`, `nodes` and `timed` where it is more than one
    process, or its seconds are no result. It is a frozen dataclass at the top level of a module that imports no torch:
    a launcher pickles it, and Slurm requeues it unchanged. So it holds what the work is, and nothing of how far it is.
    """

    @property
    @abstractmethod
    def key(self) -> str:
        """Name that no other task of a runs folder has. It stands in the ledger: a new version keeps it."""

    @property
    @abstractmethod
    def group(self) -> str:
        """Name that the shards or runs of the same work share; tables show a group as one row."""

    @abstractmethod
    def run(self) -> None:
        """Do this rank's part of the work, from where an earlier attempt stopped."""

    @property
    def ranks(self) -> int:
        """Processes, over all nodes."""
        return 1

    @property
    def nodes(self) -> int:
        """Nodes that the ranks are spread over evenly."""
        return 1

    @property
    def timed(self) -> bool:
        """True where seconds are results, so that the task should have its nodes to itself."""
        return True

    def __call__(self) -> None:
        """Run as one of the task's ranks: submitit calls this in each process."""
        from launchers.rendezvous import join_ranks  # imports torch, which planning does without

        with join_ranks():
            self.run()

    def checkpoint(self) -> Any:
        """Preempted or out of time, submitit submits what this returns: the same task, which resumes by itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class TaskProgress(NamedTuple):
    """How far a task is."""

    done: int = 0
    """Epochs, images or chunks, of `total`."""
    total: int = 1
    finished: bool = False
    """True where nothing is left to do."""


T_co = TypeVar("T_co", bound=Task, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Job(Generic[T_co]):
    """A task in a plan, and how far it was when the plan was made."""

    task: T_co
    progress: TaskProgress


@dataclass(frozen=True, kw_only=True)
class Wave(Generic[T_co]):
    """Jobs that may run at once, when those of the wave number `after` have ended, well or not."""

    name: str
    jobs: tuple[Job[T_co], ...]
    after: int | None


def unfinished(waves: Iterable[Wave[T_co]]) -> list[Job[T_co]]:
    """The jobs that have something left to do, in order."""
    return [job for wave in waves for job in wave.jobs if not job.progress.finished]
