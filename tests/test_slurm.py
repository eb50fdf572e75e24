"""On a real Slurm of two nodes: waves, shards, ranks over nodes, interruptions, the queue and its limits."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner
from waiting import HANG

from bench import cancel, status, submit
from bench.manifest import read_manifest
from bench.records import End, Epoch, Fail, Start, Verdict, read, read_all
from crt.archs.convnet import cnn2c2f
from crt.data import DATASETS
from crt.models.classifier import Classifier
from launchers import rendezvous
from launchers.states import _elements
from reports import __main__ as reports
from tests.chaos.slurm import one_cluster

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "slurm" / "testcluster.sh"
PROFILE = "{time: 30, cpus_per_task: 1, shards: 2, exclusive: false, array_parallelism: 8}"
HEAD = """
dataset: digits
pipeline: plain
loader: device
threat: {norm: l2, sigma: 0.25}
images: 256
arch: cnn2c2f
"""
WAVES = (
    HEAD.replace("images: 256", "images: 512")
    + """
recipe: {epochs: 8, batch_size: 32, lr: 0.01}
evals: [Clean: {images: 8}, Smoothing: {n: 100, n0: 10, images: 8}]
cells:
  - {method: SmoothMix, name: teacher}
  - {method: CRT, teacher: {cell: teacher}, recipe: {epochs: 2, batch_size: 32, lr: 0.01}}
"""
)
EPOCHS = 10
LONG = (
    HEAD.replace("images: 256", "images: 1437")
    + f"""
cells: [{{method: SmoothMix, recipe: {{epochs: {EPOCHS}, batch_size: 32, lr: 0.01}}}}]
"""
)

PRECISE = """
recipe: {epochs: 2, batch_size: 64, lr: 0.01}
timing: {runs: 3, rounds: 2, images: 64, until: 0.01%, at_most: 4}
baseline: Standard
cells: [{method: [Standard, Gaussian]}]
"""

REMEMBERING = (
    HEAD.replace("sigma: 0.25", "eps: 0.2").replace("images: 256", "images: 1437")
    + f"""
recipe: {{epochs: {EPOCHS}, batch_size: 32, lr: 0.01}}
cells:
  - {{method: FreeAT}}
  - {{method: {{RRM: {{replays: 8}}}}, teacher: {{arch: cnn2c2f, weights: TEACHER, normalize: true}}}}
"""
)

ours = pytest.mark.skipif(os.getuid() != 0, reason="the test cluster's daemons need root")


class Cluster:
    """The test cluster, and a user's shell on it."""

    def __init__(self, folder: Path, accounting: bool):
        self.folder, self.accounting = folder, accounting
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PYTHONPATH": str(ROOT)}

    def do(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=HANG, cwd=ROOT)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def bench(self, command, *options: object, code: int = 0) -> str:
        """Output of a command, run in this process because starting another takes longer than the command."""
        result = CliRunner().invoke(command.app, [*map(str, options)], env=self.environment)
        assert result.exit_code == code, f"{command.__name__} {options}: {result.exit_code} {result.output}"
        return result.output

    def queue(self) -> list[str]:
        return self.do("squeue", "-h", "-r", "-o", "%i").split()

    def wait(self, what) -> None:
        until = time.monotonic() + HANG
        while not what():
            assert time.monotonic() < until, self.do("squeue", "-r", check=False) + self.logs()
            time.sleep(0.2)

    def logs(self) -> str:
        return self.do("tail", "-n", "20", str(self.folder / "log" / "slurmctld.log"), check=False)


@pytest.fixture(scope="module")
def cluster(request):
    accounting = request.param == "accounting"
    # Not pytest's folder: that is root's alone, and the daemons have users of their own.
    folder = Path(tempfile.gettempdir()) / f"testcluster-{os.getpid()}"
    options = {"accounting": [], "no accounting": ["--no-accounting"], "bound": ["--no-accounting", "--bind"]}
    with one_cluster():
        up = subprocess.run(
            [SCRIPT, "up", *options[request.param], folder], capture_output=True, text=True, timeout=HANG
        )
        assert up.returncode == 0, up.stdout + up.stderr
        yield Cluster(folder, accounting)
        subprocess.run([SCRIPT, "down", folder], check=True, timeout=HANG)


def both(test):
    return ours(pytest.mark.parametrize("cluster", ["accounting", "no accounting"], indirect=True)(test))


def with_accounting(test):
    return ours(pytest.mark.parametrize("cluster", ["accounting"], indirect=True)(test))


def with_bound_ranks(test):
    return ours(pytest.mark.parametrize("cluster", ["bound"], indirect=True)(test))


@pytest.fixture
def table(tmp_path, digits):
    """Write a manifest and a profile; the options that every command takes."""

    def make(text: str, profile: str = PROFILE, name: str = "runs") -> tuple[list, list]:
        (tmp_path / "m.yaml").write_text(text)
        (tmp_path / "profile.yaml").write_text(profile)
        where = [tmp_path / "m.yaml", "--runs", tmp_path / name, "--data", digits]
        return [*where, "--profile", tmp_path / "profile.yaml"], where

    return make


def epochs(folder: Path, method: str = "") -> list[int]:
    return [r.epoch for file in folder.glob(f"*{method}*/train.jsonl") for r in read(file) if isinstance(r, Epoch)]


def model(folder: Path, method: str = "") -> dict:
    (file,) = folder.glob(f"*{method}*/model.pt")
    return torch.load(file, weights_only=True)


def figures(file: Path) -> list[dict]:
    with open(file) as lines:
        return list(csv.DictReader(lines))


@with_accounting
def test_waves_of_arrays_status_and_the_same_report_as_on_one_machine(cluster, table, tmp_path, digits):
    slurm, where = table(WAVES)
    said = cluster.bench(submit, *slurm)
    assert [line.split(": ")[1] for line in said.splitlines() if line.startswith("queued")] == [
        "train0, 1 job",
        "train1, 1 job",
        "judge0, 2 jobs",
        "judge1, 2 jobs",
    ]
    cluster.wait(lambda: epochs(tmp_path / "runs"))
    middle = cluster.bench(status, *where)
    assert "waiting" in middle and "Dependency" in middle and "/8" in middle
    assert "queued already" in cluster.bench(submit, *slurm)
    cluster.wait(lambda: not cluster.queue())
    end = cluster.bench(status, *where)
    assert "6 finished" in end and "failed" not in end
    assert "Nothing left to do" in cluster.bench(submit, *slurm)
    starts = [r for r in read_all(next((tmp_path / "runs").glob("*CRT*"))) if isinstance(r, Start)]
    assert all(start.process == "fresh" and start.job and start.host in ("n1", "n2") for start in starts)
    verdicts = [r for file in (tmp_path / "runs").glob("*/*.jsonl") for r in read(file) if isinstance(r, Verdict)]
    assert len(verdicts) == 2 * 16
    local = [tmp_path / "m.yaml", "--runs", tmp_path / "local", "--data", digits, "--launcher", "local"]
    cluster.environment["OMP_NUM_THREADS"] = "1"
    cluster.bench(submit, *local)
    for name in ("runs", "local"):
        options = ["--runs", tmp_path / name, "--wide-csv", tmp_path / f"{name}.csv"]
        cluster.bench(reports, tmp_path / "m.yaml", *options)
    judged = [figures(tmp_path / f"{name}-robustness.csv") for name in ("runs", "local")]
    assert all(row.pop("judge_seconds") for rows in judged for row in rows)
    assert judged[0] == judged[1]
    same = ("arch", "method", "batch", "precision", "loader", "device", "ideal", "rounds", "runs")
    queued, local = (figures(tmp_path / f"{name}.csv") for name in ("runs", "local"))
    assert [[row[key] for key in same] for row in queued] == [[row[key] for key in same] for row in local]


@with_accounting
def test_runs_are_added_in_a_wave_after_the_first(cluster, table, tmp_path):
    slurm, where = table(HEAD + PRECISE)
    said = cluster.bench(submit, *slurm)
    assert [line.split(": ")[1] for line in said.splitlines() if line.startswith("queued")] == [
        "time, 3 jobs",
        "time2, 1 job",
    ]
    cluster.wait(lambda: not cluster.queue())
    ends = [r for file in (tmp_path / "runs").glob("*/run*/time.jsonl") for r in read(file) if isinstance(r, End)]
    assert len(ends) == 4, cluster.bench(status, *where)
    assert "Nothing left to do" in cluster.bench(submit, *slurm)


@with_accounting
def test_two_nodes_of_one_rank_equal_one_process(cluster, table, tmp_path):
    for n in (1, 2):
        cell = f"recipe: {{epochs: 2, batch_size: 32, lr: 0.01}}\ncells: [{{method: Standard, ranks: {n}, nodes: {n}}}]"
        slurm, _ = table(HEAD + cell, name=f"ranks{n}")
        cluster.bench(submit, *slurm)
    cluster.wait(lambda: not cluster.queue())
    one, two = model(tmp_path / "ranks1"), model(tmp_path / "ranks2")
    assert max((one[name] - two[name]).abs().max() for name in one) < 1e-5
    (start,) = [r for f in (tmp_path / "ranks2").glob("*/train.jsonl") for r in read(f) if isinstance(r, Start)]
    assert (start.world_size, start.nodes) == (2, 2)


def allocation(cluster, *options: str) -> dict[str, str]:
    """The environment of a step in an allocation, and what else a shell there may hold."""
    step = cluster.do("srun", *options, "env", "-0").split("\0")
    inside = dict(line.split("=", 1) for line in step if line.startswith(("SLURM", "SRUN", "SBATCH")))
    assert inside["SLURM_JOB_ID"] and inside["SLURM_PROCID"] == "0"
    options = {
        "SBATCH_PARTITION": "nowhere",
        "SBATCH_TIMELIMIT": "1",
        "SBATCH_EXPORT": "NONE",
        "SBATCH_ARRAY_INX": "0-3",
    }
    ranks = {"MASTER_ADDR": "nowhere", "MASTER_PORT": "1", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3"}
    binding = {"SLURM_CPU_BIND": "map_cpu:0", "SLURM_EXPORT_ENV": "NONE", "SQUEUE_PARTITION": "nowhere"}
    return inside | options | ranks | binding | {"TORCHELASTIC_USE_AGENT_STORE": "True"}


def submitted_from(place: dict[str, str], cluster, *options: object) -> None:
    result = CliRunner().invoke(submit.app, [*map(str, options)], env=cluster.environment | place)
    assert result.exit_code == 0, result.output


def started(folder: Path) -> list[Start]:
    return [r for file in folder.glob("*/train.jsonl") for r in read(file) if isinstance(r, Start)]


@with_accounting
def test_submitted_from_inside_an_allocation_a_job_is_as_from_outside(cluster, table, tmp_path):
    cell = "recipe: {epochs: 1, batch_size: 32, lr: 0.01}\ncells: [{method: Standard, ranks: 2, nodes: 2}]"
    place = allocation(cluster, "--ntasks=1", "--cpus-per-task=1", "--mem=100")
    runs = tmp_path / "it's 1 run"
    slurm, where = table(HEAD + cell, PROFILE[:-1] + ", sbatch: {nice: 5, mail-type: NONE}}", runs.name)
    submitted_from(place, cluster, *slurm)
    submitted_from(place, cluster, *where, "--launcher", "local", "--runs", tmp_path / "local")
    cluster.wait(lambda: not cluster.queue())
    (queued,), (local,) = started(runs), started(tmp_path / "local")
    assert (queued.world_size, queued.job) == (2, entries(runs)[-1]["id"]) and queued.host in ("n1", "n2")
    assert (local.world_size, local.job, local.host) == (2, None, socket.gethostname())
    assert "Partition=main" in cluster.do("scontrol", "show", "job", queued.job)
    assert "TimeLimit=00:30:00" in cluster.do("scontrol", "show", "job", queued.job)
    one, two = model(runs), model(tmp_path / "local")
    assert max((one[name] - two[name]).abs().max() for name in one) < 1e-5
    assert not list((runs / "logs").glob("rendezvous*"))


def entries(runs: Path) -> list[dict]:
    return [json.loads(line) for line in (runs / "queue.jsonl").read_text().splitlines()]


@with_accounting
def test_a_taken_port_is_passed_over_and_a_requeued_job_has_another(cluster, table, tmp_path):
    slurm, _ = table(LONG.replace("SmoothMix", "Standard") + "ranks: 2\nnodes: 2\n")
    cluster.bench(submit, *slurm)
    job = entries(tmp_path / "runs")[-1]["id"]
    cluster.wait(lambda: told(tmp_path / "runs") and epochs(tmp_path / "runs"))
    (before,) = told(tmp_path / "runs").values()
    allowed = rendezvous.ports()
    next_one = allowed[(zlib.crc32(job.encode()) + rendezvous._TRIES + 1) % len(allowed)]
    with socket.create_server(("", next_one)):
        cluster.do("scancel", "--signal=USR2", job)
        cluster.wait(lambda: set(told(tmp_path / "runs").values()) - {before} or not cluster.queue())
        (after,) = set(told(tmp_path / "runs").values()) - {before}
        cluster.wait(lambda: not cluster.queue())
    assert after != next_one and {before, after} <= set(allowed)
    assert Counter(epochs(tmp_path / "runs")) == dict.fromkeys(range(EPOCHS), 1)
    assert len(started(tmp_path / "runs")) == 2


def told(runs: Path) -> dict[Path, int]:
    """The ports that ranks were told, by file."""
    found = {}
    for file in (runs / "logs").glob("rendezvous-*"):
        with suppress(FileNotFoundError):
            if (text := file.read_text()).endswith("\n"):
                found[file] = int(text.split()[0])
    return found


@with_bound_ranks
def test_a_rank_has_the_cores_asked_for_wherever_it_was_submitted(cluster, table, tmp_path):
    if (cores := len(os.sched_getaffinity(0))) < 2:
        pytest.skip("one core alone")
    place = allocation(cluster, "--ntasks=1", "--cpus-per-task=1")
    text = HEAD + "recipe: {epochs: 1, batch_size: 32, lr: 0.01}\ncells: [{method: Standard}]"
    for asked in (1, cores):
        slurm, _ = table(text, f"{{time: 30, cpus_per_task: {asked}, exclusive: false}}", f"cores{asked}")
        submitted_from(place, cluster, *slurm)
        cluster.wait(lambda: not cluster.queue())
        (start,) = started(tmp_path / f"cores{asked}")
        assert (start.cpus, start.threads) == (asked, asked)


@both
def test_interrupted_in_every_way_and_equal_to_the_undisturbed(cluster, table, tmp_path):
    slurm = {}
    for way in ("node", "undisturbed", "signal", "cancel"):
        # The first finds n1 free, and is not kept to it: it needs a place when its node is down.
        profile = PROFILE if way == "node" else f"{PROFILE[:-1]}, exclude: n1}}"
        slurm[way] = table(LONG, profile, way)[0]
        cluster.bench(submit, *slurm[way])
    job = {way: json.loads((tmp_path / way / "queue.jsonl").read_text().splitlines()[-1])["id"] for way in slurm}
    disturbed = ("signal", "cancel", "node")
    # A submitter killed between sbatch and its note of the id.
    ledger = tmp_path / "undisturbed" / "queue.jsonl"
    ledger.write_text(ledger.read_text().splitlines()[0] + "\n")
    assert "queued already" in cluster.bench(submit, *slurm["undisturbed"])
    cluster.wait(lambda: all(len(epochs(tmp_path / way)) >= 2 for way in disturbed))
    # None is done when it is disturbed; one that is requeued may be, soon after.
    assert all(len(epochs(tmp_path / way)) < EPOCHS for way in disturbed)
    assert cluster.do("squeue", "-h", "-j", job["node"], "-o", "%N").strip() == "n1"
    # The node's own daemon dies. What it ran lives on, silent for a while, and must not write beside the requeued job.
    os.kill(int((cluster.folder / "run" / "n1.pid").read_text()), signal.SIGKILL)
    lost = processes(job["node"])
    assert lost
    for process in lost:
        os.kill(process, signal.SIGSTOP)
    cluster.do("scontrol", "update", "nodename=n1", "state=down", "reason=test")
    cluster.do("scancel", "--signal=USR2", job["signal"])
    cluster.do("scancel", job["cancel"])
    cluster.wait(lambda: job["cancel"] not in cluster.queue())
    cluster.do(str(SCRIPT), "restart", "slurmctld", str(cluster.folder))
    # Without accounts, and where they lag behind, the controller tells how a job ended.
    said = cluster.bench(status, *slurm["cancel"][:-2])
    assert "failed" in said and "CANCELLED: cancelled" in said
    cluster.bench(submit, *slurm["cancel"])
    # Stopped while it was writing a record, it holds up the requeued job until its hold expires.
    cluster.wait(lambda: starts(tmp_path / "node") == 2)
    for process in lost:
        os.kill(process, signal.SIGCONT)
    cluster.wait(lambda: not cluster.queue())
    cluster.do(str(SCRIPT), "restart", "n1", str(cluster.folder))
    cluster.do("scontrol", "update", "nodename=n1", "state=resume", check=False)
    whole = model(tmp_path / "undisturbed")
    for way in slurm:
        assert Counter(epochs(tmp_path / way)) == dict.fromkeys(range(EPOCHS), 1), way
        assert starts(tmp_path / way) == (1 if way == "undisturbed" else 2), way
        for name, value in model(tmp_path / way).items():
            assert torch.equal(value, whole[name]), (way, name)


@with_accounting
def test_methods_that_remember_are_requeued_and_equal_to_the_undisturbed(cluster, table, tmp_path):
    body, width = cnn2c2f()
    teacher = Classifier(body, width, 10, DATASETS["digits"].mean, DATASETS["digits"].std)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    text = REMEMBERING.replace("TEACHER", str(tmp_path / "teacher.pt"))
    cluster.bench(submit, *table(text, name="requeued")[0])
    cluster.wait(lambda: all(len(epochs(tmp_path / "requeued", method)) >= 2 for method in ("FreeAT", "RRM")))
    for job in cluster.queue():
        cluster.do("scancel", "--signal=USR2", job)
    assert all(len(epochs(tmp_path / "requeued", method)) < EPOCHS for method in ("FreeAT", "RRM"))
    cluster.bench(submit, *table(text, name="calm")[0])
    cluster.wait(lambda: not cluster.queue())
    for method in ("FreeAT", "RRM"):
        whole = model(tmp_path / "calm", method)
        for way, attempts in (("calm", 1), ("requeued", 2)):
            assert Counter(epochs(tmp_path / way, method)) == dict.fromkeys(range(EPOCHS), 1), (way, method)
            assert starts(tmp_path / way, method) == attempts
            for name, value in model(tmp_path / way, method).items():
                assert torch.equal(value, whole[name]), (way, method, name)


def starts(folder: Path, method: str = "") -> int:
    return sum(isinstance(r, Start) for file in folder.glob(f"*{method}*/train.jsonl") for r in read(file))


def processes(job: str) -> list[int]:
    """The Python processes of a job on this machine."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_worker = process.joinpath("cmdline").read_bytes().startswith(sys.executable.encode())
            if is_worker and f"SLURM_JOB_ID={job}".encode() in process.joinpath("environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.fixture
def drained(cluster):
    """Nodes that start nothing, so that what is queued stays so."""
    cluster.do("scontrol", "update", "nodename=n1,n2", "state=drain", "reason=test")
    yield
    cluster.do("scontrol", "update", "nodename=n1,n2", "state=resume")


@with_accounting
def test_two_submits_at_once_and_more_cells_than_an_array_holds(cluster, drained, table, tmp_path):
    many = (
        HEAD
        + f"seed: {list(range(300))}\nrecipe: {{epochs: 1, batch_size: 32, lr: 0.1}}\ncells: [{{method: Standard}}]"
    )
    slurm, where = table(many, PROFILE[:-1] + ", max_array: 100}")
    command = [sys.executable, "-m", "bench.submit", *map(str, slurm)]
    shells = [subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(2)]
    said = sorted(shell.communicate(timeout=HANG)[0].decode().count("queued ") for shell in shells)
    assert said == [0, 3] or said == [1, 3], said
    assert len(cluster.queue()) == 300
    lines = [json.loads(line) for line in (tmp_path / "runs" / "queue.jsonl").read_text().splitlines()]
    names = Counter(name for line in lines if line["id"] for name in line["jobs"])
    assert len(names) == 300 and set(names.values()) == {1}
    assert [len(line["jobs"]) for line in lines if line["id"]] == [100, 100, 100]
    assert "cancelled 300 jobs" in cluster.bench(cancel, *where)
    assert cluster.queue() == []


@with_accounting
def test_a_job_with_the_id_of_a_lost_one_is_not_ours_and_is_never_cancelled(cluster, drained, table, tmp_path):
    slurm, where = table(LONG)
    cluster.bench(submit, *slurm)
    job = entries(tmp_path / "runs")[-1]["id"]
    # As if a controller that lost ours had given its id to a job that the user queues by hand.
    cluster.do("scontrol", "update", f"jobid={job}", "comment=by hand")
    assert "another job" in " ".join(cluster.bench(status, *where).split())
    assert "no job of this manifest is queued" in cluster.bench(cancel, *where)
    assert f"queued {job}" not in cluster.bench(submit, *slurm)
    second = entries(tmp_path / "runs")[-1]["id"]
    assert second != job and "queued already" in cluster.bench(submit, *slurm)
    assert "cancelled 1 job" in cluster.bench(cancel, *where)
    assert cluster.queue() == [job]
    cluster.do("scancel", job)
    cluster.wait(lambda: not cluster.queue())


@with_accounting
def test_a_launch_that_failed_is_held_and_named_until_it_is_released(cluster, table, tmp_path):
    slurm, where = table(LONG)
    conf = cluster.folder / "slurm.conf"
    before = conf.read_text()
    conf.write_text(before + "Prolog=/bin/false\n")
    cluster.do("scontrol", "reconfigure")
    try:
        cluster.bench(submit, *slurm)
        job = entries(tmp_path / "runs")[-1]["id"]
        cluster.wait(lambda: "held" in cluster.do("squeue", "-h", "-o", "%r"))
        for said in (cluster.bench(status, *where), cluster.bench(submit, *slurm)):
            text = " ".join(said.replace("│", " ").split())
            assert "launch failed requeued held" in text and f"scontrol release {job}" in text and "1 held" in text
    finally:
        conf.write_text(before)
        cluster.do("scontrol", "reconfigure")
        cluster.do("scontrol", "update", "nodename=n1,n2", "state=resume", check=False)
    assert "cancelled 1 job" in cluster.bench(cancel, *where)


@with_accounting
def test_without_a_database_the_controller_tells_and_without_a_controller_the_ledger(cluster, drained, table, tmp_path):
    slurm, where = table(LONG)
    cluster.bench(submit, *slurm)
    conf = {"SLURM_CONF": str(tmp_path / "slurm.conf")}
    # The address of a database, and then of a controller, that nobody answers at.
    text = (cluster.folder / "slurm.conf").read_text()
    port = next(line for line in text.splitlines() if line.startswith("AccountingStoragePort"))
    (tmp_path / "slurm.conf").write_text(text.replace(port, "AccountingStoragePort=1"))
    real, cluster.environment = cluster.environment, cluster.environment | conf
    try:
        cluster.bench(cancel, *where)
        said = " ".join(cluster.bench(status, *where).split())
        assert "CANCELLED: cancelled" in said and "how jobs ended from squeue" in said and "sacct: " in said
        port = next(line for line in text.splitlines() if line.startswith("SlurmctldPort"))
        (tmp_path / "slurm.conf").write_text(text.replace(port, "SlurmctldPort=1"))
        said = " ".join(cluster.bench(status, *where).split())
        assert "1 submitted" in said and "is DOWN" in said and "*" not in said
        assert "cancel again once Slurm answers" in cluster.bench(cancel, *where, code=2)
        assert "is DOWN (allowed: " in cluster.bench(submit, *slurm, code=2)
    finally:
        cluster.environment = real


@with_accounting
def test_failed_teacher_stops_its_own_students_and_failed_alone_are_tried_again(cluster, table, tmp_path):
    text = (
        HEAD
        + """
recipe: {epochs: 1, batch_size: 32, lr: 0.01}
cells:
  - {method: SmoothMix, name: good}
  - {method: SmoothMix, seed: 1, name: bad}
  - {method: CRT, teacher: {cell: good}}
  - {method: CRT, seed: 1, teacher: {cell: bad}}
"""
    )
    slurm, where = table(text)
    good, bad, student, orphan = read_manifest(tmp_path / "m.yaml").cells
    # A folder is in the place of its checkpoint.
    (tmp_path / "runs" / bad.id / "checkpoint.pt").mkdir(parents=True)
    cluster.bench(submit, *slurm)
    cluster.wait(lambda: not cluster.queue())
    finished = [cell for cell in (good, bad, student, orphan) if (tmp_path / "runs" / cell.id / "model.pt").exists()]
    assert finished == [good, student]
    *_, last = read(tmp_path / "runs" / orphan.id / "train.jsonl")
    assert isinstance(last, Fail) and bad.id in last.reason
    said = cluster.bench(status, *where)
    assert "2 failed" in said and "not trained to the end" in said
    (tmp_path / "runs" / bad.id / "checkpoint.pt").rmdir()
    again = cluster.bench(submit, *slurm, "--failed", "--only", "s1")
    assert again.count("queued ") == 2
    cluster.wait(lambda: not cluster.queue())
    assert "4 finished" in cluster.bench(status, *where)


@with_accounting
def test_missing_dataset_is_a_wave_and_nodes_read_their_own_copy(cluster, table, tmp_path):
    text = (
        HEAD + "cells: [{method: Standard, recipe: {epochs: 1, batch_size: 32, lr: 0.1}, evals: [Clean: {images: 4}]}]"
    )
    profile = f"{PROFILE[:-1]}, stage: {tmp_path / 'node'}, sources: {{digits: {tmp_path}}}}}"
    slurm, _ = table(text, profile)
    slurm[slurm.index("--data") + 1] = tmp_path / "empty"
    assert "data, 1 job" in cluster.bench(submit, *slurm)
    cluster.wait(lambda: not cluster.queue())
    notes = {json.loads(file.read_text())["source"] for file in (tmp_path / "node").glob("beton-*/*.json")}
    assert notes == {str(tmp_path / "empty" / f"digits-{split}.beton") for split in ("train", "test")}
    assert sum(isinstance(r, Verdict) for f in (tmp_path / "runs").glob("*/*.jsonl") for r in read(f)) == 4


@with_accounting
@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("{partition: nowhere}", ["sbatch", "partition"]),
        ("{time: '10:00:00'}", ["profile.time", "10:00:00", "whole minutes"]),
        ("{partitoin: main}", ["profile.partitoin", "unknown key", "partition"]),
        ("{cpus_per_task: 1.5}", ["profile.cpus_per_task", "1.5"]),
        ("{account: [1]}", ["profile.account"]),
        ("{mem: 12}", ["profile.mem"]),
        ("{cpus_per_task: 4000}", ["sbatch"]),
    ],
)
def test_bad_profile_is_one_message_and_nothing_is_queued(cluster, table, tmp_path, monkeypatch, profile, words):
    slurm, _ = table(LONG, profile)
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    said = refused(*slurm)
    assert all(word in said for word in words), said
    assert cluster.queue() == [] and not list((tmp_path / "runs").glob("*/train.jsonl"))


def refused(*options: object) -> str:
    """The one-line error of a submission that ends with exit code 2."""
    result = CliRunner().invoke(submit.app, [*map(str, options)])
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.exit_code == 2 and "Traceback" not in result.output
    return line


def test_slurm_that_does_not_answer_or_is_not_there(table, tmp_path, monkeypatch):
    slurm, where = table(LONG)
    conf = "ClusterName=none\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=19999\nNodeName=n1\n"
    (tmp_path / "slurm.conf").write_text(f"{conf}PartitionName=p Nodes=n1\n")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    if shutil.which("sbatch"):
        for options in (["--launcher", "slurm"], slurm[-2:]):
            assert "is DOWN (allowed: --launcher local" in refused(*where, *options)
        result = CliRunner().invoke(submit.app, [*map(str, where), "--dry-run"])
        assert result.exit_code == 0 and result.stderr.startswith("note: no cluster answers (scontrol: Slurmctld")
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "queue.jsonl").write_text("\n")
        said = CliRunner().invoke(status.app, [*map(str, where)])
        assert said.exit_code == 0 and "known from the records alone" in said.output
        assert CliRunner().invoke(cancel.app, [*map(str, where)]).exit_code == 2
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no Slurm here" in refused(*where, "--launcher", "slurm")
    assert "no Slurm here (allowed: --launcher local, without --profile)" in refused(*slurm)
    assert "--max-gpu-hours" in refused(*where, "--max-gpu-hours", "0")
    assert "--only nothing" in refused(*where, "--only", "nothing")


def test_dry_run_needs_no_slurm_and_prints_the_text_for_sbatch(table, tmp_path, monkeypatch):
    profile = "{partition: p, account: 0123, time: 60, gpus_per_rank: 1, mem: 64G, cpus_per_task: 6, setup: [ml cuda]}"
    slurm, _ = table(LONG + "ranks: 4\nnodes: 2\nevals: [Clean: {images: 8}]\n", profile)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(submit.app, [*map(str, slurm), "--launcher", "slurm", "--dry-run"])
    assert result.exit_code == 0, result.output
    for flag in ("partition=p", "account=0123", "time=60", "gpus-per-node=2", "mem=64G", "cpus-per-task=6"):
        assert f"#SBATCH --{flag}\n" in result.output, flag
    train, judge = result.output.split("#!/bin/bash")[1:]
    assert "--nodes=2\n" in train and "--ntasks-per-node=2\n" in train and "--exclusive" in train
    assert "--nodes=1\n" in judge and "--array=0-7%8" in judge and "--exclusive" not in judge
    for line in ("--requeue", "ml cuda", "OMP_NUM_THREADS=6", "MALLOC_TRIM_THRESHOLD_=", "--kill-on-bad-exit=1"):
        assert line in train, line
    assert not (tmp_path / "runs").exists()


def test_elements_of_an_array_that_never_started_are_named_one_by_one():
    assert _elements("7_[0-2,5%8]") == ["7_0", "7_1", "7_2", "7_5"]
    assert _elements("7_[4]") == ["7_4"] and _elements("7_4") == ["7_4"] and _elements("7") == ["7"]
