"""Two ranks train what one process does, with an average, smoothed labels, initial weights and a validation split."""

from pathlib import Path

import pytest
import torch
from test_ddp import run

from bench.jobs.lease import JobPaths
from bench.jobs.train import run_cell
from bench.manifest import read_manifest
from bench.records import Epoch, MonitorPoint, read
from crt.training.loop import Training

MANIFEST = """
dataset: digits
pipeline: plain
loader: device
images: 168
arch: cnn2c2f
threat: {{norm: linf, eps: 4/255}}
ranks: {ranks}
cells:
  - {{method: Standard, name: first, recipe: {{epochs: 1, batch_size: 32, lr: 0.05}}}}
  - method: Standard
    init: {{cell: first}}
    recipe: {{epochs: 2, batch_size: 32, lr: 0.05, average: {{decay: 0.9}}, label_smoothing: 0.2}}
    monitor: {{split: validation, images: 40, evals: [Clean]}}
"""


def trained(rank: int, folder: Path, data: Path, number: int) -> None:
    """Train one of the cells on this rank, and save the weights that this rank would keep."""
    made, create = [], Training.__init__
    Training.__init__ = lambda self, *args, **kwargs: (create(self, *args, **kwargs), made.append(self))[0]
    at = JobPaths(runs=folder / "runs", data=data, process="shared")
    run_cell(read_manifest(folder / "m.yaml").cells[number], at)
    torch.save(made[-1].weights, folder / f"average-{rank}.pt")


def test_two_ranks_equal_one_process_and_each_other(digits, tmp_path):
    found = {}
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        (folder / "m.yaml").write_text(MANIFEST.format(ranks=ranks))
        for number in range(2):
            run(trained, ranks, folder, digits, number)
        *_, cell = read_manifest(folder / "m.yaml").cells
        records = read(folder / "runs" / cell.id / "train.jsonl")
        points = [r for r in records if isinstance(r, MonitorPoint)]
        losses = [r.loss for r in records if isinstance(r, Epoch)]
        found[ranks] = points, losses, torch.load(folder / "runs" / cell.id / "model.pt", weights_only=True)
        assert all(r.images == 128 for r in records if isinstance(r, Epoch))
    (points, losses, kept), (others, same, equal) = found[1], found[2]
    # Sums over two halves of a batch are rounded otherwise: 2 x 4 steps of float32.
    assert same == pytest.approx(losses, rel=1e-4)
    for name, tensor in kept.items():
        torch.testing.assert_close(equal[name], tensor, rtol=1e-3, atol=1e-4)
    assert [(p.epoch, p.images) for p in points] == [(p.epoch, p.images) for p in others] == [(0, 40), (1, 40)]
    first, second = (torch.load(tmp_path / "2" / f"average-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
