"""The fit of scaling: parts that are planted are found, predictions hold, and a report shows both."""

import math

import numpy as np
import pytest
from scipy.optimize import nnls
from test_reports import epoch, start
from typer.testing import CliRunner

from bench.manifest import read_manifest
from bench.records import Phases, RankPhases, append
from bench.results.scaling_law import fit
from reports.__main__ import app

SERIAL, COMMUNICATION = 0.1, 0.01
SECONDS = {"loader": 0.1, "transfer": 0.1, "compute": 4.0, "all_reduce": 0.1}
TEXT = """
baseline: Standard
dataset: digits
threat: {norm: l2, sigma: 0.25}
arch: cnn2c2f
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
timing: {runs: 3, rounds: 2}
cells: [{method: Standard, ranks: [1, 2, 4, 8]}]
"""


def law(ranks: int, serial: float = SERIAL, communication: float = COMMUNICATION) -> float:
    return (1 - serial) / ranks + serial + communication * (ranks - 1)


def test_planted_parts_are_found_and_predict_the_others():
    times = {ranks: [10 * law(ranks)] * 3 for ranks in (1, 2, 4, 8)}
    found = fit(times)
    assert found.serial.mean == pytest.approx(SERIAL) and found.communication.mean == pytest.approx(COMMUNICATION)
    assert {ranks: value.mean for ranks, value in found.left_out.items()} == pytest.approx(
        {p: law(p) for p in (2, 4, 8)}
    )


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_the_least_squares_of_scipy(seed):
    noise, ranks = np.random.default_rng(seed), np.array([2, 4, 8])
    relative = np.array([law(p) for p in ranks]) * np.exp(noise.normal(0, 0.15, 3))
    matrix = np.stack([1 - 1 / ranks, ranks - 1.0], axis=1) / relative[:, None]
    expected, _ = nnls(matrix, 1 - 1 / ranks / relative)
    found = fit({1: [1.0]} | {int(p): [value] for p, value in zip(ranks, relative, strict=True)})
    assert (found.serial.mean, found.communication.mean) == pytest.approx(tuple(expected), abs=1e-9)
    assert math.isnan(found.serial.low)


def test_no_part_is_below_0_and_few_numbers_have_no_fit():
    faster = fit({1: [8.0] * 3, 2: [3.5] * 3, 4: [1.7] * 3})
    assert faster.serial.mean == 0 and faster.communication.mean == 0
    assert fit({1: [8.0], 2: [4.0]}) is None and fit({2: [8.0], 4: [4.0], 8: [2.0]}) is None


def test_intervals_cover_the_planted_parts():
    noise, held = np.random.default_rng(7), np.zeros(3)
    for _ in range(200):
        times = {p: list(10 * law(p) * np.exp(noise.normal(0, 0.01, 5))) for p in (1, 2, 4, 8)}
        found = fit(times)
        truths = ((found.serial, SERIAL), (found.communication, COMMUNICATION), (found.left_out[8], law(8)))
        held += [interval.low <= truth <= interval.high for interval, truth in truths]
    # 200 studies at 95 % hold 177 or more with probability 0.9999.
    assert (held >= 177).all(), held


def test_a_report_explains_scaling(tmp_path):
    (tmp_path / "m.yaml").write_text(TEXT)
    manifest, noise = read_manifest(tmp_path / "m.yaml", networks=False), np.random.default_rng(8)
    for study in manifest.studies:
        for run in range(3):
            file = tmp_path / "runs" / study.id / f"run{run}" / "time.jsonl"
            (arm,) = study.arms
            append(file, start(world_size=arm.ranks))
            for turn in range(3):
                append(file, epoch(arm.id, turn, 10 * law(arm.ranks) * np.exp(noise.normal(0, 0.01)), 1437, turn))
            others = tuple(RankPhases(host=SECONDS | {"compute": 3.0}, device=None) for _ in range(arm.ranks - 1))
            append(file, Phases(arm=arm.id, images=1437, host=SECONDS, device=None, other_ranks=others))
    done = CliRunner().invoke(
        app, [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--csv", str(tmp_path / "o.csv"), "--wide"]
    )
    assert done.exit_code == 0 and "Scaling explained" in done.output, done.output
    import pandas as pd

    tidy = pd.read_csv(tmp_path / "o.csv").set_index("metric")
    assert tidy.loc["serial_share", "estimate"].between(SERIAL - 0.03, SERIAL + 0.03).all()
    # The slowest of p ranks computes 4 s, the others 3.
    expected = [4 / ((3 * (p - 1) + 4) / p) - 1 for p in (2, 4, 8)]
    assert sorted(tidy.loc["imbalance", "estimate"]) == pytest.approx(sorted(expected))
