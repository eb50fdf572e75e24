"""Query the states of Slurm jobs, as waiting, running, ended or failed."""

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
"""Time limit of a command."""
_PING_SECONDS = 10.0
"""Time limit of the controller's answer to a ping; Slurm's own commands retry for minutes."""
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
"""State and reason by Slurm's name of a state."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """State of a job in Slurm."""

    job: str
    state: str
    """waiting, running, ended or failed."""
    reason: str
    node: str = ""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Name and limits of the cluster that answers."""

    name: str
    max_array: int
    """Largest number of jobs in one array."""


def ask(*command: str, seconds: float = _SECONDS) -> str:
    """Output of a Slurm command; ValueError with Slurm's message if it fails."""
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
                answer, error_text = process.communicate(timeout=seconds)
            except BaseException:
                # Some sites wrap these commands in scripts, so the whole process group is killed.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
    except subprocess.TimeoutExpired:
        raise ValueError(f"{command[0]}: Slurm has not answered in {seconds:g} s") from None
    except OSError as error:
        raise ValueError(_missing(command[0]) or f"{command[0]}: {error.strerror}") from None
    if process.returncode:
        raise ValueError(last_words(command[0], error_text or answer))
    return answer


def _missing(command: str) -> str:
    return "" if shutil.which(command) else f"{command}: not found, so there is no Slurm here"


def last_words(command: str, output: str) -> str:
    """The last line of a Slurm command's output, with the command's name before it exactly once."""
    # The message that the controller is down stands between lines of asterisks.
    *_, last = [line for line in output.strip().splitlines() if not line.startswith("*")] or ["nothing"]
    return f"{command}: {re.sub(rf'^({command}: |error: |fatal: )+', '', last)}"


def check(seconds: float = _PING_SECONDS) -> None:
    """Raise ValueError if Slurm's controller does not answer."""
    answer = ask("scontrol", "ping", seconds=seconds)
    if " UP" not in answer:
        raise ValueError(last_words("scontrol", answer or "no controller"))


def can_submit(seconds: float = _PING_SECONDS) -> None:
    """Raise ValueError if a command is missing or broken, or the controller does not answer."""
    for command in ("sbatch", "srun", "squeue", "scancel", "scontrol"):
        if missing := _missing(command):
            raise ValueError(missing)
    ask("sbatch", "--version", seconds=seconds)
    check(seconds)


def site() -> Site:
    """The cluster's name and its limit on arrays; ValueError if Slurm does not answer."""
    settings = dict(
        [part.strip() for part in line.split("=", 1)]
        for line in ask("scontrol", "show", "config").splitlines()
        if "=" in line
    )
    # MaxArraySize is one more than the largest index; 0 means that the site allows no arrays, only single jobs.
    return Site(name=settings.get("ClusterName", "?"), max_array=max(1, int(settings.get("MaxArraySize", "1001")) - 1))


def queued() -> tuple[dict[str, Seen], dict[str, str]]:
    """The user's waiting and running jobs by id (`17`, `17_4`), and the ids of their arrays by comment."""
    seen: dict[str, Seen] = {}
    comments: dict[str, str] = {}
    answer = ask("squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%i|%T|%r|%N|%F|%k")
    for line in answer.splitlines():
        job, word, slurm_reason, node, array, comment = line.split("|", 5)
        state, explanation = _STATES.get(word, ("running", word))
        if state in ("waiting", "running"):
            # Slurm keeps the last reason for waiting of a job that runs, so it is shown for waiting jobs only.
            reason = explanation or (slurm_reason if state == "waiting" else "")
            seen[job] = Seen(job=job, state=state, reason=reason, node=node)
            comments[comment] = array
    return seen, comments


def ended(jobs: Iterable[str]) -> dict[str, Seen]:
    """States of ended jobs by id, from accounting; ValueError with sacct's message if the site keeps no accounts."""
    arrays = sorted({job.split("_")[0] for job in jobs})
    if not arrays:
        return {}
    seen = {}
    for line in ask("sacct", "-n", "-P", "-X", "-o", "JobID,State,NodeList", "-j", ",".join(arrays)).splitlines():
        job, word, node = line.split("|", 2)
        # `CANCELLED by 1000` names who did it.
        word, _, by = word.partition(" ")
        state, explanation = _STATES.get(word, ("failed", word))
        reason = f"{word}: {explanation} {by}".strip() if state == "failed" else explanation
        # A job that never started has no node.
        node = "" if node == "None assigned" else node
        for element in _elements(job):
            seen[element] = Seen(job=element, state=state, reason=reason, node=node)
    return seen


def _elements(job: str) -> list[str]:
    """Expand the ids of array elements that never started: `7_[0-2,5%8]` is 7_0, 7_1, 7_2 and 7_5."""
    group = re.fullmatch(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]", job)
    if not group:
        return [job]
    spans = [part.split("-") for part in group[2].split(",")]
    return [f"{group[1]}_{k}" for span in spans for k in range(int(span[0]), int(span[-1]) + 1)]


def job_id() -> str | None:
    """Id of the Slurm job that this process belongs to, as squeue prints it; None outside Slurm."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID")
