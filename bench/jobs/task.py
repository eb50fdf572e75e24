"""Base class of the benchmark's tasks: what planning, estimates and status need beside a launcher's `Task`."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.build.workload import Workload
from bench.cell import Cell
from bench.jobs.lease import JobPaths
from bench.records import End, Record, Start
from launchers.task import Task, TaskProgress


@dataclass(frozen=True, kw_only=True)
class BenchTask(Task):
    """A task that works in the folders of `place` and writes records.

    Beside the members of `Task`, a task implements `records` and `progress`. A task with a network also overrides
    `label_cell`, `training_cells` and `cost`.
    """

    place: JobPaths

    @property
    @abstractmethod
    def records(self) -> Path:
        """Records file of the task's first rank."""

    @abstractmethod
    def progress(self, records: Sequence[Record]) -> TaskProgress:
        """Progress of the task by its records: those of its file, or of its cell's whole folder."""

    @property
    def label_cell(self) -> Cell | None:
        """Cell whose label is printed beside the task's key, which holds only an id; None for no label."""
        return None

    @property
    def training_cells(self) -> tuple[Cell, ...]:
        """Cells that the task trains: the device must support their training steps."""
        return ()

    def cost(self) -> Iterable[Workload]:
        """The task's whole work; empty where its time cannot be estimated."""
        return ()


def ended(records: Sequence[Record]) -> bool:
    """True if the last attempt wrote all its records, whatever failed after it."""
    last = next((record for record in reversed(records) if isinstance(record, Start | End)), None)
    return isinstance(last, End)
