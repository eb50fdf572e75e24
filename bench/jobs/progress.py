"""Progress of long work: a bar on a terminal, else one plain line an epoch."""

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from bench.measure.durations import duration
from crt import distributed, screen
from crt.text import printable, replace_missing_characters

_SECONDS = 10.0
"""Least time between two plain lines where the unit is an image, since there may be thousands of them."""


class Progress:
    """Counts steps of one piece of work on rank 0; other ranks are silent."""

    def __init__(self, title: str, total: int, done: int, unit: str):
        self.title, self.total, self.done, self.unit = printable(title), total, done, unit
        self.first, self.began, self.printed = done, time.monotonic(), 0.0
        self.warmed = self.began
        """Time at the end of the first step. A first epoch takes longer than others: it imports and compiles."""
        self.bar: Bar | None = None

    def __enter__(self) -> "Progress":
        replace_missing_characters()  # command lines do it at their start, but a job's own process has none
        if distributed.rank() == 0 and sys.stdout.isatty():
            title, note = (TextColumn(f"{{task.{key}}}", markup=False) for key in ("description", "fields[note]"))
            columns = (title, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
            self.bar = Bar(*columns, console=screen.output())
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=self.total, completed=self.done, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def step(self, note: str) -> None:
        """Count one more step; `note` describes its result."""
        self.done, now = self.done + 1, time.monotonic()
        if self.done == self.first + 1:
            self.warmed = now
        if self.bar:
            self.bar.update(self.task, completed=self.done, note=note)
        elif distributed.rank() == 0:
            self._line(note, now)

    def _line(self, note: str, now: float) -> None:
        if self.unit == "image" and self.done < self.total and now - self.printed < _SECONDS:
            return
        self.printed = now
        left = self._seconds_left(now)
        parts = [f"{self.title}: {self.unit} {self.done}/{self.total}", note, f"{duration(left)} left" if left else ""]
        print(", ".join(part for part in parts if part), flush=True)

    def _seconds_left(self, now: float) -> float:
        """Expected time of the rest; 0 where it is unknown."""
        steps, began = self.done - self.first, self.began
        if self.unit == "image" and steps == 1:
            return 0.0  # images are judged in batches: the time before the first one is that of many
        if self.unit == "epoch" and steps > 1:
            steps, began = steps - 1, self.warmed
        return (now - began) / steps * (self.total - self.done)
