"""Disturbances of processes: ranks, steps, batch scripts, and the user's own commands."""

import signal
from random import Random

from tests.chaos.run import Run

_ENDS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV)


def end_process(run: Run, rng: Random) -> str | None:
    """Kill a rank, a step's srun or slurmstepd, or a batch script."""
    processes = run.slurm.processes()
    roles = sorted({process.role for process in processes})
    if not roles:
        return None
    role, number = rng.choice(roles), rng.choice(_ENDS)
    process = rng.choice([process for process in processes if process.role == role])
    return f"{number.name} to a {role} of job {process.job}" if run.slurm.signal(process, number) else None


def stop_process(run: Run, rng: Random) -> str | None:
    """Stop a process of a job for some seconds."""
    processes = [process for process in run.slurm.processes() if f"pid {process.pid}" not in run.faults]
    if not processes:
        return None
    process, seconds = rng.choice(processes), rng.uniform(0.5, 6)
    if not run.slurm.signal(process, signal.SIGSTOP):
        return None
    run.later(seconds, f"pid {process.pid}", lambda: run.slurm.signal(process, signal.SIGCONT) or None)
    return f"SIGSTOP to a {process.role} of job {process.job}, SIGCONT after {seconds:.1f} s"


def kill_job(run: Run, rng: Random) -> str | None:
    """Kill all processes of a job at once."""
    jobs = sorted({process.job for process in run.slurm.processes()})
    if not jobs:
        return None
    job = rng.choice(jobs)
    killed = [run.slurm.signal(process, signal.SIGKILL) for process in run.slurm.processes(job)]
    return f"SIGKILL to all {sum(killed)} processes of job {job}" if any(killed) else None


def kill_submitter(run: Run, rng: Random) -> str | None:
    """Kill a submission at a random moment."""
    if not run.left or "disk" in run.faults:
        return None
    shell, seconds = run.user.submit(rng.choice(run.left)), rng.uniform(0.2, 3.0)
    run.watch(shell)
    run.wait(seconds, rng)
    if shell.ended:
        return None
    number = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    shell.process.send_signal(number)
    return f"{number.name} to bench.submit {shell.manifest} after {seconds:.2f} s"


def two_submitters(run: Run, rng: Random) -> str | None:
    """Submit the same manifest twice at once."""
    if not run.left or "disk" in run.faults:
        return None
    name = rng.choice(run.left)
    run.watch(run.user.submit(name), run.user.submit(name))
    return f"bench.submit {name} twice at once"


def kill_reporter(run: Run, rng: Random) -> str | None:
    """Kill a report while it reads records or writes a page."""
    name, seconds = rng.choice(run.user.names), rng.uniform(0.3, 4.0)
    shell = run.user.start("reports", name, "--html", run.user.folder / f"{name}.html")
    run.watch(shell)
    run.wait(seconds, rng)
    if shell.ended:
        return None
    shell.process.kill()
    return f"SIGKILL to reports {name} --html after {seconds:.2f} s"


def cancel(run: Run, rng: Random) -> str | None:
    """Cancel a manifest's jobs by the project's command."""
    if not run.slurm.jobs() or "disk" in run.faults:
        return None
    name = rng.choice(run.user.names)
    run.watch(run.user.start("bench.cancel", name))
    return f"bench.cancel {name}"


def status(run: Run, rng: Random) -> str | None:
    """Ask for the status while daemons and storage are disturbed."""
    if not run.faults:
        return None
    name = rng.choice(run.user.names)
    run.watch(run.user.start("bench.status", name))
    return f"bench.status {name} while disturbed: {', '.join(sorted(run.faults))}"
