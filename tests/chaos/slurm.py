"""A Slurm of two nodes to disturb: its daemons, its jobs' processes, and the settings that disturbances need."""

import fcntl
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import Signals, pidfd_send_signal
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "slurm" / "testcluster.sh"
NODES = ("n1", "n2")
USER = "root"
_HANG = 300
"""Seconds after which a command hangs."""
_SETTINGS = """
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=urgent Nodes=n1,n2 PriorityTier=10 MaxTime=INFINITE State=UP
AccountingStorageEnforce=limits
"""
_CGROUPS = """
CgroupPlugin=cgroup/v1
CgroupAutomount=no
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
"""
MEMORY = Path("/sys/fs/cgroup/memory")


@contextmanager
def one_cluster() -> Iterator[None]:
    """Wait for other test clusters of this machine to end: the nodes' names and memory groups are common to all."""
    with open(Path(tempfile.gettempdir()) / "testcluster.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Process(NamedTuple):
    """A process of a job."""

    pid: int
    role: str
    """rank, srun, batch script or slurmstepd."""
    job: str


class Slurm:
    """The test cluster in a folder. Only its own daemons and the processes of its jobs are ever signalled."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.environment = os.environ | {
            "SLURM_CONF": str(self.conf),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        self.kills_for_memory = os.access(MEMORY / "cgroup.procs", os.W_OK)

    @contextmanager
    def running(self) -> Iterator["Slurm"]:
        """Start the cluster, with preemption, limits and, where cgroups allow, limits on memory; stop it in the end."""
        _script("down", self.folder)
        try:
            up = _script("up", self.folder)
            if up.returncode:
                raise RuntimeError(f"testcluster.sh up: {up.stdout}{up.stderr}")
            self._configure()
            yield self
        finally:
            _script("down", self.folder)
            self._remove_cgroups()

    def ask(self, *command: str) -> str | None:
        """The output of a Slurm command; None where it fails, as while a daemon is down."""
        try:
            done = subprocess.run(
                command, env=self.environment, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return None
        return done.stdout if done.returncode == 0 else None

    def jobs(self, *states: str) -> list[str]:
        """Ids of the jobs in these states, such as `12` and `13_1`; none while the controller is down."""
        wanted = ("-t", ",".join(states)) if states else ()
        return (self.ask("squeue", "-h", "-r", *wanted, "-o", "%i") or "").split()

    def signal_daemon(self, name: str, number: Signals) -> bool:
        """Signal a daemon by the pid that it wrote; False where none of this cluster's runs."""
        with suppress(OSError, ValueError):
            return self._signal(int((self.folder / "run" / f"{name}.pid").read_text()), number)
        return False

    def restarting(self, daemon: str) -> Callable[[], bool]:
        """A function that starts a daemon again, tries again where it fails, and is False until the daemon runs.

        It does not wait: a daemon may need another one, or a process that is stopped.
        """
        tries: list[subprocess.Popen] = []

        def restart() -> bool:
            if not tries or tries[-1].poll():
                words = (str(SCRIPT), "restart", daemon, str(self.folder))
                tries.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            return tries[-1].poll() == 0

        return restart

    def signal(self, process: Process, number: Signals) -> bool:
        """Signal a process of a job; False where it has ended."""
        return self._signal(process.pid, number)

    def processes(self, job: str | None = None, node: str | None = None) -> list[Process]:
        """The processes of the jobs that run."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                process = self._process(path, node)
                if process and (job is None or process.job == job):
                    found.append(process)
        return found

    def _process(self, path: Path, node: str | None) -> Process | None:
        if path.joinpath("stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return None
        words = path.joinpath("cmdline").read_bytes().decode(errors="replace")
        if words.startswith("slurmstepd: [") and self._is_ours(path):
            # It does not tell its node.
            return None if node else Process(int(path.name), "slurmstepd", re.findall(r"\[(\d+)", words)[0])
        variables = path.joinpath("environ").read_bytes().split(b"\0")
        values = dict(variable.decode(errors="replace").partition("=")[::2] for variable in variables)
        if values.get("SLURM_CONF") != str(self.conf) or "SLURM_JOB_ID" not in values:
            return None
        if node and values.get("SLURMD_NODENAME") != node:
            return None
        role = "rank" if "submitit.core._submit" in words else "batch script"
        return Process(int(path.name), "srun" if words.startswith("srun") else role, values["SLURM_JOB_ID"])

    def _signal(self, pid: int, number: Signals) -> bool:
        """Signal a process of this cluster. The descriptor keeps its pid from being another process's meanwhile."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            if not self._is_ours(Path(f"/proc/{pid}")):
                return False
            pidfd_send_signal(descriptor, number)
            return True
        except (ProcessLookupError, FileNotFoundError):
            return False
        finally:
            os.close(descriptor)

    def _is_ours(self, process: Path) -> bool:
        """True for a daemon or a job's process of this cluster; a slurmstepd is known by its folder."""
        if (process / "comm").read_text().strip() == "slurmstepd":
            return os.readlink(process / "cwd") == str(self.folder / "log")
        return f"SLURM_CONF={self.conf}".encode() in (process / "environ").read_bytes().split(b"\0")

    def _configure(self) -> None:
        for command in (
            ("add", "account", "lab"),
            ("add", "user", USER, "account=lab"),
            ("modify", "user", USER, "set", "DefaultAccount=lab"),
        ):
            subprocess.run(("sacctmgr", "-i", *command), env=self.environment, capture_output=True, timeout=_HANG)
        text = self.conf.read_text() + _SETTINGS
        if self.kills_for_memory:
            (self.folder / "cgroup.conf").write_text(_CGROUPS)
            text = text.replace("TaskPlugin=task/none", "TaskPlugin=task/cgroup").replace("CR_Core", "CR_Core_Memory")
        self.conf.write_text(text)
        for daemon in ("slurmctld", *NODES):
            _script("restart", daemon, self.folder)
        self.ask("scontrol", "update", f"nodename={','.join(NODES)}", "state=resume")

    def _remove_cgroups(self) -> None:
        """Remove the empty groups of memory that slurmd leaves."""
        for node in NODES:
            for folder, _, _ in os.walk(MEMORY / f"slurm_{node}", topdown=False):
                with suppress(OSError):
                    os.rmdir(folder)


def _script(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run([str(SCRIPT), *map(str, words)], capture_output=True, text=True, timeout=_HANG)
