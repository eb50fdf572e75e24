"""One attempt at a job: where it works, the right to write its records, and the reason where it fails."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.cell import Cell
from bench.records import Fail, Record, append
from crt.data import DATASETS
from crt.data.stage import stage
from crt.text import printable
from launchers.states import job_id

_SKEW = 300.0
"""Seconds that clocks may be apart; Slurm's own authentication allows as much."""


@dataclass(frozen=True, kw_only=True)
class JobPaths:
    """Folders that a job reads and writes."""

    runs: Path
    data: Path
    process: Literal["fresh", "shared"]
    stage: Path | None = None
    """Node-local storage that .beton files are copied to before they are read."""
    submitted: float = 0.0
    """When the job was handed over (seconds since 1970): no clock of a node may be before it."""

    def images(self, cell: Cell, split: str) -> Path:
        """The folder to read a split from: the node's own copy where the profile names a place for it."""
        return stage(DATASETS[cell.dataset], split, self.data, self.stage) if self.stage else self.data


class SupersededError(Exception):
    """A later attempt at the same job writes its records now."""


class RecordLease:
    """The right to write a records file, held by the last attempt to start.

    A node that Slurm gives up may still be running its job when the requeued one starts elsewhere: the old attempt
    finds its claim gone before it writes. ValueError where another job's process on this host is at work on the file.
    """

    def __init__(self, file: Path):
        self.file = file
        self._path = file.with_suffix(".claim")
        file.parent.mkdir(parents=True, exist_ok=True)
        self._mine = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job": os.environ.get("SLURM_JOB_ID"),
            "time": time.time(),
        }
        with self._locked() as claim:
            other = _read(claim)
            if other and _at_work(other, self._mine):
                raise ValueError(
                    f"{file}: process {other['pid']} on {other['host']} is at work on it (wait, or end it)"
                )
            claim.seek(0)
            claim.truncate()
            claim.write(json.dumps(self._mine))
            claim.flush()

    @contextmanager
    def held(self) -> Iterator[None]:
        """For what must not be written by two; SupersededError where a later attempt has taken over."""
        with self._locked() as claim:
            if _read(claim) != self._mine:
                raise SupersededError(f"{self.file}: a later attempt has taken over")
            yield

    def append(self, record: Record) -> None:
        with self.held():
            append(self.file, record)

    @contextmanager
    def _locked(self) -> Iterator:
        # A lock of this kind works over NFS and ends with the process that holds it.
        with open(self._path, "a+", encoding="utf-8") as claim:
            fcntl.lockf(claim, fcntl.LOCK_EX)
            yield claim


def _read(claim) -> dict | None:
    claim.seek(0)
    text = claim.read()
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _at_work(other: dict, mine: dict) -> bool:
    """True where the other process lives and is not an earlier attempt of the same Slurm job."""
    if other["host"] != mine["host"] or other["pid"] == mine["pid"]:
        return False
    if mine["job"] is not None and other["job"] == mine["job"]:
        return False
    try:
        stat = Path(f"/proc/{other['pid']}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # Ended, but not yet reaped by its parent.
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@contextmanager
def attempt(file: Path, place: JobPaths) -> Iterator[RecordLease]:
    """Join the other ranks and claim this rank's records file; what goes wrong is recorded there, with its reason."""
    from crt import distributed  # torch, which whoever plans jobs needs not import

    claim = RecordLease(file)
    try:
        _check_clock(place)
        with distributed.process_group():
            yield claim
    except SupersededError as end:
        if job_id() is not None:
            _stay(end)
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        claim.append(Fail(time=time.time(), reason=printable(reason[0]), host=socket.gethostname(), job=job_id()))
        raise


def _stay(end: SupersededError) -> None:
    """Do nothing until Slurm clears the node it had given up.

    To end would be to end the later attempt too: both are the same job and step to Slurm, and srun of this one would
    report the step's end, or have it killed.
    """
    print(f"{end}; this one waits to be cleared away", flush=True)
    while True:
        time.sleep(_SKEW)


def _check_clock(place: JobPaths) -> None:
    behind = place.submitted - time.time()
    if behind > _SKEW:
        raise ValueError(
            f"{socket.gethostname()}: its clock is {behind / 3600:.1f} hours behind that of the host which submitted"
            f" (allowed: {_SKEW / 60:.0f} minutes; set the nodes' clocks)"
        )


def write(path: Path, content: bytes) -> None:
    """A small file, whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
