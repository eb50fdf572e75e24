"""Launchers: in this process; on this machine with a process a rank; what fails is named and does not stop others."""

import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench.records import Epoch, Start, Verdict, read, read_all
from bench.submit import MANIFESTS, app, called
from launchers import inline, local, slurm
from launchers.job import Job, Wave
from launchers.profile import Profile


def _note(path: Path, word: str) -> None:
    with open(path, "a") as file:
        file.write(f"{word} {os.environ.get('RANK')} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")


def _fail(path: Path, word: str) -> None:
    raise ValueError(f"{word} cannot be done")


def job(function, path: Path, word: str, ranks: int = 1) -> Job:
    return Job(name=word, ranks=ranks, nodes=1, function=function, args=(path, word), records=path)


def wave(*jobs: Job) -> Wave:
    return Wave(name="wave", jobs=jobs, after=None)


def test_inline_keeps_the_order_and_refuses_ranks(tmp_path):
    out = tmp_path / "out"
    assert inline.launch([wave(job(_note, out, "a"), job(_note, out, "b")), wave(job(_note, out, "c"))]) == 0
    assert [line.split()[0] for line in out.read_text().splitlines()] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="2 ranks"):
        inline.launch([wave(job(_note, out, "d"), job(_note, out, "e", ranks=2))])
    assert len(out.read_text().splitlines()) == 3


def test_local_runs_one_after_another_and_leaves_the_gpus_as_they_were(tmp_path, monkeypatch, capfd):
    out = tmp_path / "out"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where the new process finds this module
    jobs = [job(_note, out, "a", ranks=2), job(_fail, out, "b"), job(_note, out, "c")]
    assert local.launch([wave(*jobs)], tmp_path / "logs") == 1
    lines = out.read_text().splitlines()
    assert sorted(lines[:2]) == ["a 0 7", "a 1 7"] and lines[2:] == ["c 0 7"]
    failure = capfd.readouterr().err
    assert "failed: b" in failure and "b cannot be done" in failure


def test_submit_on_this_machine_with_two_ranks_and_again(tmp_path, digits):
    path = tmp_path / "m.yaml"
    path.write_text("""
dataset: digits
loader: device
images: 128
threat: {sigma: 0.25}
recipe: {epochs: 2, batch_size: 32, lr: 0.01}
arch: cnn2c2f
ranks: 2
evals: [Clean: {images: 5}]
cells: [{method: Gaussian}]
""")
    runs = tmp_path / "runs"
    command = [str(path), "--runs", str(runs), "--data", str(digits), "--launcher", "local"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    (folder,) = runs.glob("cnn2c2f-*")
    trained = read(folder / "train.jsonl")
    assert next(r for r in trained if isinstance(r, Start)).world_size == 2
    assert [r.images for r in trained if isinstance(r, Epoch)] == [128, 128]
    judged = [read(file) for file in sorted(folder.glob("judge-*.jsonl"))]
    assert [[r.index for r in part if isinstance(r, Verdict)] for part in judged] == [[0, 2, 4], [1, 3]]
    before = len(read_all(folder))
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0 and "Nothing left to do" in again.output
    assert len(read_all(folder)) == before
    assert torch.load(folder / "model.pt", weights_only=True)


@pytest.mark.parametrize("place", ["runs", "data"])
def test_a_folder_that_cannot_be_used_is_refused_before_anything_runs(tmp_path, digits, place):
    path = tmp_path / "m.yaml"
    path.write_text(
        "dataset: digits\narch: cnn2c2f\nrecipe: {epochs: 1, batch_size: 32, lr: 0.1}\ncells: [{method: Standard}]"
    )
    file = tmp_path / "file"
    file.write_text("")
    folders = {"runs": tmp_path / "runs", "data": digits} | {place: file / "folder"}
    command = [str(path), "--runs", str(folders["runs"]), "--data", str(folders["data"]), "--launcher", "local"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert str(file) in result.stderr and "Traceback" not in result.output


def test_arrays_of_tables_of_one_name_are_told_apart(tmp_path, monkeypatch):
    names = [called(file) for file in sorted(MANIFESTS.rglob("*.yaml"))]
    assert {"table1", "rrm-table1", "duet-table1"} < set(names) and len(set(names)) == len(names)
    monkeypatch.chdir(MANIFESTS / "rrm")
    assert called(Path("table1.yaml")) == called(Path("../rrm/table1.yaml")) == "rrm-table1"
    assert called(tmp_path / "table1.yaml") == "table1"
    (array,) = slurm.arrays("rrm-table1", [wave(job(_note, tmp_path, "a"))], Profile(), 10, set())
    assert "#SBATCH --job-name=rrm-table1-wave\n" in slurm.text(array, tmp_path, Profile())
