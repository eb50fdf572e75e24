"""Ledger of jobs handed to Slurm: one JSON line before an array is submitted, and one with its id after."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from launchers.states import Seen


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


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """The most recent submission of a job."""

    id: str
    tag: str
    time: float
    replaced: bool = False
    """True if Slurm has given the id to another array, after it lost this one."""

    def find(self, seen: Mapping[str, Seen]) -> Seen | None:
        """The job in Slurm's answer; None if it is not there, or if another job has its id."""
        job = seen.get(self.id)
        return job if job and not self.replaced and job.tag in (None, self.tag) else None


class Ledger:
    """`queue.jsonl` in a runs folder, which every submit reads and writes under a lock.

    It is written in the folder that was there at first: an empty one in its place, while its storage is gone, tells
    nothing of the jobs that are queued, and what is noted there is lost.
    """

    def __init__(self, runs: Path):
        self.file = runs / "queue.jsonl"
        self._folder = _identity(runs)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock. Another submit waits for it and then sees the jobs queued by this one.

        ValueError if the folder was there when this ledger was made, and no longer is.
        """
        if self._folder is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._folder = _identity(self.file.parent)
        self._check_folder()
        with open(self.file.with_suffix(".lock"), "w", encoding="utf-8") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            yield

    def note(self, entry: Entry) -> None:
        """Append a line, which is on disk when this returns; an OSError names the file. ValueError as of `locked`."""
        self._check_folder()
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

    def submitted(self, cluster: str | None, queue: Mapping[str, Seen]) -> dict[str, Submitted]:
        """Most recent submission of each job to `cluster` (None: to any).

        `queue` gives the ids of arrays whose submitter died. An id alone names no job: a controller that is killed
        before it saves its state gives the same id again. So the array that Slurm shows with the tag in its comment has
        the id, or else the last array that the ledger notes with it.
        """
        by_tag = {entry.tag: entry for entry in self._lines() if cluster in (None, entry.cluster)}
        arrays = {seen.tag: seen.array for seen in queue.values() if seen.tag in by_tag}
        entries = [entry.model_copy(update={"id": arrays.get(entry.tag, entry.id)}) for entry in by_tag.values()]
        owners = {(entry.cluster, entry.id): entry.tag for entry in sorted(entries, key=lambda e: e.tag in arrays)}
        submitted = {}
        for entry in entries:
            replaced = owners[entry.cluster, entry.id] != entry.tag
            for name in entry.jobs if entry.id else ():
                submitted[name] = Submitted(id=entry.job(name), tag=entry.tag, time=entry.time, replaced=replaced)
        return submitted

    def names(self) -> set[str]:
        """Names of all jobs that were ever handed to a cluster."""
        return {name for entry in self._lines() for name in entry.jobs}

    def _check_folder(self) -> None:
        if self._folder not in (None, _identity(self.file.parent)):
            raise ValueError(f"{self.file.parent}: gone, or another folder than before (is its storage mounted?)")

    def tags(self) -> set[str]:
        """Tags of all arrays that were ever handed to a cluster."""
        return {entry.tag for entry in self._lines()}

    def _lines(self) -> Iterator[Entry]:
        # Bytes: a damaged line may be no text.
        for line in self.file.read_bytes().split(b"\n") if self.file.exists() else ():
            try:
                yield Entry.model_validate_json(line)
            except ValidationError:
                continue  # incomplete, as its submitter died: the array was not queued, or the next line has it


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode of a folder; None where there is none that can be asked."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def entry(tag: str, cluster: str, jobs: tuple[str, ...]) -> Entry:
    """A new entry with the current time, before Slurm has assigned an id."""
    return Entry(tag=tag, time=time.time(), cluster=cluster, jobs=jobs)
