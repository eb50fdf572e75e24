"""How far long work is: a bar on a terminal, a plain line an epoch where there is none."""

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from bench.measure.durations import duration
from crt import distributed, screen
from crt.text import printable, replace_missing_characters

_SECONDS = 10.0
"""Between plain lines of images judged, of which there may be thousands."""


class Progress:
    """Counts steps of one piece of work on rank 0; other ranks are silent."""

    def __init__(self, title: str, total: int, done: int, unit: str):
        self.title, self.total, self.done, self.unit = printable(title), total, done, unit
        self.first, self.began, self.said = done, time.monotonic(), 0.0
        self.bar: Bar | None = None

    def __enter__(self) -> "Progress":
        replace_missing_characters()  # in a job's own process no command line has
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
        """One more is done; `note` says how it went."""
        self.done += 1
        if self.bar:
            self.bar.update(self.task, completed=self.done, note=note)
        elif distributed.rank() == 0:
            self._line(note)

    def _line(self, note: str) -> None:
        now = time.monotonic()
        if self.unit == "image" and self.done < self.total and now - self.said < _SECONDS:
            return
        self.said = now
        left = (now - self.began) / (self.done - self.first) * (self.total - self.done)
        parts = [f"{self.title}: {self.unit} {self.done}/{self.total}", note, f"{duration(left)} left" if left else ""]
        print(", ".join(part for part in parts if part), flush=True)
