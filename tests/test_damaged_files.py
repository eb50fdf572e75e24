"""Checkpoints and weights that are damaged: noticed, named, and never trained on or evaluated."""

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from bench.build.networks import trained
from bench.build.weights import load, save
from bench.cell import Cell
from bench.jobs import train
from bench.jobs.evaluate import run_judge
from bench.jobs.lease import JobPaths
from bench.records import End, Epoch, Fail, MonitorPoint, Replaced, Verdict, read, read_all
from crt import distributed
from crt.sealed import DamagedError, check_seal
from crt.training.loop import Training

EPOCHS, STOPPED = 4, 3


class Killed(BaseException):
    """Raised in the middle of an epoch, as a signal would end the process there."""


@dataclass(frozen=True)
class Interrupted:
    """A cell whose training was killed in its last epoch, and the weights of the undisturbed training."""

    cell: Cell
    runs: Path
    data: Path
    whole: dict[str, torch.Tensor]

    @property
    def folder(self) -> Path:
        return self.runs / self.cell.id

    def resume(self) -> dict[str, torch.Tensor]:
        train.run_cell(self.cell, JobPaths(runs=self.runs, data=self.data, process="shared"))
        return torch.load(self.folder / "model.pt", weights_only=True)

    def epochs(self) -> list[int]:
        return [r.epoch for r in read(self.folder / "train.jsonl") if isinstance(r, Epoch)]


def stop_in(monkeypatch: pytest.MonkeyPatch, cell: Cell, epoch: float) -> None:
    """Kill the next training in the middle of an epoch, all ranks after the same step."""
    steps, update = [], Training._update

    def counted(self, *batch):
        steps.append(None)
        if len(steps) > epoch * cell.images / cell.recipe.batch_size:
            # A rank that ends while another still waits for its gradients makes that one fail, or abort at its exit.
            distributed.barrier()
            raise Killed
        return update(self, *batch)

    monkeypatch.setattr(Training, "_update", counted)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, digits) -> Interrupted:
    from conftest import TINY

    from bench.manifest import read_manifest

    folder = tmp_path_factory.mktemp("interrupted")
    values = {"loader": "device", "method": "Gaussian", "epochs": EPOCHS, "ranks": 1, "seed": 0, "evals": "[]"}
    values |= {"threat": "{norm: l2, sigma: 0.25}", "teacher": "null", "compute": "exact"}
    (folder / "m.yaml").write_text(TINY.format(**values))
    cell = read_manifest(folder / "m.yaml").cells[0]
    undisturbed = Interrupted(cell, folder / "whole", digits, {})
    whole = undisturbed.resume()
    made = Interrupted(cell, folder / "runs", digits, whole)
    with pytest.MonkeyPatch.context() as patch:
        stop_in(patch, cell, STOPPED + 0.5)
        with pytest.raises(Killed):
            made.resume()
    return made


@pytest.fixture
def interrupted(prepared, tmp_path) -> Interrupted:
    """A copy of the interrupted training: two checkpoints, of epochs 1 and 2."""
    shutil.copytree(prepared.runs, tmp_path / "runs")
    shutil.copy(prepared.runs.parent / "m.yaml", tmp_path)
    return Interrupted(prepared.cell, tmp_path / "runs", prepared.data, prepared.whole)


def flip(position: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(position * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return damage


def cut(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def changed(change: Callable[[dict], object], sealed: bool = True) -> Callable[[Path], None]:
    """Another content, with the digest of it, or without any as an earlier version wrote."""

    def damage(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        made = change(content)
        content = made if isinstance(made, list) else content
        owner = content["record"]["arm"] if isinstance(content, dict) and "record" in content else "unknown"
        if sealed:
            save(path, content, owner)
        else:
            torch.save(content, path)

    return damage


def put(*keys, value) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def member(path: Path) -> None:
    """Flip a bit of the weights in a file without digest."""
    torch.save(torch.load(path, weights_only=True), path)
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 200] ^= 0x40
    path.write_bytes(content)


NAN = {"head.bias": torch.full((10,), torch.nan)}
DAMAGES = {
    "a bit of the head": (flip(0), "SHA-256"),
    "a bit in a quarter": (flip(0.25), "SHA-256"),
    "a bit in the middle": (flip(0.5), "SHA-256"),
    "a bit near the end": (flip(0.97), "SHA-256"),
    "the last bit": (flip(1), "damaged"),
    "cut in half": (cut(0.5), "cut off"),
    "cut by a byte": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cut off"),
    "cut by its digest": (lambda path: path.write_bytes(path.read_bytes()[:-90]), "cut off"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"\0" * 100), "cut off"),
    "empty": (cut(0), "empty"),
    "zeros": (lambda path: path.write_bytes(b"\0" * 5000), "do not end"),
    "text": (lambda path: path.write_text("not a checkpoint"), "do not end"),
    "of another cell": (lambda path: save(path, torch.load(path, weights_only=True), "other-cell"), "other-cell"),
    "record of another cell": (changed(put("record", "arm", value="other-cell"), sealed=False), "other-cell"),
    "of a later epoch": (changed(put("record", "epoch", value=3)), None),
    "of an epoch far away": (changed(put("record", "epoch", value=10**9)), "of epoch 1000000000"),
    "of a float's epoch": (changed(put("record", "epoch", value=1e9), sealed=False), "of epoch 1000000000"),
    "of an epoch in words": (
        changed(put("record", "epoch", value="0"), sealed=False),
        "epoch '0' is no whole number",
    ),
    "of a negative epoch": (
        changed(put("record", "epoch", value=-1)),
        "its record: epoch: Input should be greater than or equal to 0",
    ),
    "weights of NaN": (changed(lambda c: c["model"].update(NAN)), "head.bias holds NaN"),
    "weights of NaN without digest": (changed(lambda c: c["model"].update(NAN), sealed=False), "head.bias holds NaN"),
    "momentum of NaN": (
        changed(lambda c: c["optimizer"]["state"][0]["momentum_buffer"].fill_(torch.nan), sealed=False),
        "momentum_buffer of parameter 0 holds NaN",
    ),
    "no dictionary": (changed(lambda c: [1, 2], sealed=False), "no dictionary"),
    "no optimizer": (changed(lambda c: c.pop("optimizer"), sealed=False), "lacks optimizer"),
    "no record": (changed(lambda c: c.pop("record"), sealed=False), "lacks record"),
    "a layer missing": (changed(lambda c: c["model"].pop("head.bias"), sealed=False), "lacks head"),
    "a layer of another shape": (changed(put("model", "head.bias", value=torch.zeros(3)), sealed=False), "shape"),
    "ranks missing": (changed(put("ranks", value=[]), sealed=False), "state of 0 ranks, not of 1"),
    "a bit without digest": (member, "checksum of"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_training_resumes_from_the_checkpoint_before_a_damaged_one(damage, interrupted, capfd):
    newest, (make, words) = interrupted.folder / "checkpoint.pt", DAMAGES[damage]
    make(newest)
    if damage == "of a later epoch":  # the records end before it
        lines = (interrupted.folder / "train.jsonl").read_text().splitlines(keepends=True)
        (interrupted.folder / "train.jsonl").write_text("".join(lines[:-1]))
        words = "of epoch 3, but the records end at 1"
    state = interrupted.resume()
    assert all(torch.equal(state[name], tensor) for name, tensor in interrupted.whole.items())
    assert interrupted.epochs() == list(range(EPOCHS))
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"warning: {newest}: ") and words in line
    assert line.endswith(f"goes on from {interrupted.folder / 'checkpoint-previous.pt'}, after epoch 1")
    assert [path.name for path in interrupted.folder.glob("*.pt")] == ["model.pt"]
    assert not list(interrupted.folder.glob("*.damaged"))
    records = read(interrupted.folder / "train.jsonl")
    assert [r.text for r in records if isinstance(r, Replaced)] == [line.removeprefix("warning: ")]


def test_status_and_report_tell_that_a_damaged_checkpoint_was_replaced(interrupted, tmp_path, capfd, monkeypatch):
    from bench.plan import status_table
    from reports.options import Options
    from reports.report import report

    flip(0.5)(interrupted.folder / "checkpoint.pt")
    interrupted.resume()
    manifest = tmp_path / "m.yaml"
    words = capfd.readouterr().err.strip().removeprefix("warning: ")
    status_table.report(manifest, interrupted.runs, interrupted.data, False, None)
    assert f"a damaged file was replaced: {words}" in capfd.readouterr().out
    report(manifest, Options(runs=[interrupted.runs]))
    assert f"A damaged file was replaced: cnn2c2f Gaussian, {words}." in capfd.readouterr().out


def test_training_starts_again_where_no_checkpoint_is_whole_and_sets_records_aside(interrupted, capfd):
    for name in ("checkpoint.pt", "checkpoint-previous.pt"):
        flip(0.5)(interrupted.folder / name)
    state = interrupted.resume()
    assert all(torch.equal(state[name], tensor) for name, tensor in interrupted.whole.items())
    assert interrupted.epochs() == list(range(EPOCHS))
    (aside,) = interrupted.folder.glob("train.*.cut")
    assert [r.epoch for r in read(aside) if isinstance(r, Epoch)] == list(range(STOPPED))
    (line,) = capfd.readouterr().err.splitlines()
    assert "checkpoint.pt" in line and "checkpoint-previous.pt" in line and str(aside) in line


def test_missing_checkpoint_is_said_and_no_epoch_is_recorded_twice(interrupted, capfd):
    (interrupted.folder / "checkpoint.pt").unlink()
    interrupted.resume()
    assert interrupted.epochs() == list(range(EPOCHS))
    assert not capfd.readouterr().err


def test_checkpoints_of_earlier_versions_are_resumed(interrupted, capfd):
    newest = interrupted.folder / "checkpoint.pt"
    torch.save(torch.load(newest, weights_only=True), newest)
    (interrupted.folder / "checkpoint-previous.pt").unlink()
    state = interrupted.resume()
    assert all(torch.equal(state[name], tensor) for name, tensor in interrupted.whole.items())
    assert interrupted.epochs() == list(range(EPOCHS)) and not capfd.readouterr().err


def test_attempt_killed_before_its_last_record_is_tidied_up(interrupted, monkeypatch):
    def ends(**fields):
        raise Killed

    monkeypatch.setattr(train, "End", ends)
    with pytest.raises(Killed):
        interrupted.resume()
    shutil.copy(interrupted.folder / "model.pt", interrupted.folder / "checkpoint.pt")
    monkeypatch.undo()
    task = train_task(interrupted)
    assert not task.progress(read(task.records)).finished
    before = (interrupted.folder / "model.pt").stat().st_mtime_ns
    task.run()
    assert task.progress(read(task.records)) == (EPOCHS, EPOCHS, True)
    records = read(task.records)
    assert isinstance(records[-1], End) and interrupted.epochs() == list(range(EPOCHS))
    assert (interrupted.folder / "model.pt").stat().st_mtime_ns == before
    assert not list(interrupted.folder.glob("checkpoint*"))
    task.run()
    assert read(task.records) == records


def train_task(interrupted: Interrupted):
    from bench.jobs.tasks import TrainTask

    at = JobPaths(runs=interrupted.runs, data=interrupted.data, process="shared")
    return TrainTask(cell=interrupted.cell, place=at)


MODEL = {
    "a bit": (flip(0.5), "SHA-256"),
    "cut": (cut(0.9), "cut off"),
    "empty": (cut(0), "empty"),
    "of another cell": (lambda path: save(path, torch.load(path, weights_only=True), "other-cell"), "other-cell"),
    "no dictionary": (lambda path: torch.save([1], path), "no dictionary"),
    "a layer missing": (lambda path: torch.save({"head.bias": torch.zeros(10)}, path), "lacks"),
    "NaN": (
        lambda path: torch.save({k: v * torch.nan if v.is_floating_point() else v for k, v in load_(path)}, path),
        "holds NaN",
    ),
    "a bit without digest": (member, "checksum of"),
}


def load_(path: Path):
    return torch.load(path, weights_only=True).items()


@pytest.mark.parametrize("damage", MODEL)
def test_damaged_weights_are_not_evaluated(damage, tiny, digits, tmp_path):
    cell, at = (
        tiny(loader="device", epochs=1, evals="[Clean: {images: 3}]").cells[0],
        JobPaths(runs=tmp_path / "runs", data=digits, process="shared"),
    )
    train.run_cell(cell, at)
    path, (make, words) = at.runs / cell.id / "model.pt", MODEL[damage]
    make(path)
    with pytest.raises(ValueError, match="submit again") as refused:
        run_judge(cell, 0, 1, at)
    assert str(refused.value).startswith(f"{path}: ") and words in str(refused.value)
    records = read(next((at.runs / cell.id).glob("judge-*.jsonl")))
    assert [type(r) for r in records] == [Fail] and records[0].reason == str(refused.value)
    assert not [r for r in read_all(at.runs / cell.id) if isinstance(r, Verdict)]


def test_student_of_a_damaged_teacher_records_nothing_but_the_cause(tiny, digits, tmp_path):
    teacher = "{arch: cnn2c2f, method: Standard, recipe: *r}"
    student = tiny(method="CRT", loader="device", epochs=1, teacher=teacher).cells[0]
    at = JobPaths(runs=tmp_path / "runs", data=digits, process="shared")
    train.run_cell(student.teacher, at)
    path = at.runs / student.teacher.id / "model.pt"
    flip(0.3)(path)
    with pytest.raises(ValueError, match="damaged") as refused:
        train.run_cell(student, at)
    assert str(refused.value).startswith(f"{path}: ")
    (failure,) = read(at.runs / student.id / "train.jsonl")
    assert isinstance(failure, Fail) and not (at.runs / student.id / "model.pt").exists()


def test_weights_of_earlier_versions_and_their_copies_are_read(tiny, digits, tmp_path):
    cell, at = tiny(loader="device", epochs=1).cells[0], JobPaths(runs=tmp_path, data=digits, process="shared")
    train.run_cell(cell, at)
    path = at.runs / cell.id / "model.pt"
    state = torch.load(path, weights_only=True)
    check_seal(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.comment.startswith(cell.id.encode()) and archive.testzip() is None
    torch.save(state, path)
    check_seal(path)
    assert all(torch.equal(tensor, state[name]) for name, tensor in trained(cell, at.runs).cpu().state_dict().items())
    flip(0.5)(path)
    with pytest.raises(ValueError, match="damaged"):
        trained(cell, at.runs)


def test_best_weights_that_are_damaged_are_found_again(tmp_path, digits, monkeypatch, capfd):
    from bench.manifest import read_manifest

    text = """
title: best
dataset: digits
pipeline: plain
loader: device
threat: {norm: linf, eps: 4/255}
images: 128
evals: []
cells:
  - method: Standard
    arch: cnn2c2f
    recipe: {epochs: 3, batch_size: 32, lr: 0.05}
    monitor: {images: 20, evals: [PGD: {steps: 1}]}
    select: best
"""
    (tmp_path / "m.yaml").write_text(text)
    cell = read_manifest(tmp_path / "m.yaml").cells[0]
    whole = Interrupted(cell, tmp_path / "whole", digits, {}).resume()
    broken = Interrupted(cell, tmp_path / "runs", digits, whole)
    stop_in(monkeypatch, cell, 2.5)
    with pytest.raises(Killed):
        broken.resume()
    monkeypatch.undo()
    flip(0.5)(broken.folder / "best.pt")
    state = broken.resume()
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.items())
    assert broken.epochs() == [0, 1, 2] and "best.pt: damaged" in capfd.readouterr().err
    points = [r.epoch for r in read(broken.folder / "train.jsonl") if isinstance(r, MonitorPoint)]
    assert points == [0, 1, 2]


def test_digest_survives_a_copy_and_names_its_owner(tmp_path):
    save(tmp_path / "a.pt", {"x": torch.arange(3)}, "cell-1")
    shutil.copy(tmp_path / "a.pt", tmp_path / "b.pt")
    assert torch.equal(load(tmp_path / "b.pt", "cell-1")["x"], torch.arange(3))
    with pytest.raises(DamagedError, match=r"b\.pt: written for cell-1, not for cell-2"):
        load(tmp_path / "b.pt", "cell-2")


def on_a_rank(rank: int, cell: Cell, runs: Path, data: Path, killed: bool) -> None:
    """Train a cell as one of its ranks; all are killed in the last epoch, or none is."""
    with pytest.MonkeyPatch.context() as patch:
        if killed:
            stop_in(patch, cell, 2.5)
        try:
            train.run_cell(cell, JobPaths(runs=runs, data=data, process="shared"))
        except Killed:
            assert killed


@pytest.mark.slow
def test_ranks_resume_from_the_same_checkpoint(tiny, digits, tmp_path, capfd):
    from test_ddp import run

    cell = tiny(loader="device", ranks=2, epochs=3).cells[0]
    for runs, killed in ((tmp_path / "whole", False), (tmp_path / "runs", True)):
        run(on_a_rank, 2, cell, runs, digits, killed)
    newest = tmp_path / "runs" / cell.id / "checkpoint.pt"
    flip(0.5)(newest)
    run(on_a_rank, 2, cell, tmp_path / "runs", digits, False)
    whole, state = (torch.load(tmp_path / name / cell.id / "model.pt", weights_only=True) for name in ("whole", "runs"))
    assert all(torch.equal(whole[name], state[name]) for name in whole)
    records = read(tmp_path / "runs" / cell.id / "train.jsonl")
    assert [r.epoch for r in records if isinstance(r, Epoch)] == [0, 1, 2]
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and f"{newest}: damaged" in warnings[0] and warnings[0].endswith("after epoch 0")
