"""What planning, estimates and status ask of a task, beside what launchers do."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.build.workload import Workload
from bench.cell import Cell
from bench.jobs.lease import JobPaths
from bench.records import Record
from launchers.task import Task, TaskProgress


@dataclass(frozen=True, kw_only=True)
class BenchTask(Task):
    """A task that works in the folders of `place` and writes records.

    Beside what a launcher asks for, a task implements `records` and `progress`. It overrides `label_cell`,
    `training_cells` and `cost` where there is anything to tell: the defaults are those of a task without a network.
    """

    place: JobPaths

    @property
    @abstractmethod
    def records(self) -> Path:
        """File that the task's first rank writes."""

    @abstractmethod
    def progress(self, records: Sequence[Record]) -> TaskProgress:
        """How far the task is by the records that bear on it: those of its file, or of its cell's whole folder."""

    @property
    def label_cell(self) -> Cell | None:
        """Cell whose label stands beside the task's key, which holds no more than an id; None where none does."""
        return None

    @property
    def training_cells(self) -> tuple[Cell, ...]:
        """Cells whose training steps the task takes: the device must be able to take them."""
        return ()

    def cost(self) -> Iterable[Workload]:
        """The task's whole work; empty where nothing tells how long it takes."""
        return ()
