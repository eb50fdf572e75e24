"""Query the states of Slurm jobs, as waiting, held, running, ended or failed."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launchers.causes import cause
from launchers.environment import clean

_SECONDS = 60.0
"""Time limit of a command."""
_TAG = r"\b[0-9a-f]{32}\b"
"""A tag in the comment of a job."""
_PING_SECONDS = 10.0
"""Time limit of the controller's answer to a ping; Slurm's own commands retry for minutes."""

_QUEUED = ("waiting", "held", "running")
"""States of jobs that have not ended."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """State of a job in Slurm."""

    job: str
    state: str
    """waiting, held, running, ended or failed."""
    reason: str
    node: str = ""
    tag: str | None = None
    """Tag in the job's comment; None if Slurm's accounts keep no comments."""

    @property
    def array(self) -> str:
        """Id of the job's array; that of a plain job is its own."""
        return self.job.split("_")[0]

    @property
    def is_tagged(self) -> bool:
        """True for a job of this project: others have any comment, or none."""
        return bool(self.tag and re.fullmatch(_TAG, self.tag))


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
    """The line of a Slurm command's output that tells the error, with the command's name before it exactly once."""
    lines = [re.sub(rf"^({command}: |(\w+ )?error: |fatal: )+", "", line.strip()) for line in output.splitlines()]
    # The message that the controller is down stands above a banner of asterisks; a line of signs says nothing.
    plain = [line for line in lines if not line.startswith("*") and re.search(r"[^\W_]|\ufffd", line)]
    banner = [words for line in lines if (words := line.strip("* ")) and line.startswith("*")]
    last = (plain or banner or ["nothing"])[-1]
    # sbatch names the limit in a line of its own before the general refusal.
    limit = plain[-2] if len(plain) > 1 and re.fullmatch(r"\w+Limit", plain[-2]) else ""
    return f"{command}: {last} ({limit})" if limit else f"{command}: {last}"


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


def queued() -> dict[str, Seen]:
    """The user's waiting, held and running jobs by id (`17`, `17_4`)."""
    return {job: seen for job, seen in _squeue().items() if seen.state in _QUEUED}


def lately_ended() -> dict[str, Seen]:
    """The user's jobs that ended in the last minutes, by id: the controller forgets them after a while."""
    return {job: seen for job, seen in _squeue("-t", "all").items() if seen.state not in _QUEUED}


def arrays_with_logs(logs: Path) -> set[str]:
    """Ids of the user's queued arrays whose scripts were in `logs` when they were submitted."""
    answer = ask("squeue", "-h", "-u", str(os.getuid()), "-o", "%F|%o")
    return {
        job for job, _, script in (line.partition("|") for line in answer.splitlines()) if Path(script).parent == logs
    }


def _squeue(*options: str) -> dict[str, Seen]:
    answer = ask("squeue", "-h", "-r", "-u", str(os.getuid()), *options, "-o", "%i|%T|%r|%N|%k")
    seen = {}
    for line in answer.splitlines():
        # The rest of a comment of several lines is no job.
        if line.count("|") >= 4:
            job, word, slurm_reason, node, comment = line.split("|", 4)
            for element in _elements(job):
                state, reason = cause(element, word, slurm_reason)
                seen[element] = Seen(job=element, state=state, reason=reason, node=node, tag=_tag(comment))
    return seen


def ended(jobs: Iterable[str]) -> dict[str, Seen]:
    """States of ended jobs by id, from accounting; ValueError with sacct's message if the site keeps no accounts."""
    arrays = sorted({job.split("_")[0] for job in jobs})
    if not arrays:
        return {}
    seen = {}
    for line in ask(
        "sacct", "-n", "-P", "-X", "-o", "JobID,State,NodeList,Comment", "-j", ",".join(arrays)
    ).splitlines():
        if line.count("|") >= 3:
            job, word, node, comment = line.split("|", 3)
            # A job that never started has no node.
            node = "" if node == "None assigned" else node
            for element in _elements(job):
                state, reason = cause(element, word)
                tag = _tag(comment) if comment else None
                seen[element] = Seen(job=element, state=state, reason=reason, node=node, tag=tag)
    return seen


def _tag(comment: str) -> str:
    """The tag in a comment, to which a site may have added words of its own; else the comment."""
    return found[0] if (found := re.search(_TAG, comment)) else comment


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
