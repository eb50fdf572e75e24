"""Methods whose own schedule is longer than their training, which a plan and a report name."""

from pathlib import Path

import pytest
from test_reports import start
from typer.testing import CliRunner

import bench.submit
import reports.__main__
from bench.cell import Cell
from bench.manifest import read_manifest
from bench.manifest.shipped import folder
from bench.records import Epoch, append

HEAD = """
title: Schedules
baseline: Standard
dataset: digits
loader: device
arch: cnn2c2f
recipe: {epochs: 12, batch_size: 64, lr: 0.1}
"""
L2 = "threat: {norm: l2, eps: 0.5}\npipeline: duet\n"
SMOOTHING = "threat: {norm: l2, sigma: 0.25}\n"


@pytest.mark.parametrize(
    ("head", "method", "words"),
    [
        (L2, "LMT", "warmup 10 and ramp 121, of 12 epochs"),
        (L2, "GloRo", "warmup 20 and ramp 400, of 12 epochs"),
        (L2, "{BCP: {warmup: 4, ramp: 9}}", "warmup 4 and ramp 9, of 12 epochs"),
        (L2, "{BCP: {warmup: 4, ramp: 8}}", ""),
        (L2, "CROWNIBP", "warmup 10 and ramp 121, of 12 epochs"),
        (SMOOTHING, "{SmoothAdv: {warmup: 13}}", "warmup 13, of 12 epochs"),
        (SMOOTHING, "SmoothMix", ""),
        (SMOOTHING, "Gaussian", ""),
    ],
)
def test_a_schedule_that_is_longer_than_the_training_is_named(tmp_path, head, method, words):
    (tmp_path / "m.yaml").write_text(f"{HEAD}{head}cells: [{{method: Standard}}, {{method: {method}}}]\n")
    cell = read_manifest(tmp_path / "m.yaml", networks=False).cells[1]
    assert cell.cut_schedule == words
    for epoch in range(2):
        record = Epoch(arm=cell.id, epoch=epoch, seconds=1, warmup=False, images=1437, lr=0.1, loss=1.0, memory=None)
        file = tmp_path / "runs" / cell.id / "train.jsonl"
        append(file, start()) if not epoch else None
        append(file, record)
    report = CliRunner().invoke(reports.__main__.app, [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs")])
    assert report.exit_code == 0, report.output
    assert ("own schedule is longer than the training" in report.output) == bool(words) and words in report.output
    options = ["--dry-run", "--launcher", "inline", "--device", "a100", "--runs", str(tmp_path / "none")]
    plan = CliRunner().invoke(bench.submit.app, [str(tmp_path / "m.yaml"), *options])
    assert plan.exit_code == 0, plan.output
    assert ("own schedules are longer" in plan.output) == bool(words) and f"({words})" * bool(words) in plan.output


def test_no_manifest_of_this_repository_cuts_a_schedule():
    for path in sorted(Path(folder("manifests")).rglob("*.yaml")):
        for cell in read_manifest(path, networks=False).trained:
            networks = [each for each in (cell, *cell.lineage) if isinstance(each, Cell)]
            assert not any(each.cut_schedule for each in networks), path
