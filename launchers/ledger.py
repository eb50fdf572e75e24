"""Which jobs were handed to Slurm: one JSON line before an array is submitted, one with its id after."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError


class Entry(BaseModel):
    """An array: the names of its jobs in order, and its id once Slurm has given it one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tag: str
    """Given to Slurm as the comment, so that an array whose submitter died is known again."""
    time: float
    cluster: str
    jobs: tuple[str, ...]
    id: str | None = None

    def job(self, name: str) -> str:
        """The id of one job, as squeue prints it: an array of one is a plain job."""
        return f"{self.id}_{self.jobs.index(name)}" if len(self.jobs) > 1 else f"{self.id}"


class Ledger:
    """`queue.jsonl` in a runs folder, read and written under a lock by every submit."""

    def __init__(self, runs: Path):
        self.file = runs / "queue.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One submit at a time: the next one waits, and then sees what this one queued."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file.with_suffix(".lock"), "w", encoding="utf-8") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            yield

    def note(self, entry: Entry) -> None:
        """Add a line, on disk before this returns."""
        with open(self.file, "a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(entry.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self, cluster: str, comments: dict[str, str]) -> list[Entry]:
        """The arrays handed to `cluster`, oldest first; `comments` give the ids of those whose submitter died."""
        found = {entry.tag: entry for entry in self._lines() if entry.cluster == cluster}
        known = [e if e.id else e.model_copy(update={"id": comments.get(e.tag)}) for e in found.values()]
        return [entry for entry in known if entry.id]

    def names(self) -> set[str]:
        """Every job that was ever handed to a cluster."""
        return {name for entry in self._lines() for name in entry.jobs}

    def _lines(self) -> Iterator[Entry]:
        for line in self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else ():
            try:
                yield Entry.model_validate_json(line)
            except ValidationError:
                continue  # torn by a submitter's death: its array was not queued yet, or is known by the next line


def latest(entries: list[Entry]) -> dict[str, str]:
    """The Slurm id of each job that was ever queued: that of the last time."""
    return {name: entry.job(name) for entry in entries for name in entry.jobs}


def entry(tag: str, cluster: str, jobs: tuple[str, ...]) -> Entry:
    return Entry(tag=tag, time=time.time(), cluster=cluster, jobs=jobs)
