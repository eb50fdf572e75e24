"""A cell end to end; killed and resumed; judged without being trained again; a study's rounds."""

import multiprocessing
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from bench import run
from bench.cells import Cell
from bench.plan import finished, plan
from bench.records import End, Epoch, Start, Verdict, read_all

DATA = "[Clean: {images: 6}, Noisy: {images: 2}, Smoothing: {n: 100, n0: 10, images: 4, every: 3}]"


def weights(cell: Cell, runs: Path) -> dict:
    return torch.load(runs / cell.id / "model.pt", weights_only=True)


def fresh(cell: Cell, runs: Path, data: Path) -> multiprocessing.Process:
    """The cell's run, started in a process of its own, as launchers do."""
    process = multiprocessing.get_context("spawn").Process(target=run.run_cell, args=(cell, runs, data, "fresh"))
    process.start()
    return process


def test_cell_is_trained_judged_and_done(tiny, digits, tmp_path):
    manifest = tiny(method="Gaussian", evals=DATA, loader="memory")
    cell, runs = manifest.cells[0], tmp_path / "runs"
    assert [[c.id for c in wave] for wave in plan(manifest, runs)] == [[cell.id]]
    run.run_cell(cell, runs, digits, "shared")
    records = read_all(runs / cell.id)
    assert isinstance(records[0], Start) and isinstance(records[-1], End)
    epochs = [r for r in records if isinstance(r, Epoch)]
    assert [(r.epoch, r.warmup, r.images) for r in epochs] == [(0, True, 128), (1, False, 128), (2, False, 128)]
    judged = [(r.eval.split("-")[0], r.index) for r in records if isinstance(r, Verdict)]
    assert judged == [("Clean", i) for i in range(6)] + [("Noisy", 0), ("Noisy", 1)] + [
        ("Smoothing", i) for i in (0, 3, 6, 9)
    ]
    assert finished(cell, runs) and plan(manifest, runs) == []


def test_new_evaluation_does_not_train_again(tiny, digits, tmp_path):
    runs = tmp_path / "runs"
    cell = tiny().cells[0]
    run.run_cell(cell, runs, digits, "shared")
    before = (runs / cell.id / "model.pt").stat().st_mtime_ns
    more = tiny(evals="[Clean: {images: 5}]").cells[0]
    assert more.id == cell.id and not finished(more, runs)
    run.run_cell(more, runs, digits, "shared")
    assert (runs / cell.id / "model.pt").stat().st_mtime_ns == before
    assert sum(isinstance(r, Verdict) for r in read_all(runs / cell.id)) == 5


@pytest.mark.parametrize("loader", ["torch", "memory"])
def test_killed_in_an_epoch_and_resumed_equals_undisturbed(tiny, digits, tmp_path, loader):
    cell = tiny(method="SmoothMix", epochs=5, loader=loader).cells[0]
    whole, runs = tmp_path / "whole", tmp_path / "cut"
    process = fresh(cell, whole, digits)
    process.join()
    # Kill -9 when the record of epoch 1 is there and epoch 2 is under way.
    process = fresh(cell, runs, digits)
    epochs = lambda: [r.epoch for r in read_all(runs / cell.id) if isinstance(r, Epoch)]  # noqa: E731
    while len(epochs()) < 2:
        assert process.is_alive()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (runs / cell.id / "model.pt").exists()
    fresh(cell, runs, digits).join()
    assert Counter(epochs()) == dict.fromkeys(range(5), 1)
    for name, value in weights(cell, whole).items():
        assert torch.equal(value, weights(cell, runs)[name]), name


def test_record_lost_between_checkpoint_and_line_is_written_on_resume(tiny, digits, tmp_path, monkeypatch):
    cell, runs = tiny().cells[0], tmp_path / "runs"
    append = run.append

    def dies(path, record):
        if isinstance(record, Epoch) and record.epoch == 1:
            raise KeyboardInterrupt
        append(path, record)

    monkeypatch.setattr(run, "append", dies)
    with pytest.raises(KeyboardInterrupt):
        run.run_cell(cell, runs, digits, "shared")
    monkeypatch.setattr(run, "append", append)
    run.run_cell(cell, runs, digits, "shared")
    assert sorted(r.epoch for r in read_all(runs / cell.id) if isinstance(r, Epoch)) == [0, 1, 2]


def test_turns_are_balanced():
    arms = ["a", "b", "c"]
    turns = list(run._turns(arms, 6, seed=0))
    assert turns[:3] == [(0, "a"), (0, "b"), (0, "c")]
    rounds = [[arm for number, arm in turns if number == k] for k in range(1, 7)]
    for block in (rounds[:3], rounds[3:]):
        for place in range(3):
            assert sorted(order[place] for order in block) == arms
