"""Claims: files that name the process which may write a records file, and how another process judges them."""

import os
import socket
import stat
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

_MOST = 65_536
"""Bytes of a claim that are read; a claim has some hundreds."""
_ADJUSTED = 60.0
"""Seconds by which a clock may be adjusted between a boot and a claim of the former version."""


class Claim(BaseModel):
    """A process and its Slurm job. The former version wrote `host`, `pid`, `job` and `time` only."""

    model_config = ConfigDict(frozen=True, strict=True)

    host: str
    pid: int
    job: str | None
    time: float
    """Time of the claim by the holder's clock (seconds since 1970)."""
    token: str | None = None
    """Random name of the attempt; None in a claim of the former version, which is not renewed."""
    boot: str | None = None
    """Id of the kernel's boot; with `namespace`, it tells whether `pid` means anything to another process."""
    namespace: str | None = None
    """PID namespace: each container has its own."""
    started: int | None = None
    """Start of the process in clock ticks since boot: a process that has the same pid later started later."""
    cluster: str | None = None

    @property
    def is_renewed(self) -> bool:
        """True if the holder renews the claim; the former version did not."""
        return self.token is not None

    def yields_to(self, other: "Claim") -> bool:
        """True if `other` is of the same process, or a later attempt of the same Slurm job."""
        if other.job is not None and self.job == other.job:
            return not self.is_renewed or self.cluster == other.cluster
        return self.pid == other.pid and self._same_host(other) and self.started in (None, other.started)

    def is_alive(self, mine: "Claim") -> bool | None:
        """True if the claim's process runs, False if it has ended; None where this process cannot tell."""
        if not self._same_host(mine):
            return None
        began = _started(self.pid)
        if began is None:
            return None if _exists(self.pid) else False
        if self.is_renewed:
            return began == self.started
        # The time of the boot moves with the clock where that is adjusted.
        return _boot_time() + began / os.sysconf("SC_CLK_TCK") <= self.time + _ADJUSTED

    def _same_host(self, other: "Claim") -> bool:
        if not self.is_renewed:
            return self.host == other.host
        if self.boot is None:  # no Linux
            return False
        return (self.boot, self.namespace) == (other.boot, other.namespace)


def new_claim() -> Claim:
    """A claim of this process."""
    boot = namespace = None
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return Claim(
        host=socket.gethostname(),
        pid=os.getpid(),
        job=os.environ.get("SLURM_JOB_ID"),
        time=time.time(),
        token=uuid.uuid4().hex,
        boot=boot,
        namespace=namespace,
        started=_started(os.getpid()),
        cluster=os.environ.get("SLURM_CLUSTER_NAME"),
    )


class Sight(NamedTuple):
    """A claim's file as it was seen. Two sights are equal unless the file was written or renewed in between."""

    exists: bool
    content: bytes | None = None
    """None for anything but a file that can be read."""
    changed: int = 0
    """Time of the last change in ns, by the file server's clock."""

    @property
    def claim(self) -> Claim | None:
        """The claim; None where the file holds none."""
        try:
            return Claim.model_validate_json(self.content or b"")
        except ValidationError:
            return None


def look(path: Path) -> Sight:
    """The file of a claim. It is opened, because a network file system then asks its server for the newest one."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # which does not wait for the writer of a pipe
    except FileNotFoundError:
        return Sight(exists=False)
    except OSError:
        return Sight(exists=True, changed=last_change(path))
    try:
        found = os.fstat(file)
        content = os.read(file, _MOST) if stat.S_ISREG(found.st_mode) else None
        return Sight(exists=True, content=content, changed=found.st_mtime_ns)
    finally:
        os.close(file)


def last_change(path: Path) -> int:
    """Time of a file's last change in ns; 0 for a file that cannot be asked."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def remove(path: Path) -> None:
    """Remove a file that holds no claim; a directory is set aside."""
    with suppress(FileNotFoundError):
        if path.is_dir():
            path.rename(path.with_name(f"{path.name}.{time.time_ns()}.cut"))
        else:
            path.unlink()


def _started(pid: int) -> int | None:
    """Start of a process in clock ticks since boot; None for one that has ended or cannot be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold anything. In states Z and X the process has ended, but is not reaped yet.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _exists(pid: int) -> bool:
    """True if a process that /proc hides from this user has the pid."""
    if pid <= 0 or Path(f"/proc/{pid}").exists():  # a zombie
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return False


def _boot_time() -> float:
    """Time of the kernel's boot (seconds since 1970)."""
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("btime"))
