"""Disturbances of a real Slurm of two nodes, on which small manifests run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.chaos import daemon_faults, job_faults, process_faults, storage_faults
from tests.chaos.disk import Disk
from tests.chaos.invariants import judge, queued_twice
from tests.chaos.kind import Kind, Outcome
from tests.chaos.run import Run
from tests.chaos.slurm import ROOT, Slurm, one_cluster
from tests.chaos.user import NAMES, User

DISTURBANCES: dict[Callable[[Run, Random], str | None], int] = {
    process_faults.end_process: 6,
    process_faults.stop_process: 4,
    process_faults.kill_job: 2,
    process_faults.kill_submitter: 5,
    process_faults.two_submitters: 2,
    process_faults.kill_reporter: 2,
    process_faults.cancel: 1,
    process_faults.status: 2,
    job_faults.requeue: 2,
    job_faults.requeue_and_hold: 1,
    job_faults.cancel_one: 2,
    job_faults.warn_of_the_end: 2,
    job_faults.suspend: 3,
    job_faults.hold: 2,
    job_faults.time_out: 3,
    job_faults.preempt: 2,
    job_faults.out_of_memory: 2,
    daemon_faults.kill_controller: 3,
    daemon_faults.kill_node_daemon: 2,
    daemon_faults.kill_accounting: 2,
    daemon_faults.kill_database: 2,
    daemon_faults.stop_daemon: 3,
    daemon_faults.fail_node: 3,
    daemon_faults.cut_power: 2,
    daemon_faults.lose_node: 2,
    daemon_faults.limit_jobs: 2,
    storage_faults.fill_disk: 3,
    storage_faults.rename_runs: 3,
    storage_faults.unmount_runs: 2,
    storage_faults.shift_claim: 2,
}
"""The disturbances, with their weights in the choice."""
_HALVINGS = 3
"""Times that a broken attempt is halved; each takes minutes."""
_PAUSE = (0.3, 2.0)
"""Seconds between two disturbances."""
CLUSTER_FOLDER = Path("/tmp/chaos-cluster")
"""Folder that the daemons' users can reach, with a path short enough for sockets."""
COUNT = 80
"""Disturbances of one attempt, if the work lasts for so many."""


def missing() -> str:
    """Return the reason why this machine cannot run a cluster; empty if it can."""
    if os.getuid():
        return "the test cluster's daemons and disks need root"
    programs = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mount")
    absent = [program for program in programs if not shutil.which(program)]
    return f"not installed: {', '.join(absent)}" if absent else ""


def prepare(folder: Path, names: Sequence[str] = NAMES) -> None:
    """Write the digits' .beton files, and run the manifests undisturbed on this machine, without Slurm."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    user = User(folder, folder / "reference", environment, names)
    beton = ("crt.data.beton", "digits", "--data", str(user.data))
    subprocess.run([sys.executable, "-m", *beton], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    for name in names:
        said = user.start("bench.submit", name, "--launcher", "local").wait()
        if said.code:
            raise RuntimeError(f"{said.command}: {said.text}")


def attempt(
    folder: Path, seed: int, chosen: Sequence[int] = range(COUNT), names: Sequence[str] = NAMES
) -> list[Outcome]:
    """Disturb a cluster `chosen` times, each number with a seed of its own, until its manifests are done."""
    with _run(folder, names) as run:
        run.user.note(f"seed {seed}")
        tried = _disturb(run, seed, chosen)
        run.finish()
        for finding in judge(run, folder / "reference"):
            run.find(finding)
        findings = list(dict.fromkeys(run.findings))
        if findings:
            _keep(folder, run, seed)
    # A promise that is broken in the end is no single disturbance's; it is told with the last one.
    outcomes = [Outcome(words) for words in tried] or [Outcome("nothing")]
    if findings:
        outcomes[-1] = outcomes[-1]._replace(broken="; ".join(findings))
    return outcomes


@contextmanager
def _run(folder: Path, names: Sequence[str]) -> Iterator[Run]:
    """A cluster, a disk and a user; in the end all is repaired, and none of it is left."""
    disk = Disk(folder / "disk")
    with one_cluster(), disk.mounted(), Slurm(CLUSTER_FOLDER).running() as slurm:
        run = Run(slurm, User(folder, disk.runs, slurm.environment, names), disk)
        try:
            yield run
        finally:
            run.repair_all()


def _disturb(run: Run, seed: int, chosen: Sequence[int]) -> list[str]:
    tried: list[str] = []
    for number in chosen:
        rng = Random(f"{seed}/{number}")
        run.wait(rng.uniform(*_PAUSE), rng)
        if not run.left:
            break
        # The first that finds something to disturb.
        for disturbance in _order(rng):
            if words := disturbance(run, rng):
                tried.append(f"{number}: {words}")
                run.user.note(tried[-1])
                break
        for finding in queued_twice(run):
            run.find(finding)
    return tried


def _order(rng: Random) -> list[Callable[[Run, Random], str | None]]:
    """All disturbances in random order, the likelier ones rather first."""
    return sorted(DISTURBANCES, key=lambda each: rng.random() ** (1 / DISTURBANCES[each]), reverse=True)


def _keep(folder: Path, run: Run, seed: int) -> None:
    """Keep the files of a run that broke a promise."""
    kept = folder / f"broken-{seed}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(run.user.runs, kept / "runs", symlinks=True)
    shutil.copytree(run.slurm.folder / "log", kept / "log")


def shrink(folder: Path, seed: int) -> str:
    """Half of the disturbances, a quarter, an eighth, as long as a promise breaks. Times differ from run to run."""
    chosen = list(range(COUNT))
    for _ in range(_HALVINGS):
        halves = chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]
        broken = next((half for half in halves if attempt(folder, seed, half)[-1].broken), None)
        if broken is None:
            break
        chosen = broken
    return f"disturbances {', '.join(map(str, chosen))} of {COUNT} (times differ from run to run)"


KIND = Kind(
    name="cluster",
    promise="every epoch once, weights equal to the bit, nothing queued twice, nothing left",
    count=500,
    prepare=prepare,
    attempt=attempt,
    shrink=shrink,
    missing=missing,
)
