"""Disturbances of Slurm's daemons and nodes, of its database, and of its limits."""

import signal
from collections.abc import Callable
from random import Random

from tests.chaos.run import Run
from tests.chaos.slurm import NODES, USER

_ENDS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)


def kill_controller(run: Run, rng: Random) -> str | None:
    return _kill(run, rng, "slurmctld")


def kill_node_daemon(run: Run, rng: Random) -> str | None:
    return _kill(run, rng, rng.choice(NODES))


def kill_accounting(run: Run, rng: Random) -> str | None:
    return _kill(run, rng, "slurmdbd")


def kill_database(run: Run, rng: Random) -> str | None:
    return _kill(run, rng, "mariadbd")


def _kill(run: Run, rng: Random, daemon: str) -> str | None:
    """Kill a daemon, and start it again after some seconds."""
    number, seconds = rng.choice(_ENDS), rng.uniform(0.5, 8)
    if daemon in run.faults or not run.slurm.signal_daemon(daemon, number):
        return None
    run.later(seconds, daemon, run.slurm.restarting(daemon))
    return f"{number.name} to {_named(daemon)}, started again after {seconds:.1f} s"


def stop_daemon(run: Run, rng: Random) -> str | None:
    """Stop a daemon for some seconds: it answers nobody meanwhile."""
    daemon, seconds = rng.choice(("slurmctld", "slurmdbd", "mariadbd", *NODES)), rng.uniform(1, 8)
    if daemon in run.faults or not run.slurm.signal_daemon(daemon, signal.SIGSTOP):
        return None
    run.later(seconds, daemon, lambda: run.slurm.signal_daemon(daemon, signal.SIGCONT) or None)
    return f"SIGSTOP to {_named(daemon)}, SIGCONT after {seconds:.1f} s"


def fail_node(run: Run, rng: Random) -> str | None:
    """Set a node down, whose jobs Slurm then requeues, or let it drain."""
    node, state, seconds = rng.choice(NODES), rng.choice(("down", "drain")), rng.uniform(1, 6)
    if node in run.faults:
        return None
    if run.slurm.ask("scontrol", "update", f"nodename={node}", f"state={state}", "reason=chaos") is None:
        return None
    run.later(seconds, node, lambda: _resume(run, node))
    return f"{node} set {state}, resumed after {seconds:.1f} s"


def cut_power(run: Run, rng: Random) -> str | None:
    """Kill a node's daemon and all its jobs' processes at once, and boot it again."""
    node, seconds = rng.choice(NODES), rng.uniform(1, 6)
    if node in run.faults or not run.slurm.signal_daemon(node, signal.SIGKILL):
        return None
    killed = [run.slurm.signal(process, signal.SIGKILL) for process in run.slurm.processes(node=node)]
    run.later(seconds, node, _booting(run, node))
    return f"power cut of {node} with {sum(killed)} processes, booted after {seconds:.1f} s"


def lose_node(run: Run, rng: Random) -> str | None:
    """Cut a node off: Slurm gives it up, its processes stand still and then live on beside the requeued job."""
    node, seconds = rng.choice(NODES), rng.uniform(4, 12)
    processes = run.slurm.processes(node=node)
    if node in run.faults or not processes or not run.slurm.signal_daemon(node, signal.SIGKILL):
        return None
    for process in processes:
        run.slurm.signal(process, signal.SIGSTOP)
    run.slurm.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=chaos")

    def live_on() -> None:
        for process in processes:
            run.slurm.signal(process, signal.SIGCONT)
        run.later(rng.uniform(1, 3), node, boot_anew)

    boot = _booting(run, node)

    def boot_anew() -> bool:
        for process in processes:
            run.slurm.signal(process, signal.SIGKILL)
        return boot()

    run.later(seconds, f"{node}'s jobs", live_on)
    run.faults.add(node)
    return f"{node} lost with {len(processes)} processes, which stop for {seconds:.1f} s and then live on for a while"


def _booting(run: Run, node: str) -> Callable[[], bool]:
    """A function that is False until the node runs and is used again."""
    restart = run.slurm.restarting(node)
    return lambda: restart() and _resume(run, node)


def _resume(run: Run, node: str) -> bool:
    """Let a node be used again; False while the controller does not answer."""
    if run.slurm.ask("scontrol", "ping") is None:
        return False
    run.slurm.ask("scontrol", "update", f"nodename={node}", "state=resume")  # refused where it is up again by itself
    return True


def limit_jobs(run: Run, rng: Random) -> str | None:
    """Lower the number of jobs that the user may have queued, and submit."""
    if "limit" in run.faults or not run.left or "disk" in run.faults or not _limit(run, most := rng.randint(0, 3)):
        return None
    run.later(rng.uniform(3, 8), "limit", lambda: _limit(run, -1))
    name = rng.choice(run.left)
    run.watch(run.user.submit(name))
    return f"MaxSubmitJobs={most}, and bench.submit {name}"


def _limit(run: Run, most: int) -> bool:
    return run.slurm.ask("sacctmgr", "-i", "modify", "user", USER, "set", f"MaxSubmitJobs={most}") is not None


def _named(daemon: str) -> str:
    return f"slurmd of {daemon}" if daemon in NODES else daemon
