"""What status says without a cluster: of records, of jobs that left nothing, of clocks."""

import time
from pathlib import Path

from typer.testing import CliRunner

from bench.jobs.lease import JobPaths
from bench.measure.provenance import start
from bench.plan.job_states import _state, states
from bench.plan.waves import waves
from bench.records import Fail, append
from bench.status import app
from bench.submit import app as submit
from launchers.states import Seen


def test_of_records_alone(tiny, digits, tmp_path):
    manifest, runs = tiny(loader="device", evals="[Clean: {images: 3}]"), tmp_path / "runs"
    path = str(tmp_path / "tiny.yaml")
    where = [path, "--runs", str(runs), "--data", str(digits)]
    assert [state.word for state in states(manifest, runs, digits)[0]] == ["not submitted"] * 2
    assert CliRunner().invoke(submit, [*where, "--launcher", "inline"]).exit_code == 0
    result = CliRunner().invoke(app, where)
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
    state = _state(_job(tiny, digits, tmp_path), "12", {}, {}, tmp_path / "runs" / "logs")
    assert state.word == "failed" and "nodes share" in state.reason and str(tmp_path / "runs") in state.reason


def test_clock_of_a_node_far_ahead_is_named(tiny, digits, tmp_path):
    job = _job(tiny, digits, tmp_path)
    begun = start([job.task.cell], "fresh", 0)
    begun = begun.model_copy(update={"time": time.time() + 3 * 3600, "host": "n2"})
    append(job.task.records, begun)
    seen = {"12": Seen(job="12", state="running", reason="", node="n2")}
    assert "the clock of n2 is 3.0 hours ahead" in _state(job, "12", seen, {}, tmp_path).reason
