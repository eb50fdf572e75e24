"""Launcher that queues one Slurm array for each wave and shape through submitit, and returns at once."""

import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from launchers.environment import ALLOCATOR, RENDEZVOUS, cleaned
from launchers.ledger import Ledger, entry
from launchers.profile import Profile
from launchers.states import Seen, arrays_with_logs, ask, last_words, queued, site
from launchers.task import Task, Wave

_DIE_TOGETHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Program that becomes a command which Linux kills when its parent, the process of the given id, ends."""


class _SlurmExecutor(SlurmExecutor):
    """An executor whose sbatch ends with this process.

    While the controller is busy or down, sbatch waits for it. If it outlived a submitter that is killed, it would queue
    the jobs after the next submit has looked for them, and queued them, too.
    """

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        command = super()._make_submission_command(submission_file_path)
        return [sys.executable, "-c", _DIE_TOGETHER, str(os.getpid()), *command] if sys.platform == "linux" else command


@dataclass(frozen=True, kw_only=True)
class Array:
    """Tasks with the same resources, and the parameters to request them."""

    wave: int
    name: str
    tasks: tuple[Task, ...]
    parameters: dict[str, Any]


def arrays(
    title: str, waves: Sequence[Wave[Task]], profile: Profile, limit: int, queued: Collection[str]
) -> list[Array]:
    """Arrays of the unfinished tasks whose keys are not `queued`, by wave and shape, each of at most `limit` tasks."""
    planned = []
    for number, wave in enumerate(waves):
        shapes: dict[tuple, list[Task]] = {}
        for job in wave.jobs:
            task = job.task
            if not job.progress.finished and task.key not in queued:
                shapes.setdefault((task.ranks, task.nodes, task.timed), []).append(task)
        for tasks in shapes.values():
            parameters = _parameters(f"{title}-{wave.name}", tasks[0], profile)
            for first in range(0, len(tasks), limit):
                part = tuple(tasks[first : first + limit])
                planned.append(Array(wave=number, name=wave.name, tasks=part, parameters=parameters))
    return planned


def text(array: Array, logs: Path, profile: Profile, **more: Any) -> str:
    """The batch script of an array."""
    command = f"{profile.interpreter} -u -m submitit.core._submit {shlex.quote(str(logs))}"
    count = len(array.tasks) if len(array.tasks) > 1 else None
    return _make_sbatch_string(command, logs, map_count=count, **_with_rendezvous(logs, array), **more)


def launch(
    title: str, plan: Callable[[], Sequence[Wave[Task]]], logs: Path, profile: Profile, ledger: Ledger
) -> list[tuple[str, Array]]:
    """Queue the tasks that are neither finished nor queued; return the arrays with their ids.

    ValueError with Slurm's message if Slurm refuses or does not answer; then nothing is queued.
    """
    cluster = site()
    with ledger.locked():
        waves = plan()
        seen = queued()
        _check_ledger(ledger, logs, seen)
        submitted = ledger.submitted(cluster.name, seen)
        ids = {name: job.id for name, job in submitted.items() if job.find(seen)}
        planned = arrays(title, waves, profile, min(profile.max_array, cluster.max_array), set(ids))
        keys = [[job.task.key for job in wave.jobs] for wave in waves]
        known = [{ids[key].split("_")[0] for key in wave if key in ids} for wave in keys]
        done: list[tuple[str, Array]] = []
        tags = set()
        for array in planned:
            dependencies = _dependencies(waves, array.wave, known)
            tags.add(tag := uuid.uuid4().hex)
            note = entry(tag, cluster.name, tuple(task.key for task in array.tasks))
            ledger.note(note)
            try:
                job = _submit(array, logs, profile, tag, dependencies)
            except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError) as error:
                # All or nothing. --test-only cannot tell in advance, as it also refuses jobs that would wait for
                # drained nodes.
                refusal = last_words("sbatch", str(error))
                fewer = "; --only PATTERN submits fewer jobs" if "limit" in refusal.lower() else ""
                raise ValueError(f"{refusal} ({_take_back(tags)}{fewer})") from None
            ledger.note(note.model_copy(update={"id": job}))
            known[array.wave].add(job)
            done.append((job, array))
    return done


def _check_ledger(ledger: Ledger, logs: Path, seen: Mapping[str, Seen]) -> None:
    """ValueError if jobs with their logs here are queued that the ledger does not tell.

    The folder of both was removed, or its storage was gone for a while: a submission would queue those jobs again.
    """
    tags = ledger.tags()
    strange = {each.array for each in seen.values() if each.is_tagged and each.tag not in tags}
    if strange and (arrays := sorted(strange & arrays_with_logs(logs))):
        ids = " ".join(arrays)
        raise ValueError(
            f"{ledger.file}: tells nothing of the queued jobs {ids}, whose logs are in {logs}: was the folder away or"
            f" removed? (allowed: to submit once these jobs have ended, or after scancel {ids})"
        )


def _take_back(tags: Collection[str]) -> str:
    """Cancel the arrays with these tags; return a message with the outcome and what to do.

    The array that sbatch refused is among them: a controller that answers too late may have queued it all the same.
    """
    try:
        if arrays := sorted({seen.array for seen in queued().values() if seen.tag in tags}):
            ask("scancel", *arrays)
    except ValueError:
        return "some jobs may be queued: submit again once Slurm answers, which queues none twice"
    return "nothing is queued"


def _dependencies(waves: Sequence[Wave[Task]], number: int, known: list[set[str]]) -> list[str]:
    """Arrays that a wave waits for: those of the nearest earlier wave with arrays in the queue."""
    after = waves[number].after
    while after is not None and not known[after]:
        after = waves[after].after
    return sorted(known[after]) if after is not None else []


def _submit(array: Array, logs: Path, profile: Profile, tag: str, dependencies: list[str]) -> str:
    executor = _SlurmExecutor(folder=logs, max_num_timeout=profile.max_timeouts, python=profile.interpreter)
    # Not afterok: a failed teacher must hold back only its own students, which fail by themselves without it.
    dependency = {"dependency": f"afterany:{':'.join(dependencies)}"} if dependencies else {}
    executor.update_parameters(**_with_rendezvous(logs, array), comment=tag, **dependency)
    # sbatch passes its environment to the job, and its variables take precedence over the script's options.
    with cleaned():
        (first, *_) = executor.submit_array(array.tasks)
    return first.job_id.split("_")[0]


def _with_rendezvous(logs: Path, array: Array) -> dict[str, Any]:
    """Parameters of the array, with a file in `logs` through which the ranks of an attempt find each other."""
    if array.tasks[0].ranks == 1:
        return array.parameters
    create = f'{RENDEZVOUS}=$(mktemp {shlex.quote(str(logs))}/rendezvous-"$SLURM_JOB_ID"-XXXXXXXX) || exit 1'
    lines = [create, f"export {RENDEZVOUS}", f"trap 'rm -f \"${RENDEZVOUS}\"' EXIT"]
    return array.parameters | {"setup": [*lines, *array.parameters["setup"]]}


def _parameters(name: str, task: Task, profile: Profile) -> dict[str, Any]:
    """Parameters for submitit to run tasks like this one; ValueError for more ranks on a node than GPUs in `gres`."""
    copied = (
        "partition",
        "account",
        "qos",
        "constraint",
        "nodelist",
        "exclude",
        "gres",
        "mem",
        "time",
        "cpus_per_task",
    )
    per_node = task.ranks // task.nodes
    if 0 < profile.gpus < per_node:
        raise ValueError(f"profile.gres: {profile.gres}: {task.key} has {per_node} ranks on a node, each with its GPU")
    # The allocator reads its settings at the start of a process, so they are set before srun.
    fixed = {"OMP_NUM_THREADS": str(profile.cpus_per_task)} | ALLOCATOR
    # If one rank dies, the others must end too: they would wait for it until the time limit. --export=ALL passes the
    # variables of this script to the ranks whatever the site's default. srun does not inherit the number of cores from
    # sbatch (since Slurm 22.05).
    srun = ["--kill-on-bad-exit=1", "--export=ALL", f"--cpus-per-task={profile.cpus_per_task}"]
    # The signal is set here, because submitit reads it only from the environment of this process.
    additional = {"requeue": True, "signal": f"USR2@{profile.signal_delay_s}", "reservation": profile.reservation}
    parameters = {
        **{key: getattr(profile, key) for key in (*copied, "signal_delay_s", "array_parallelism")},
        "job_name": re.sub(r"[^\w.+-]", "_", name),
        "nodes": task.nodes,
        "ntasks_per_node": per_node,
        "gpus_per_node": None if profile.gpus else per_node * profile.gpus_per_rank or None,
        "exclusive": True if profile.exclusive and task.timed else None,
        "setup": [*(f"export {key}={value}" for key, value in fixed.items()), *profile.setup],
        "srun_args": [*srun, *profile.srun_args],
        "additional_parameters": {key: value for key, value in additional.items() if value} | profile.sbatch,
    }
    return {key: value for key, value in parameters.items() if value is not None}
