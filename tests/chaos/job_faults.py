"""Disturbances of jobs by Slurm's own means: requeues, time-outs, preemption, limits of memory."""

from contextlib import suppress
from pathlib import Path
from random import Random

from tests.chaos.run import Run
from tests.chaos.slurm import MEMORY


def _one(run: Run, rng: Random, *states: str) -> str | None:
    jobs = run.slurm.jobs(*states)
    return rng.choice(jobs) if jobs else None


def _control(run: Run, what: str, job: str | None, *command: str) -> str | None:
    """Give Slurm an order for a job; None where there is no such job or Slurm refuses."""
    return f"{what} of job {job}" if job and run.slurm.ask(*command, job) is not None else None


def _for_a_while(run: Run, rng: Random, state: str, order: str, undo: str, longest: float) -> str | None:
    """Give an order for a job in this state, and undo it within `longest` seconds."""
    job = _one(run, rng, state)
    words = _control(run, f"scontrol {order}", job, "scontrol", order)
    if words:
        run.later(rng.uniform(1, longest), f"job {job}", lambda: run.slurm.ask("scontrol", undo, job or ""))
    return words


def requeue(run: Run, rng: Random) -> str | None:
    return _control(run, "scontrol requeue", _one(run, rng, "RUNNING"), "scontrol", "requeue")


def requeue_and_hold(run: Run, rng: Random) -> str | None:
    return _for_a_while(run, rng, "RUNNING", "requeuehold", "release", 8)


def cancel_one(run: Run, rng: Random) -> str | None:
    return _control(run, "scancel", _one(run, rng), "scancel")


def warn_of_the_end(run: Run, rng: Random) -> str | None:
    """Send the signal by which Slurm tells a job of its end."""
    return _control(run, "scancel --signal=USR2", _one(run, rng, "RUNNING"), "scancel", "--signal=USR2")


def suspend(run: Run, rng: Random) -> str | None:
    return _for_a_while(run, rng, "RUNNING", "suspend", "resume", 6)


def hold(run: Run, rng: Random) -> str | None:
    return _for_a_while(run, rng, "PENDING", "hold", "release", 8)


def time_out(run: Run, rng: Random) -> str | None:
    """Let a running job's time end in some seconds; it is warned 5 s before."""
    job, seconds = _one(run, rng, "RUNNING"), rng.randint(1, 12)
    if not job:
        return None
    done = run.slurm.ask("scontrol", "update", f"jobid={job}", f"endtime=now+{seconds}")
    return f"time-out of job {job} in {seconds} s" if done is not None else None


def preempt(run: Run, rng: Random) -> str | None:
    """Queue an urgent job that needs a whole node."""
    node = (run.slurm.ask("squeue", "-h", "-t", "RUNNING", "-o", "%N") or "").split()
    if not node:
        return None
    name, seconds = rng.choice([name for name in node if "[" not in name] or ["n1"]), rng.randint(1, 4)
    wrap = ("--wrap", f"sleep {seconds}", "-o", "/dev/null", "-J", "urgent")
    done = run.slurm.ask("sbatch", "-p", "urgent", "-w", name, "--exclusive", "-t", "1", "--no-requeue", *wrap)
    return f"preemption by an urgent job of {seconds} s on {name}" if done is not None else None


def out_of_memory(run: Run, rng: Random) -> str | None:
    """Limit the memory of a step to what it uses, so that the kernel kills in it once it needs more."""
    steps = sorted(MEMORY.glob("slurm_n[12]/uid_*/job_*/step_[0-9]*/memory.limit_in_bytes"))
    if not run.slurm.kills_for_memory or not steps:
        return None
    limit = rng.choice(steps)
    step = limit.parent
    try:
        before, kills, used = limit.read_text(), _kills(step), int((step / "memory.usage_in_bytes").read_text())
        if not _is_of(run, step):
            return None
        limit.write_text(str(used + 2**20))  # the kernel refuses a limit below what is used
    except OSError:
        return None
    words = f"memory of {step.parent.name}, {step.name} limited to the {used // 2**20} MB that it uses"
    for _ in range(20):
        run.wait(0.1, rng)
        try:
            if _kills(step) > kills:
                return words
        except OSError:  # Slurm removes the groups of a step that has ended
            return f"{words}, and ended"
    with suppress(OSError):
        limit.write_text(before)
    return None


def _kills(step: Path) -> int:
    """Number of processes that the kernel killed in a group of memory."""
    texts = (file.read_text() for file in step.rglob("memory.oom_control"))
    return sum(int(text.rpartition("oom_kill ")[2]) for text in texts)


def _is_of(run: Run, step: Path) -> bool:
    """True if the group's processes are of this cluster's jobs."""
    ours = {process.pid for process in run.slurm.processes()}
    try:
        found = {int(pid) for file in step.rglob("cgroup.procs") for pid in file.read_text().split()}
    except OSError:
        return False
    return bool(found & ours)
