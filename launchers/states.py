"""States of Slurm jobs, in the words of this suite."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from launchers.environment import clean

_SECONDS = 60.0
"""Time that a command gets to answer."""
_PING_SECONDS = 10.0
"""Time that the controller gets to show that it is there: Slurm's own commands go on trying for minutes."""
_STATES = {
    "PENDING": ("waiting", ""),
    "REQUEUED": ("waiting", "requeued"),
    "REQUEUE_FED": ("waiting", "requeued to another cluster"),
    "REQUEUE_HOLD": ("waiting", "held after a requeue: scontrol release JOB"),
    "SPECIAL_EXIT": ("waiting", "held by the site: scontrol release JOB"),
    "RESV_DEL_HOLD": ("waiting", "held, its reservation is gone: scontrol release JOB"),
    "CONFIGURING": ("running", "its nodes start"),
    "RUNNING": ("running", ""),
    "COMPLETING": ("running", "ends"),
    "STAGE_OUT": ("running", "ends"),
    "SIGNALING": ("running", "was told to stop"),
    "RESIZING": ("running", ""),
    "SUSPENDED": ("running", "suspended"),
    "STOPPED": ("running", "stopped"),
    "COMPLETED": ("ended", ""),
    "FAILED": ("failed", "ended with an error"),
    "TIMEOUT": ("failed", "out of time (a longer time: in the profile; it goes on from its last epoch)"),
    "OUT_OF_MEMORY": ("failed", "out of memory (mem: in the profile)"),
    "NODE_FAIL": ("failed", "its node failed"),
    "BOOT_FAIL": ("failed", "its node did not start"),
    "LAUNCH_FAILED": ("failed", "its node could not start it"),
    "RECONFIG_FAIL": ("failed", "its node could not be set up"),
    "DEADLINE": ("failed", "past its deadline"),
    "CANCELLED": ("failed", "cancelled"),
    "PREEMPTED": ("failed", "preempted and not requeued"),
    "REVOKED": ("failed", "taken by another cluster"),
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A job as Slurm sees it."""

    job: str
    state: str
    """waiting, running, ended or failed."""
    reason: str
    node: str = ""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The cluster that answers."""

    name: str
    max_array: int
    """Jobs in one array."""


def ask(*command: str, seconds: float = _SECONDS) -> str:
    """Output of a Slurm command; ValueError with Slurm's own words where it fails."""
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=clean(os.environ),
            start_new_session=True,
        ) as process:
            try:
                answer, complaint = process.communicate(timeout=seconds)
            except BaseException:
                # Sites wrap these commands in scripts: what those started ends with them.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
    except subprocess.TimeoutExpired:
        raise ValueError(f"{command[0]}: Slurm has not answered in {seconds:g} s") from None
    except OSError as error:
        raise ValueError(_missing(command[0]) or f"{command[0]}: {error.strerror}") from None
    if process.returncode:
        raise ValueError(last_words(command[0], complaint or answer))
    return answer


def _missing(command: str) -> str:
    return "" if shutil.which(command) else f"{command}: not found, so there is no Slurm here"


def last_words(command: str, said: str) -> str:
    """The last line that a Slurm command printed, behind its name once: it may have put that there itself."""
    # A controller that is down is announced between lines of asterisks.
    *_, last = [line for line in said.strip().splitlines() if not line.startswith("*")] or ["nothing"]
    return f"{command}: {re.sub(rf'^({command}: |error: |fatal: )+', '', last)}"


def check(seconds: float = _PING_SECONDS) -> None:
    """ValueError where Slurm's controller does not answer."""
    said = ask("scontrol", "ping", seconds=seconds)
    if " UP" not in said:
        raise ValueError(last_words("scontrol", said or "no controller"))


def can_submit(seconds: float = _PING_SECONDS) -> None:
    """ValueError where jobs cannot be queued: a command is missing or broken, or the controller does not answer."""
    for command in ("sbatch", "srun", "squeue", "scancel", "scontrol"):
        if missing := _missing(command):
            raise ValueError(missing)
    ask("sbatch", "--version", seconds=seconds)
    check(seconds)


def site() -> Site:
    """The cluster's name and its limit on arrays; ValueError where Slurm does not answer."""
    settings = dict(
        [part.strip() for part in line.split("=", 1)]
        for line in ask("scontrol", "show", "config").splitlines()
        if "=" in line
    )
    # MaxArraySize is one more than the largest index; where it is 0 there are no arrays, but jobs one by one.
    return Site(name=settings.get("ClusterName", "?"), max_array=max(1, int(settings.get("MaxArraySize", "1001")) - 1))


def queued() -> tuple[dict[str, Seen], dict[str, str]]:
    """The user's jobs that Slurm has not ended, by id (`17`, `17_4`), and array ids by the comment they were given."""
    seen, comments = {}, {}
    answer = ask("squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%i|%T|%r|%N|%F|%k")
    for line in answer.splitlines():
        job, word, why, node, array, comment = line.split("|", 5)
        state, said = _STATES.get(word, ("running", word))
        if state in ("waiting", "running"):
            # A pending job's reason is why it waits; a running one's is the last reason it waited for.
            reason = said or (why if state == "waiting" else "")
            seen[job] = Seen(job=job, state=state, reason=reason, node=node)
            comments[comment] = array
    return seen, comments


def ended(jobs: Iterable[str]) -> dict[str, Seen]:
    """States of ended jobs by id, from accounting; ValueError with sacct's words where the site keeps no accounts."""
    arrays = sorted({job.split("_")[0] for job in jobs})
    if not arrays:
        return {}
    seen = {}
    for line in ask("sacct", "-n", "-P", "-X", "-o", "JobID,State,NodeList", "-j", ",".join(arrays)).splitlines():
        job, word, node = line.split("|", 2)
        # `CANCELLED by 1000` names who did it.
        word, _, by = word.partition(" ")
        state, said = _STATES.get(word, ("failed", word))
        reason = f"{word}: {said} {by}".strip() if state == "failed" else said
        # What never started has no node, which accounting says in words.
        node = "" if node == "None assigned" else node
        for one in _each(job):
            seen[one] = Seen(job=one, state=state, reason=reason, node=node)
    return seen


def _each(job: str) -> list[str]:
    """`7_[0-2,5%8]`, as elements of an array that never started are written, is 7_0, 7_1, 7_2 and 7_5."""
    group = re.fullmatch(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]", job)
    if not group:
        return [job]
    spans = [part.split("-") for part in group[2].split(",")]
    return [f"{group[1]}_{k}" for span in spans for k in range(int(span[0]), int(span[-1]) + 1)]


def job_id() -> str | None:
    """The Slurm job that this process belongs to, as squeue prints it."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID")
