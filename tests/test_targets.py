"""Time to a target: the first monitored epoch that reaches it, and trainings that never do."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_reports import epoch, start
from typer.testing import CliRunner

from bench.manifest import Manifest, read_manifest
from bench.records import MonitorPoint, append
from bench.results.loading import load
from reports.__main__ import app
from reports.tables.targets import targets

TEXT = """
baseline: Standard
dataset: digits
threat: {norm: linf, eps: 0.1}
arch: cnn2c2f
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
monitor: {every: 1, images: 100, evals: [Clean, {PGD: {steps: 5}}]}
cells: [{method: [Standard, SAT], seed: [0, 1, 2]}]
"""


def recorded(tmp_path: Path, seconds: dict[int, float], curves: dict[str, dict[int, list[float]]]) -> Manifest:
    """Trainings of four epochs; `seconds` of an epoch by seed, robust accuracy after each epoch by method and seed."""
    (tmp_path / "m.yaml").write_text(TEXT)
    manifest = read_manifest(tmp_path / "m.yaml", networks=False)
    for cell in manifest.cells:
        file = tmp_path / "runs" / cell.id / "train.jsonl"
        append(file, start(flops={cell.id: 7.0}))
        for number in range(4):
            append(file, epoch(cell.id, number, seconds[cell.seed], 1437))
            for spec, share in zip(cell.monitor.evals, (0.9, curves[cell.method.name][cell.seed][number]), strict=True):
                line = MonitorPoint(arm=cell.id, epoch=number, eval=spec.id, images=100, right=0.9, standing=share)
                append(file, line)
    return manifest


SECONDS = {0: 3600.0, 1: 7200.0, 2: 3600.0}
CURVES = {
    "Standard": {0: [0, 0, 0, 0], 1: [0, 0, 0, 0.1], 2: [0, 0, 0, 0]},
    "SAT": {0: [0.1, 0.5, 0.3, 0.6], 1: [0.1, 0.2, 0.45, 0.6], 2: [0.4, 0.5, 0.5, 0.5]},
}


def test_time_is_to_the_first_epoch_that_reaches_the_target(tmp_path):
    manifest = recorded(tmp_path, SECONDS, CURVES)
    rows = targets(load(manifest, [tmp_path / "runs"]), 0.4).set_index("method")
    # Epochs 2, 3 and 1 of 1, 2 and 1 h.
    logs = np.log([2.0, 6.0, 1.0])
    low, high = stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs))
    found = rows.loc["SAT"]
    assert (found["hours"], found["hours_low"], found["hours_high"]) == pytest.approx(
        tuple(np.exp([logs.mean(), low, high]))
    )
    assert found["reached"] == 3 and found["epochs"] == 2 and found["operations"] == pytest.approx(2 * 7 * 1437)
    assert math.isnan(found["censored_hours"])
    none = rows.loc["Standard"]
    assert none["reached"] == 0 and math.isnan(none["hours"]) and none["censored_hours"] == pytest.approx(4.0)


def test_a_training_that_does_not_reach_it_is_censored(tmp_path):
    manifest = recorded(tmp_path, SECONDS, CURVES)
    found = targets(load(manifest, [tmp_path / "runs"]), 0.55).set_index("method").loc["SAT"]
    # Seed 2 trained for 4 h without it; the others have it after 4 epochs of 1 and 2 h.
    assert found["reached"] == 2 and found["censored_hours"] == pytest.approx(4.0)
    assert found["hours"] == pytest.approx(math.sqrt(4 * 8)) and math.isnan(found["hours_low"])


def test_a_report_shows_the_target(tmp_path):
    recorded(tmp_path, SECONDS, CURVES)
    command = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, [*command, "--target", "40"])
    assert done.exit_code == 0 and "Time to an accuracy of 40 %" in done.output and "3 of 3" in done.output
    assert "Time to an accuracy" not in CliRunner().invoke(app, command).output
    for wrong in ("0", "101", "-1"):
        refused = CliRunner().invoke(app, [*command, f"--target={wrong}"])
        assert refused.exit_code == 2 and f"--target {wrong}" in refused.stderr and not refused.stdout
