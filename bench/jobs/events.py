"""TensorBoard events of a cell's training, made from its records after each epoch."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.cell import Cell
from bench.jobs.lease import RecordLease
from bench.records import Epoch, MonitorPoint, Record, Start, read
from crt.plugins import find
from crt.text import printable

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_NEVER = 86_400
"""Seconds between the writer's own flushes: its thread sleeps while an epoch is timed."""


class Point(NamedTuple):
    """Scalars of one epoch by tag."""

    time: float
    """Start of the attempt and the timed seconds since (seconds since 1970)."""
    scalars: dict[str, float]


class Events:
    """Writes scalars of a cell's epochs into `folder`/ID for TensorBoard; the step is the 0-based epoch.

    The events are a copy of the records. An attempt first replaces those of earlier attempts by the epochs before
    `first`, the epoch that it continues with, so that each epoch is there once. An error in writing is printed and ends
    the events, not the training.
    """

    def __init__(self, cell: Cell, folder: Path, lease: RecordLease, first: int):
        self.cell, self.folder, self.lease = cell, folder / cell.id, lease
        self._writer: SummaryWriter | None = None
        self._written = 0
        try:
            self._writer = self._open()
        except (ImportError, OSError) as error:
            self._give_up(error)
        self._write(first)

    def update(self) -> None:
        """Write the epochs recorded since the last call. SupersededError where a later attempt has taken over."""
        self._write(self.cell.recipe.epochs)

    def close(self) -> None:
        """End the writer's thread."""
        if self._writer:
            try:
                self._writer.close()
            except OSError as error:
                self._give_up(error)

    def _open(self) -> "SummaryWriter":
        """A writer of a new file, after removing those of earlier attempts."""
        from torch.utils.tensorboard import SummaryWriter

        with self.lease.held():
            for file in self.folder.glob("events.out.tfevents.*"):
                file.unlink()
            # The step makes a TensorBoard that is running forget what it read from the removed files.
            return SummaryWriter(str(self.folder), purge_step=0, flush_secs=_NEVER)

    def _write(self, end: int) -> None:
        """Write the recorded epochs below `end` that are not written yet."""
        if not self._writer:
            return
        recorded = points(self.cell, read(self.lease.file))
        try:
            with self.lease.held():
                for epoch in sorted(set(recorded) & set(range(self._written, end))):
                    for tag, value in recorded[epoch].scalars.items():
                        self._writer.add_scalar(tag, value, epoch, recorded[epoch].time)
                    self._written = epoch + 1
                self._writer.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._writer = None
        reason = printable(str(error))
        print(f"note: no further TensorBoard events of {self.cell.id}: {reason} (training goes on)", flush=True)


def points(cell: Cell, records: Iterable[Record]) -> dict[int, Point]:
    """Scalars by epoch; of an epoch that is recorded twice, the later ones."""
    claims = {spec.id: find("crt.evals", spec.name).kind for spec in cell.monitor.evals} if cell.monitor else {}
    found: dict[int, Point] = {}
    monitored: dict[tuple[int, str], MonitorPoint] = {}
    now = 0.0
    for record in records:
        if isinstance(record, Start):
            now = record.time
        elif isinstance(record, MonitorPoint):
            monitored[record.epoch, record.eval] = record
        elif isinstance(record, Epoch):
            now += record.seconds
            scalars = _training(record)
            for (epoch, name), point in monitored.items():
                if epoch == record.epoch:
                    scalars |= _accuracies(point, claims.get(name) not in ("clean", "noisy", "corrupted"))
            found[record.epoch] = Point(now, scalars)
    return found


def _training(record: Epoch) -> dict[str, float]:
    values = {
        "loss": record.loss,
        "lr": record.lr,
        "seconds": record.seconds,
        "images_per_second": record.images / record.seconds,
        "memory_MB": record.memory,
        "host_memory_MB": record.host_memory,
    }
    return {f"train/{name}": value for name, value in values.items() if value is not None}


def _accuracies(point: MonitorPoint, robust: bool) -> dict[str, float]:
    """Monitored shares of images and further values; without `robust`, the evaluation judges no robustness."""
    values = {"accuracy": point.right} | ({"robust_accuracy": point.standing} if robust else {}) | point.details
    return {f"monitor/{point.eval}/{name}": value for name, value in values.items()}
