"""TensorBoard's events of training: equal to the records, once an epoch, and nothing of training moved by them."""

import importlib.util
import sys
from pathlib import Path

import cloudpickle
import pytest
import torch
from typer.testing import CliRunner

from bench.cell import Cell
from bench.jobs import train
from bench.jobs.events import Events, points
from bench.jobs.lease import JobPaths, RecordLease, SupersededError
from bench.plan.waves import waves
from bench.records import Epoch, MonitorPoint, Start, read
from bench.submit import app
from crt.training.loop import Training

MONITOR = "null\n    monitor: {every: 2, images: 20, evals: [PGD: {steps: 2, eps: 4/255}, Clean]}"
needs_tensorboard = pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="needs tensorboard")


@pytest.fixture
def cell(tiny) -> Cell:
    return tiny(loader="device", threat="{norm: linf, eps: 4/255}", teacher=MONITOR).cells[0]


def run(cell: Cell, data: Path, runs: Path, events: Path | None) -> list:
    train.run_cell(cell, JobPaths(runs=runs, data=data, process="shared", tensorboard=events))
    return read(runs / cell.id / "train.jsonl")


def series(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Step, wall time and value of each scalar by tag, as TensorBoard reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.wall_time, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def untimed(records: list) -> list[dict]:
    """Records without what differs from one run to the next."""
    clock = {"time", "seconds", "host_memory", "load", "gpu"}
    return [{key: value for key, value in record if key not in clock} for record in records]


@needs_tensorboard
def test_events_are_those_of_the_records(cell, digits, tmp_path):
    records = run(cell, digits, tmp_path / "runs", tmp_path / "events")
    epochs = [record for record in records if isinstance(record, Epoch)]
    found = series(tmp_path / "events" / cell.id)
    rates = [epoch.images / epoch.seconds for epoch in epochs]
    for tag, values in {"loss": [e.loss for e in epochs], "lr": [e.lr for e in epochs], "images_per_second": rates,
                        "seconds": [e.seconds for e in epochs]}.items():  # fmt: skip
        assert [step for step, *_ in found[f"train/{tag}"]] == [0, 1, 2]
        assert [value for *_, value in found[f"train/{tag}"]] == pytest.approx(values)
    assert [value for *_, value in found["train/host_memory_MB"]] == pytest.approx([e.host_memory for e in epochs])
    clock = next(record.time for record in records if isinstance(record, Start))
    times = [clock + sum(epoch.seconds for epoch in epochs[:count]) for count in (1, 2, 3)]
    assert [time for _, time, _ in found["train/loss"]] == pytest.approx(times, abs=1e-5)
    pgd, clean = (spec.id for spec in cell.monitor.evals)
    curves = {(record.epoch, record.eval): record for record in records if isinstance(record, MonitorPoint)}
    for name, field in ((pgd, "right"), (clean, "right")):
        assert [(step, value) for step, _, value in found[f"monitor/{name}/accuracy"]] == [
            (epoch, pytest.approx(getattr(curves[epoch, name], field))) for epoch in (1, 2)
        ]
    assert [value for *_, value in found[f"monitor/{pgd}/robust_accuracy"]] == pytest.approx(
        [curves[epoch, pgd].standing for epoch in (1, 2)]
    )
    assert f"monitor/{clean}/robust_accuracy" not in found, "clean images say nothing of robustness"


@needs_tensorboard
def test_events_move_nothing_of_training(cell, digits, tmp_path):
    records, states = [], []
    for name, events in (("plain", None), ("watched", tmp_path / "events")):
        torch.manual_seed(17)
        records.append(run(cell, digits, tmp_path / name, events))
        states.append(torch.get_rng_state())
    assert untimed(records[0]) == untimed(records[1]) and torch.equal(*states)
    one, other = (
        torch.load(tmp_path / name / cell.id / "model.pt", weights_only=True) for name in ("plain", "watched")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
    names = lambda name: sorted(file.name for file in (tmp_path / name / cell.id).iterdir())  # noqa: E731
    assert names("plain") == names("watched")


@needs_tensorboard
@pytest.mark.parametrize("earlier", [True, False], ids=["with events before", "without"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [(train, "append"), (Training, "epoch"), (train.Progress, "step")],
    ids=["before the record", "in an epoch", "after the event"],
)
def test_a_resumed_job_continues_the_series_without_duplicates(
    cell, digits, tmp_path, monkeypatch, owner, name, earlier
):
    original, calls = getattr(owner, name), []

    def dies(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise InterruptedError
        return original(*arguments)

    events = tmp_path / "events"
    monkeypatch.setattr(owner, name, dies)
    with pytest.raises(InterruptedError):
        run(cell, digits, tmp_path / "runs", events if earlier else None)
    monkeypatch.setattr(owner, name, original)
    records = run(cell, digits, tmp_path / "runs", events)
    found = series(events / cell.id)
    epochs = {record.epoch: record for record in records if isinstance(record, Epoch)}
    assert [(step, value) for step, _, value in found["train/loss"]] == [
        (epoch, pytest.approx(epochs[epoch].loss)) for epoch in range(3)
    ]
    assert {tag: [step for step, *_ in values] for tag, values in found.items() if tag.startswith("monitor")} == {
        tag: [1, 2] for tag in found if tag.startswith("monitor")
    }
    assert len(list((events / cell.id).iterdir())) == 1


@needs_tensorboard
def test_an_attempt_that_was_superseded_writes_no_event(cell, tmp_path):
    file = tmp_path / "train.jsonl"
    old = Events(cell, tmp_path / "events", RecordLease(file), 0)
    new = Events(cell, tmp_path / "events", lease := RecordLease(file), 0)
    lease.append(Epoch(arm=cell.id, epoch=0, seconds=1.0, warmup=True, images=1, lr=0.1, loss=2.0, memory=None))
    new.update()
    with pytest.raises(SupersededError):
        old.update()
    assert [value for *_, value in series(tmp_path / "events" / cell.id)["train/loss"]] == [2.0]
    assert len(list((tmp_path / "events" / cell.id).iterdir())) == 1


@pytest.mark.parametrize("obstacle", ["a file in place of the folder", "no package"])
def test_training_goes_on_where_events_cannot_be_written(cell, digits, tmp_path, monkeypatch, capsys, obstacle):
    events = tmp_path / "events"
    if obstacle == "no package":
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    elif not importlib.util.find_spec("tensorboard"):
        pytest.skip("needs tensorboard")
    else:
        events.write_text("")
    records = run(cell, digits, tmp_path / "runs", events)
    assert sum(isinstance(record, Epoch) for record in records) == 3
    assert capsys.readouterr().out.count("note: no further TensorBoard events of") == 1


def test_an_epoch_recorded_twice_is_one_point(cell):
    epoch = lambda number, loss: Epoch(  # noqa: E731
        arm=cell.id, epoch=number, seconds=1.0, warmup=False, images=4, lr=0.1, loss=loss, memory=None
    )
    found = points(cell, [epoch(0, 3.0), epoch(1, 2.0), epoch(0, 2.5)])
    assert {number: point.scalars["train/loss"] for number, point in found.items()} == {0: 2.5, 1: 2.0}


def test_jobs_carry_the_folder_and_those_queued_before_there_was_one_have_none(tiny, digits, tmp_path):
    at = JobPaths(runs=tmp_path, data=digits, process="fresh", tensorboard=tmp_path / "events")
    job = waves(tiny(), at)[0].jobs[0]
    assert cloudpickle.loads(cloudpickle.dumps(job.task)).place.tensorboard == tmp_path / "events"
    earlier = object.__new__(JobPaths)
    earlier.__dict__.update({name: value for name, value in vars(at).items() if name != "tensorboard"})
    assert cloudpickle.loads(cloudpickle.dumps(earlier)).tensorboard is None


def submit(tmp_path: Path, *options: str):
    folders = ["--runs", str(tmp_path / "runs"), "--data", str(tmp_path / "data"), "--launcher", "inline"]
    return CliRunner().invoke(app, ["quickstart", "--quick", *folders, *options])


@needs_tensorboard
def test_submit_has_each_trained_cell_write_events(tiny, digits, tmp_path):
    cell = tiny(epochs=2).cells[0]
    folders = ["--runs", str(tmp_path / "runs"), "--data", str(digits), "--tensorboard", str(tmp_path / "events")]
    result = CliRunner().invoke(app, [str(tmp_path / "tiny.yaml"), "--launcher", "inline", *folders])
    assert result.exit_code == 0, result.output
    assert f"Events: tensorboard --logdir {tmp_path / 'events'}" in result.output
    assert [step for step, *_ in series(tmp_path / "events" / cell.id)["train/loss"]] == [0, 1]


@needs_tensorboard
@pytest.mark.parametrize("call", ["flush", "close"])
def test_training_ends_well_where_the_disk_is_full(cell, digits, tmp_path, monkeypatch, capsys, call):
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, call, full)
    run(cell, digits, tmp_path / "runs", tmp_path / "events")
    assert (tmp_path / "runs" / cell.id / "model.pt").exists()
    assert capsys.readouterr().out.count("No space left on device (training goes on)") == 1


def test_a_missing_package_is_named_before_anything_is_queued(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    absent = lambda name, *more: None if name == "tensorboard" else found(name, *more)  # noqa: E731
    monkeypatch.setattr("bench.plan.preflight.find_spec", absent)
    result = submit(tmp_path, "--tensorboard", str(tmp_path / "events"))
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert "needs a package that is not installed (pip install tensorboard" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_queued(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.plan.preflight.find_spec", lambda name: importlib.util.find_spec("torch"))
    result = submit(tmp_path, "--tensorboard", "/proc/events")
    assert result.exit_code == 2 and "allowed: a folder for --tensorboard that can be written" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_manifest_that_trains_no_cell_has_no_events(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.plan.preflight.find_spec", lambda name: importlib.util.find_spec("torch"))
    result = CliRunner().invoke(app, ["speed-cpu", "--tensorboard", str(tmp_path / "events"), "--dry-run"])
    assert result.exit_code == 2 and "trains no cell (allowed: with one that trains cells)" in result.stderr
