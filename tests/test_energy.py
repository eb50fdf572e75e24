"""Energy, emissions, prices and shares of phases, against values computed by hand."""

import math
from pathlib import Path

import pytest
from scipy import stats
from test_reports import start
from typer.testing import CliRunner

from bench.manifest import Manifest, read_manifest
from bench.records import GPU, End, Epoch, Phases, RankPhases, append
from bench.results.energy import (
    Rates,
    board_joules,
    energy_unknown,
    joules_by_run,
    phase_clock,
    phase_shares,
    training_joules,
    watts,
)
from bench.results.intervals import nested_ci
from bench.results.loading import load
from bench.results.measured import Measured
from crt.data import DATASETS
from reports.__main__ import app
from reports.tables.energy import energy

IMAGES = DATASETS["digits"].train_images
TABLE = """
title: Energy
baseline: Standard
dataset: digits
loader: device
pipeline: plain
threat: {norm: linf, eps: 0.1}
arch: cnn2c2f
recipe: {epochs: 5, batch_size: 32, lr: 0.1}
cells:
  - {method: Standard, name: teacher}
  - {method: KD, teacher: {cell: teacher}}
"""


def manifest(tmp_path: Path, text: str = TABLE) -> Manifest:
    (tmp_path / "m.yaml").write_text(text)
    return read_manifest(tmp_path / "m.yaml")


def epoch(arm: str, number: int, joules: list[float | None], images: int = IMAGES, seconds: float = 10.0) -> Epoch:
    first, *others = [None if each is None else GPU(joules=each) for each in joules] or [None]
    return Epoch(
        arm=arm,
        epoch=number,
        seconds=seconds,
        warmup=number == 0,
        images=images,
        lr=0.1,
        loss=1,
        memory=None,
        gpu=first,
        other_gpus=tuple(others),
    )


def measured(tmp_path: Path, runs: list[list[list[float | None]]], **settings) -> Measured:
    """A cell with the energies of the GPUs in each round of each run."""
    (cell, _) = manifest(tmp_path).cells
    cell = cell.model_copy(update=settings)
    numbered = [{k: epoch(cell.id, k, joules) for k, joules in enumerate(rounds, 1)} for rounds in runs]
    return Measured(cell, tmp_path, [start(device="gpu", world_size=cell.ranks)], dict(enumerate(numbered)))


def test_energy_is_the_sum_over_ranks_scaled_to_the_training_set(tmp_path):
    m = measured(tmp_path, [], ranks=2)
    m.runs = {
        0: {1: epoch(m.id, 1, [100.0, 50.0], IMAGES // 3, 4.0), 2: epoch(m.id, 2, [80.0, 70.0], IMAGES // 3, 6.0)}
    }
    assert joules_by_run(m) == [[pytest.approx(450.0), pytest.approx(450.0)]]
    assert watts(m) == pytest.approx((150 + 150) / (4 + 6))
    assert training_joules(m).mean == pytest.approx(5 * 450)


def test_a_replay_has_its_share_of_the_energy(tmp_path):
    text = TABLE.replace("{method: Standard, name: teacher}", "{method: {FreeAT: {m: 5}}, name: teacher}").replace(
        "baseline: Standard", "baseline: FreeAT"
    )
    cell = manifest(tmp_path, text).cells[0]
    m = Measured(cell, tmp_path, runs={0: {1: epoch(cell.id, 1, [1000.0])}})
    assert cell.replays == 5 and joules_by_run(m) == [[200.0]]
    assert training_joules(m).mean == pytest.approx(200 * 5 * 5), "each of 5 epochs has 5 replays"


def test_energy_of_some_ranks_is_not_that_of_all(tmp_path):
    m = measured(tmp_path, [[[100.0]], [[100.0, 50.0]]], ranks=2)
    assert math.isnan(board_joules(m.runs[0][1], 2)) and joules_by_run(m) == [[], [150.0]]
    assert energy_unknown(m) == "the energy of 1 of 2 GPUs is recorded"
    assert math.isnan(board_joules(epoch(m.id, 1, [100.0, None]), 2))
    assert energy_unknown(measured(tmp_path, [[[1.0, 2.0]]], ranks=2)) is None
    assert energy_unknown(measured(tmp_path, [[[]]])) is None and math.isnan(watts(measured(tmp_path, [[[]]])))


def test_the_interval_is_over_runs_as_that_of_times_is(tmp_path):
    runs = [[100.0, 110.0], [120.0, 130.0], [90.0, 110.0]]
    m = measured(tmp_path, [[[value] for value in values] for values in runs])
    low, high = stats.t.interval(0.95, 2, 110, stats.sem([105, 125, 100]))
    assert nested_ci(joules_by_run(m)) == pytest.approx((110, low, high))
    assert training_joules(m) == pytest.approx((550, 5 * low, 5 * high))


def phases(m: Measured, *ranks: tuple[dict, dict | None]) -> Phases:
    first, *others = (RankPhases(host=host, device=device) for host, device in ranks)
    return Phases(arm=m.id, images=IMAGES, host=first.host, device=first.device, other_ranks=tuple(others))


def test_shares_are_means_over_ranks_by_the_clock_of_the_gpus(tmp_path):
    m = measured(tmp_path, [], ranks=2)
    host = {"loader": 9.0, "transfer": 1.0, "compute": 0.0, "all_reduce": 0.0, "drain": 0.0}
    one = {"loader": 1.0, "transfer": 2.0, "compute": 3.0, "all_reduce": 4.0}
    two = {"loader": 3.0, "transfer": 0.0, "compute": 1.0, "all_reduce": 1.0}
    m.phases = [phases(m, (host, one), (host, two))]
    assert phase_clock(m) == "GPU"
    assert phase_shares(m, "loader") == [[pytest.approx((1 / 10 + 3 / 5) / 2)]]
    assert phase_shares(m, "all_reduce") == [[pytest.approx((4 / 10 + 1 / 5) / 2)]]
    m.phases = [phases(m, (host, None), ({**host, "loader": 3.0}, None))]
    assert phase_clock(m) == "host" and phase_shares(m, "loader") == [[pytest.approx((9 / 10 + 3 / 4) / 2)]]


def test_phases_of_earlier_records_have_no_share_that_they_do_not_hold(tmp_path):
    m = measured(tmp_path, [])
    assert phase_clock(m) is None and phase_shares(m, "loader") == []
    m.phases = [phases(m, ({"loader": 1.0, "transfer": 1.0, "forward": 2.0}, {"forward": 2.0}))]
    assert phase_clock(m) == "host" and phase_shares(m, "loader") == [[0.25]] and phase_shares(m, "all_reduce") == []


def test_shares_over_runs_end_at_1(tmp_path):
    m = measured(tmp_path, [[[1.0]]])
    m.phases = [
        phases(m, ({"loader": share, "transfer": 0.0, "compute": 1 - share}, None)) for share in (0.2, 0.9, 0.9)
    ]
    (row,) = energy([m], Rates()).to_dict("records")
    low, high = stats.t.interval(0.95, 2, 2 / 3, stats.sem([0.2, 0.9, 0.9]))
    assert low < 0 and high > 1
    assert [row[f"waiting_share{end}"] for end in ("", "_low", "_high")] == pytest.approx([2 / 3, 0, 1])


def record(tmp_path: Path, joules: list[float | None], device: str = "NVIDIA H200") -> None:
    """Trainings of a teacher and its student: 5 epochs of 10 s, or of 20 s, each with these energies."""
    for k, cell in enumerate(manifest(tmp_path).cells):
        file = tmp_path / "runs" / cell.id / "train.jsonl"
        append(file, start(device=device))
        for number in range(5):
            append(file, epoch(cell.id, number, joules, seconds=10.0 * (k + 1)))
        append(file, End(time=1.0))


def report(tmp_path: Path, *options: str):
    command = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), *options]
    return CliRunner().invoke(app, command, env={"COLUMNS": "250"})


def test_emissions_and_prices_follow_from_the_stated_rates(tmp_path):
    record(tmp_path, [7.2e5])
    table = manifest(tmp_path)
    frame = energy(load(table, [tmp_path / "runs"]), Rates(grid_intensity=400, hourly_rate=3.6))
    teacher, student = frame.to_dict("records")
    # 5 epochs of 0.2 kWh; 5 x 10 s, or 5 x 20 s, of one GPU at 0.001 a second.
    assert teacher["joules"] == pytest.approx(3.6e6) and teacher["kg_co2"] == pytest.approx(0.4)
    assert teacher["price"] == pytest.approx(0.05) and student["price"] == pytest.approx(0.1)
    assert teacher["watts"] == pytest.approx(72_000) and math.isnan(teacher["joules_with_teacher"])
    assert student["joules_with_teacher"] == pytest.approx(7.2e6)
    assert student["kg_co2_with_teacher"] == pytest.approx(0.8)
    assert student["gpu_hours_with_teacher"] == pytest.approx(150 / 3600)
    assert student["price_with_teacher"] == pytest.approx(0.15)


def test_the_table_names_the_rates_and_shows_nothing_that_was_not_stated(tmp_path):
    record(tmp_path, [7.2e5])
    stated = report(tmp_path, "--grid-intensity", "400", "--hourly-rate", "3.6").output
    assert "Energy and communication, at 400 g CO2 per kWh and 3.6 per GPU-hour" in stated
    assert "kg CO2" in stated and "price" in stated
    silent = report(tmp_path).output
    table = silent[silent.index("Energy and communication") :]
    assert "720,000" in table and "CO2" not in table and "price" not in table and "waiting" not in table


def test_without_gpus_there_is_no_energy_and_no_table(tmp_path):
    record(tmp_path, [], device="cpu")
    done = report(tmp_path, "--grid-intensity", "400", "--hourly-rate", "3.6")
    assert done.exit_code == 0 and "Energy and communication" not in done.output


@pytest.mark.parametrize("value", ["-1", "inf", "nan"])
@pytest.mark.parametrize("option", ["--grid-intensity", "--hourly-rate"])
def test_a_rate_that_is_none_is_refused(tmp_path, option, value):
    manifest(tmp_path)
    done = report(tmp_path, f"{option}={value}")
    assert done.exit_code == 2 and done.stderr.startswith(f"error: {option} {float(value):g}") and not done.stdout


def test_a_throttled_gpu_of_another_rank_is_warned_of(tmp_path):
    record(tmp_path, [1.0])
    cell = manifest(tmp_path).cells[0]
    late = epoch(cell.id, 9, [1.0]).model_copy(update={"other_gpus": (GPU(throttle=("sw_power_cap",)),)})
    append(tmp_path / "runs" / cell.id / "train.jsonl", late)
    assert "in 1 of 5 epochs: sw_power_cap" in report(tmp_path).output
