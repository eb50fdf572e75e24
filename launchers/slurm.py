"""An array for each wave and shape through submitit's SlurmExecutor; returns as soon as all are queued."""

import re
import shlex
import subprocess
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from launchers.environment import ALLOCATOR, RENDEZVOUS, cleaned
from launchers.ledger import Ledger, entry, latest
from launchers.profile import Profile
from launchers.states import ask, last_words, queued, site
from launchers.task import Task, Wave


@dataclass(frozen=True, kw_only=True)
class Array:
    """Tasks of one shape, and the sbatch text that asks for them."""

    wave: int
    name: str
    tasks: tuple[Task, ...]
    parameters: dict


def arrays(
    title: str, waves: Sequence[Wave[Task]], profile: Profile, limit: int, queued: Collection[str]
) -> list[Array]:
    """The unfinished tasks whose keys are not `queued`, by wave and shape, at most `limit` in an array."""
    found = []
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
                found.append(Array(wave=number, name=wave.name, tasks=part, parameters=parameters))
    return found


def text(array: Array, logs: Path, profile: Profile, **more: object) -> str:
    """The script that sbatch is given."""
    command = f"{profile.interpreter} -u -m submitit.core._submit {shlex.quote(str(logs))}"
    count = len(array.tasks) if len(array.tasks) > 1 else None
    return _make_sbatch_string(command, logs, map_count=count, **_in(logs, array), **more)


def launch(
    title: str, plan: Callable[[], Sequence[Wave[Task]]], logs: Path, profile: Profile, ledger: Ledger
) -> list[tuple[str, Array]]:
    """Queue what is neither finished nor queued; the arrays' ids.

    ValueError with Slurm's own words where it refuses or does not answer; nothing is queued then.
    """
    there = site()
    with ledger.locked():
        waves = plan()
        seen, comments = queued()
        ids = {name: job for name, job in latest(ledger.entries(there.name, comments)).items() if job in seen}
        wanted = arrays(title, waves, profile, min(profile.max_array, there.max_array), set(ids))
        keys = [[job.task.key for job in wave.jobs] for wave in waves]
        known = [{ids[key].split("_")[0] for key in wave if key in ids} for wave in keys]
        done: list[tuple[str, Array]] = []
        for array in wanted:
            before = _before(waves, array.wave, known)
            tag = uuid.uuid4().hex
            note = entry(tag, there.name, tuple(task.key for task in array.tasks))
            ledger.note(note)
            try:
                job = _submit(array, logs, profile, tag, before)
            except (FailedJobError, FailedSubmissionError, subprocess.SubprocessError) as error:
                # All or nothing: sbatch is the judge of what it takes (a trial by --test-only refuses what waits for
                # nodes that are drained), so what went before the refusal is taken back.
                if done:
                    ask("scancel", *(job for job, _ in done))
                raise ValueError(f"{last_words('sbatch', str(error))} (nothing is queued)") from None
            ledger.note(note.model_copy(update={"id": job}))
            known[array.wave].add(job)
            done.append((job, array))
    return done


def _before(waves: Sequence[Wave[Task]], number: int, known: list[set[str]]) -> list[str]:
    """The arrays that a wave waits for: those of the nearest wave before it that has any in the queue."""
    after = waves[number].after
    while after is not None and not known[after]:
        after = waves[after].after
    return sorted(known[after]) if after is not None else []


def _submit(array: Array, logs: Path, profile: Profile, tag: str, before: list[str]) -> str:
    executor = SlurmExecutor(folder=logs, max_num_timeout=profile.max_timeouts, python=profile.interpreter)
    # Not afterok: one failed teacher must not keep back every student, but its own, which see that it is not there.
    dependency = {"dependency": f"afterany:{':'.join(before)}"} if before else {}
    executor.update_parameters(**_in(logs, array), comment=tag, **dependency)
    # sbatch hands its environment to the job, and takes options from it that outrank the script's.
    with cleaned():
        (first, *_) = executor.submit_array(array.tasks)
    return first.job_id.split("_")[0]


def _in(logs: Path, array: Array) -> dict:
    """The array's parameters, with a file in `logs` by which the ranks of an attempt find each other."""
    if array.tasks[0].ranks == 1:
        return array.parameters
    made = f'{RENDEZVOUS}=$(mktemp {shlex.quote(str(logs))}/rendezvous-"$SLURM_JOB_ID"-XXXXXXXX) || exit 1'
    lines = [made, f"export {RENDEZVOUS}", f"trap 'rm -f \"${RENDEZVOUS}\"' EXIT"]
    return array.parameters | {"setup": [*lines, *array.parameters["setup"]]}


def _parameters(name: str, task: Task, profile: Profile) -> dict:
    """submitit's own parameters for a shape: None is left out."""
    same = ("partition", "account", "qos", "constraint", "nodelist", "exclude", "gres", "mem", "time", "cpus_per_task")
    per_node = task.ranks // task.nodes
    if 0 < profile.gpus < per_node:
        raise ValueError(f"profile.gres: {profile.gres}: {task.key} has {per_node} ranks on a node, each with its GPU")
    # The allocator reads its settings when a process starts: so they are set before srun.
    fixed = {"OMP_NUM_THREADS": str(profile.cpus_per_task)} | ALLOCATOR
    # One rank's end is the end of all; else the others wait for it until the time is over. Ranks get what this script
    # sets, whatever the site's default is; and srun does not take the number of cores over from sbatch (since 22.05).
    srun = ["--kill-on-bad-exit=1", "--export=ALL", f"--cpus-per-task={profile.cpus_per_task}"]
    # The signal is given here, for submitit would take it from the environment of this process alone.
    more = {"requeue": True, "signal": f"USR2@{profile.signal_delay_s}", "reservation": profile.reservation}
    given = {
        **{key: getattr(profile, key) for key in (*same, "signal_delay_s", "array_parallelism")},
        "job_name": re.sub(r"[^\w.+-]", "_", name),
        "nodes": task.nodes,
        "ntasks_per_node": per_node,
        "gpus_per_node": None if profile.gpus else per_node * profile.gpus_per_rank or None,
        "exclusive": True if profile.exclusive and task.timed else None,
        "setup": [*(f"export {key}={value}" for key, value in fixed.items()), *profile.setup],
        "srun_args": [*srun, *profile.srun_args],
        "additional_parameters": {key: value for key, value in more.items() if value} | profile.sbatch,
    }
    return {key: value for key, value in given.items() if value is not None}
