"""One attempt at a job: its folders, its right to write records, and the record of its failure."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.cell import Cell
from bench.jobs.record_lease import RecordLease, SupersededError
from bench.records import Fail
from crt.text import printable
from launchers.states import job_id

_SKEW = 300.0
"""Allowed difference between clocks, in seconds; Slurm's own authentication allows the same."""


@dataclass(frozen=True, kw_only=True)
class JobPaths:
    """Folders that a job reads and writes."""

    runs: Path
    data: Path
    process: Literal["fresh", "shared"]
    stage: Path | None = None
    """Node-local storage that .beton files are copied to before they are read."""
    submitted: float = 0.0
    """Time of submission (seconds since 1970); a node whose clock is earlier is refused."""
    tensorboard: Path | None = None
    """Folder of TensorBoard's events, one folder a cell; None for no events."""

    def images(self, cell: Cell, split: str) -> Path:
        """The folder to read a split from: the node's own copy if the profile names node-local storage."""
        if self.stage is None:
            return self.data
        from crt.data.stage import stage  # imports numpy, which planning does not need

        return stage(cell.data, split, self.data, self.stage)


@contextmanager
def take_lease(file: Path, place: JobPaths) -> Iterator[RecordLease]:
    """Join the other ranks and lease this rank's records file; a failure is recorded there with its reason.

    FileNotFoundError, and nothing is written, if the storage of the runs folder is gone.
    """
    from crt import distributed  # imports torch, which planning does not need

    _check_runs(place)
    lease = RecordLease(file)
    try:
        _check_clock(place)
        with distributed.process_group():
            yield lease
    except SupersededError as error:
        if job_id() is not None:
            _stay(error)
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        lease.append(Fail(time=time.time(), reason=printable(reason[0]), host=socket.gethostname(), job=job_id()))
        raise
    finally:
        lease.release()


def _stay(error: SupersededError) -> None:
    """Do nothing until Slurm clears the node that it gave up.

    If this process exited, the later attempt would end, too: to Slurm both are the same job and step, and this
    attempt's srun would report that the step has ended, or have it killed.
    """
    print(f"{error}; this one waits to be cleared away", flush=True)
    while True:
        time.sleep(_SKEW)


def _check_runs(place: JobPaths) -> None:
    """Raise FileNotFoundError if a submitted job does not find the logs that its submitter made in the runs folder.

    It would start from its first epoch, on the disk below the folder where the storage should be mounted.
    """
    if place.submitted and place.process == "fresh" and not (place.runs / "logs").is_dir():
        reason = f"{socket.gethostname()} does not find the job's logs there (is its storage mounted?)"
        raise FileNotFoundError(errno.ENOENT, reason, str(place.runs))


def _check_clock(place: JobPaths) -> None:
    behind = place.submitted - time.time()
    if behind > _SKEW:
        raise ValueError(
            f"{socket.gethostname()}: its clock is {behind / 3600:.1f} hours behind that of the host which submitted"
            f" (allowed: {_SKEW / 60:.0f} minutes; set the nodes' clocks)"
        )


def write(path: Path, content: bytes) -> None:
    """Write a small file atomically: readers see all of it or nothing."""
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
