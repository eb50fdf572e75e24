"""What Slurm says of jobs, in our own words."""

import getpass
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

_SECONDS = 60
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


def ask(*command: str) -> str:
    """What a Slurm command prints; ValueError with Slurm's own words where it cannot answer."""
    try:
        answer = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS)
    except FileNotFoundError:
        raise ValueError(f"{command[0]}: not found, so there is no Slurm here") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"{command[0]}: Slurm has not answered in {_SECONDS} s") from None
    if answer.returncode:
        raise ValueError(last_words(command[0], answer.stderr or answer.stdout))
    return answer.stdout


def last_words(command: str, said: str) -> str:
    """The last line that a Slurm command printed, behind its name once: it may have put that there itself."""
    *_, last = said.strip().splitlines() or ["nothing"]
    return f"{command}: {re.sub(rf'^({command}: |error: |fatal: )+', '', last)}"


def check() -> None:
    """ValueError where Slurm's controller does not answer."""
    said = ask("scontrol", "ping").strip()
    if " UP" not in said:
        raise ValueError(f"scontrol: {said.splitlines()[0] if said else 'no controller'}")


def site() -> Site:
    """The cluster's name and its limit on arrays; ValueError where Slurm does not answer."""
    settings = dict(
        [part.strip() for part in line.split("=", 1)]
        for line in ask("scontrol", "show", "config").splitlines()
        if "=" in line
    )
    # MaxArraySize is one more than the largest index.
    return Site(name=settings.get("ClusterName", "?"), max_array=int(settings.get("MaxArraySize", "1001")) - 1)


def queued() -> tuple[dict[str, Seen], dict[str, str]]:
    """The user's jobs that Slurm has not ended, by id (`17`, `17_4`), and array ids by the comment they were given."""
    seen, comments = {}, {}
    answer = ask("squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i|%T|%r|%N|%F|%k")
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
    """What accounting says of jobs, by id; ValueError with sacct's words where the site keeps no accounts."""
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
