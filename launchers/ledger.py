"""Ledger of jobs handed to Slurm: one JSON line before an array is submitted, and one with its id after."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError


class Entry(BaseModel):
    """An array: the names of its jobs in order, and its id once Slurm has assigned one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tag: str
    """Comment of the array in Slurm, by which an array is recognized if its submitter died."""
    time: float
    cluster: str
    jobs: tuple[str, ...]
    id: str | None = None

    def job(self, name: str) -> str:
        """Id of one job as squeue prints it; an array of one job is a plain job."""
        return f"{self.id}_{self.jobs.index(name)}" if len(self.jobs) > 1 else f"{self.id}"


class Ledger:
    """`queue.jsonl` in a runs folder, which every submit reads and writes under a lock."""

    def __init__(self, runs: Path):
        self.file = runs / "queue.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock. Another submit waits for it and then sees the jobs queued by this one."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file.with_suffix(".lock"), "w", encoding="utf-8") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            yield

    def note(self, entry: Entry) -> None:
        """Append a line, which is on disk when this returns; an OSError names the file."""
        try:
            with open(self.file, "a+b") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write(entry.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            # A write that fails, as on a full disk, does not name its file. The part written is skipped on reading.
            raise OSError(error.errno, error.strerror, str(self.file)) from None

    def entries(self, cluster: str, comments: dict[str, str]) -> list[Entry]:
        """Arrays handed to `cluster`, oldest first; `comments` gives the ids of those whose submitter died."""
        by_tag = {entry.tag: entry for entry in self._lines() if entry.cluster == cluster}
        identified = [e if e.id else e.model_copy(update={"id": comments.get(e.tag)}) for e in by_tag.values()]
        return [entry for entry in identified if entry.id]

    def names(self) -> set[str]:
        """Names of all jobs that were ever handed to a cluster."""
        return {name for entry in self._lines() for name in entry.jobs}

    def _lines(self) -> Iterator[Entry]:
        # Bytes: a damaged line may be no text.
        for line in self.file.read_bytes().split(b"\n") if self.file.exists() else ():
            try:
                yield Entry.model_validate_json(line)
            except ValidationError:
                continue  # incomplete, as its submitter died: the array was not queued, or the next line has it


def latest(entries: list[Entry]) -> dict[str, str]:
    """Most recent Slurm id of each job that was ever queued."""
    return {name: entry.job(name) for entry in entries for name in entry.jobs}


def entry(tag: str, cluster: str, jobs: tuple[str, ...]) -> Entry:
    """A new entry with the current time, before Slurm has assigned an id."""
    return Entry(tag=tag, time=time.time(), cluster=cluster, jobs=jobs)
