"""Job states without a cluster: from records, from jobs that left nothing, and with clocks that differ."""

import io
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner
from waiting import HANG, until

from bench.jobs.lease import JobPaths
from bench.jobs.tasks import DataTask
from bench.measure.provenance import start
from bench.plan.job_states import Queue, State, _state, states
from bench.plan.status_table import _ended, watch
from bench.plan.waves import waves
from bench.records import End, Fail, Verdict, append
from bench.status import app as status
from bench.submit import app as submit
from crt.screen import Screen
from launchers.ledger import Ledger, Submitted, entry
from launchers.states import Seen
from launchers.task import Job, TaskProgress

ROOT = Path(__file__).parents[1]
TWELVE = Submitted(id="12", tag="tag", time=0.0)


def test_of_records_alone(tiny, digits, tmp_path):
    manifest, runs = tiny(loader="device", evals="[Clean: {images: 3}]"), tmp_path / "runs"
    path = str(tmp_path / "tiny.yaml")
    where = [path, "--runs", str(runs), "--data", str(digits)]
    assert [state.word for state in states(manifest, runs, digits)[0]] == ["not submitted"] * 2
    assert CliRunner().invoke(submit, [*where, "--launcher", "inline"]).exit_code == 0
    result = CliRunner().invoke(status, where)
    assert result.exit_code == 0 and "2 finished" in result.output and "3/3" in result.output
    folder = runs / manifest.cells[0].id
    (folder / "model.pt").unlink()
    found, note = states(manifest, runs, digits)
    assert [state.word for state in found] == ["begun", "begun"] and "records" in note
    append(folder / "train.jsonl", Fail(time=1.0, reason="no room", host="n1", job=None))
    assert (states(manifest, runs, digits)[0][0].word, states(manifest, runs, digits)[0][0].reason) == (
        "failed",
        "no room",
    )


def _job(tiny, digits: Path, tmp_path: Path):
    return waves(tiny(), JobPaths(runs=tmp_path / "runs", data=digits, process="fresh"))[0].jobs[0]


def test_job_that_left_nothing_points_at_the_folder(tiny, digits, tmp_path):
    state = _state(_job(tiny, digits, tmp_path), TWELVE, Queue(cluster="c"), {}, tmp_path / "runs" / "logs")
    assert state.word == "failed" and "nodes share" in state.reason and str(tmp_path / "runs") in state.reason


def test_clock_of_a_node_far_ahead_is_named(tiny, digits, tmp_path):
    job = _job(tiny, digits, tmp_path)
    begun = start([job.task.cell], "fresh", 0)
    begun = begun.model_copy(update={"time": time.time() + 3 * 3600, "host": "n2"})
    append(job.task.records, begun)
    queue = Queue(cluster="c", seen={"12": Seen(job="12", state="running", reason="", node="n2", tag="tag")})
    assert "the clock of n2 is 3.0 hours ahead" in _state(job, TWELVE, queue, {}, tmp_path).reason


@pytest.fixture
def two(tiny, digits, tmp_path):
    """Options of commands on one cell with an evaluation, and its manifest."""
    manifest = tiny(loader="device", evals="[Clean: {images: 3}]")
    return manifest, [str(tmp_path / "tiny.yaml"), "--runs", str(tmp_path / "runs"), "--data", str(digits)]


def counts(app, *options: str) -> str:
    """The counts that a command prints in its first lines."""
    done = CliRunner().invoke(app, [*options])
    assert done.exit_code == 0, done.output
    return re.search(r"tiny: (\d+ of .*?jobs?: [\w ,]+?)(?= known| All| ┏|$)", " ".join(done.output.split()))[1]


def test_submit_and_status_count_the_same(two, tmp_path, digits):
    manifest, where = two
    plan = [*where, "--launcher", "local", "--dry-run"]
    (cell,), runs = manifest.cells, tmp_path / "runs"
    train = runs / cell.id / "train.jsonl"

    def both() -> str:
        assert counts(status, *where) == counts(submit, *plan)
        return counts(status, *where)

    assert both() == "0 of 1 cell done, 2 jobs: 2 not submitted"
    append(train, start([cell], "fresh", 0))
    assert both() == "0 of 1 cell done, 2 jobs: 1 begun, 1 not submitted"
    append(train, Fail(time=1.0, reason="no room", host="n1", job=None))
    assert both() == "0 of 1 cell done, 2 jobs: 1 failed, 1 not submitted"
    done = CliRunner().invoke(submit, [*where, "--launcher", "inline"])
    assert "1 of 1 cell done, 2 jobs: 2 finished. Report: " in done.output
    assert both() == "1 of 1 cell done, 2 jobs: 2 finished"
    (runs / cell.id / "model.pt").unlink()
    assert both() == "0 of 1 cell done, 2 jobs: 2 begun"


def test_a_dataset_that_slurm_prepares_is_counted(tiny, digits, tmp_path):
    manifest, ledger = tiny(), Ledger(tmp_path / "runs")
    (tmp_path / "runs").mkdir()
    ledger.note(entry("tag", "", ("data/digits",)).model_copy(update={"id": "7"}))
    found, _ = states(manifest, tmp_path / "runs", tmp_path / "empty")
    assert [state.job.task.key.split("/")[0] for state in found] == ["data", "train"]


class Written(io.StringIO):
    """An output that tells how many tables were written to it."""

    @property
    def blocks(self) -> int:
        return self.getvalue().count("cells done") + self.getvalue().count("cell done")


@pytest.mark.parametrize("terminal", [False, True])
def test_watch_shows_changes_until_all_jobs_have_ended(two, digits, tmp_path, terminal):
    manifest, _ = two
    (cell,), runs, out = manifest.cells, tmp_path / "runs", Written()
    folder, looks = runs / cell.id, []

    def look():
        looks.append(None)
        return states(manifest, runs, digits)

    console = Screen(file=out, width=100, force_terminal=terminal)
    watching = threading.Thread(target=watch, args=(console, manifest, look, 0.001))
    watching.start()
    until(lambda: out.blocks >= 1, watching.is_alive)
    begun = start([cell], "fresh", 0)
    append(folder / "train.jsonl", begun)
    until(lambda: "1 begun" in out.getvalue(), watching.is_alive)
    seen, before = len(looks), out.blocks
    until(lambda: len(looks) > seen + 5, watching.is_alive)
    assert terminal or out.blocks == before == 2  # a look that finds nothing new prints nothing
    append(folder / "train.jsonl", Fail(time=begun.time + 1, reason="no room", host="n1", job=None))
    until(lambda: "1 failed" in out.getvalue(), watching.is_alive)
    assert watching.is_alive()
    append(folder / "train.jsonl", End(time=begun.time + 2))
    (folder / "model.pt").touch()
    for spec in cell.evals:
        for index in spec.indices(360):
            verdict = Verdict(eval=spec.id, index=index, label=1, prediction=1, radius=0.0, seconds=0.1)
            append(folder / f"judge-{cell.evals_digest}-0of1.jsonl", verdict)
    watching.join(HANG)
    assert not watching.is_alive() and "1 of 1 cell done, 2 jobs: 2 finished" in out.getvalue()


def test_ctrl_c_ends_watching_without_a_traceback(two):
    _, where = two
    command = [sys.executable, "-m", "bench.status", *where, "--watch", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert "0 of 1 cell done" in process.stdout.readline()
        until(lambda: "known from the records" in process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=HANG)
    assert process.returncode == 130 and errors == "interrupted; the same command goes on\n"


def test_seconds_without_watch_are_refused(two):
    _, where = two
    done = CliRunner().invoke(status, [where[0], "3", *where[1:]])
    assert done.exit_code == 2 and done.stderr == "error: 3: seconds apply to --watch only (allowed: --watch 3)\n"
    done = CliRunner().invoke(status, [*where, "--watch", "0"])
    assert done.exit_code == 2 and "0.1" in done.stderr


def test_jobs_that_no_queue_knows_may_still_be_submitted():
    assert not _ended([_named("begun")]) and not _ended([_named("not submitted")])
    assert _ended([_named("not submitted"), _named("failed", "7")]) and not _ended([_named("waiting", "7")])
    assert _ended([_named("finished"), _named("failed")]) and _ended([])


def _named(word: str, job_id: str = "") -> State:
    place = JobPaths(runs=Path("none"), data=Path("none"), process="fresh")
    job = Job(task=DataTask(dataset="x", source=Path("none"), place=place), progress=TaskProgress())
    return State(job=job, word=word, id=job_id)
