"""One disturbed run: a cluster, a user and a disk, and repairs that follow disturbances."""

import time
from collections.abc import Callable
from random import Random

from tests.chaos.disk import Disk
from tests.chaos.slurm import NODES, Slurm
from tests.chaos.user import Said, Shell, User

_RESUBMIT = (6.0, 14.0)
"""Seconds between two submissions of the user."""
_PATIENCE = 600.0
"""Seconds that everything may take after the last disturbance."""


class Run:
    """The state of a disturbed run. `later` says how a disturbance ends."""

    def __init__(self, slurm: Slurm, user: User, disk: Disk):
        self.slurm, self.user, self.disk = slurm, user, disk
        self.faults: set[str] = set()
        """Resources that are disturbed now: a daemon, a node, the disk, a job."""
        self.findings: list[str] = []
        self.left = list(user.names)
        """Manifests of which something is left to do, as the last submission told."""
        self._repairs: list[tuple[float, str, Callable[[], object]]] = []
        self._shells: list[Shell] = []
        self._next_submission = 0.0
        self._turn = 0

    def later(self, seconds: float, resource: str, repair: Callable[[], object]) -> None:
        """Mark a resource as disturbed, and repair it after some seconds; again where `repair` returns False."""
        self.faults.add(resource)
        self._repairs.append((time.monotonic() + seconds, resource, repair))

    def find(self, finding: str) -> None:
        """Add a promise that was broken."""
        self.user.note(f"BROKEN: {finding}")
        self.findings.append(finding)

    def watch(self, *shells: Shell) -> None:
        """Judge what these commands print once they end."""
        self._shells += shells

    def wait(self, seconds: float, rng: Random) -> None:
        """Let time pass: repair what is due, submit as a user does, and read what commands print."""
        end = time.monotonic() + seconds
        while True:
            self._repair(time.monotonic())
            self._read()
            if time.monotonic() >= self._next_submission and "disk" not in self.faults:
                self._next_submission = time.monotonic() + rng.uniform(*_RESUBMIT)
                self._turn += 1
                if self.left:
                    self.watch(self.user.submit(self.left[self._turn % len(self.left)]))
            if time.monotonic() >= end:
                return
            time.sleep(0.1)

    def repair_all(self) -> None:
        """Undo all disturbances; RuntimeError where one cannot be undone."""
        end = time.monotonic() + _PATIENCE
        while self._repairs:
            if time.monotonic() > end:
                raise RuntimeError(f"cannot be repaired: {', '.join(sorted(self.faults))}")
            self._repair(float("inf"))
            time.sleep(0.2)

    def finish(self) -> None:
        """Submit until nothing is left to do, with all disturbances undone."""
        self.repair_all()
        self.user.note("all is repaired")
        end = time.monotonic() + _PATIENCE
        while (self.left or self.slurm.jobs()) and time.monotonic() < end:
            for name in list(self.left):
                self._end(self.user.submit(name))
            self._release()
            pause = time.monotonic() + 30
            while self.slurm.jobs() and time.monotonic() < pause:
                self._start_delayed()
                time.sleep(0.5)
        for shell in self._shells:
            self._end(shell)
        self._shells = []
        if self.left:
            queue = self.slurm.ask("squeue", "-r") or "no answer of squeue"
            self.findings.append(
                f"{', '.join(self.left)}: not done {_PATIENCE:.0f} s after the last disturbance: {queue}"
            )

    def _release(self) -> None:
        """Release what Slurm holds, as status tells the user to, and what an order was lost for."""
        for line in (self.slurm.ask("squeue", "-h", "-r", "-o", "%i|%T|%r") or "").splitlines():
            job, state, reason = line.split("|", 2)
            if state == "SUSPENDED":
                self.slurm.ask("scontrol", "resume", job)
            elif "held" in reason.lower():
                self.slurm.ask("scontrol", "release", job)
        self.slurm.ask("scontrol", "update", f"nodename={','.join(NODES)}", "state=resume")

    def _start_delayed(self) -> None:
        """Start requeued jobs at once, which Slurm delays by a minute or two."""
        for line in (self.slurm.ask("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i|%r") or "").splitlines():
            job, reason = line.split("|", 1)
            if reason == "BeginTime":
                self.slurm.ask("scontrol", "update", f"jobid={job}", "starttime=now")

    def _repair(self, now: float) -> None:
        due = [repair for repair in self._repairs if repair[0] <= now]
        self._repairs = [repair for repair in self._repairs if repair[0] > now]
        for _, resource, repair in sorted(due, key=lambda each: each[0]):
            self.faults.discard(resource)
            # A daemon may need another one that is disturbed as well.
            if repair() is False:
                self.later(0.5, resource, repair)

    def _read(self) -> None:
        for shell in [shell for shell in self._shells if shell.ended]:
            self._shells.remove(shell)
            self._end(shell)

    def _end(self, shell: Shell) -> Said:
        said = shell.wait()
        if said.broken:
            self.find(said.broken)
        if said.done in self.left:
            self.left.remove(said.done)
        return said
