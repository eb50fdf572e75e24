"""A control: the baseline timed against itself, the noise floor that it shows, and what is called a difference."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats
from test_reports import epoch, start
from typer.testing import CliRunner

from bench import submit
from bench.cell import Cell
from bench.manifest import Manifest, read_manifest
from bench.plan.selection import chosen
from bench.records import End, append
from bench.results import Measured, load
from bench.results.contenders import settings
from bench.results.noise import control_ratio, differs, exceeds, noise_floor, within_noise
from bench.results.statistics import Interval
from reports import __main__ as reports
from reports.frames import make_frames
from reports.observations import observations
from reports.verdict import verdict

PLAIN = """
baseline: Standard
dataset: digits
threat: {sigma: 0.25}
arch: [cnn2c2f, cnn4c3f]
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
timing: {runs: 3, rounds: 4, images: 64}
cells: [{method: [Standard, Gaussian, MACER]}]
"""
CONTROLLED = PLAIN.replace("dataset:", "control: true\ndataset:")
SIGMAS = "[{sigma: 0.25}, {sigma: 0.5}, {sigma: 0.75}, {sigma: 1}]"
SECONDS = {"Standard": 1.0, "Gaussian": 1.03, "MACER": 1.5}


def read(tmp_path: Path, text: str, *overrides: str) -> Manifest:
    (tmp_path / "m.yaml").write_text(text)
    return read_manifest(tmp_path / "m.yaml", overrides=overrides)


def timed(tmp_path: Path, offsets: Sequence[float], text: str = CONTROLLED) -> tuple[Manifest, list[Measured]]:
    """Records of every arm; run k of the control takes e to the power of offsets[k] of its baseline's time."""
    manifest = read(tmp_path, text)
    for study in manifest.studies:
        for run in range(3):
            file = tmp_path / "runs" / study.id / f"run{run}" / "time.jsonl"
            append(file, start(flops={arm.id: 1.0 for arm in study.arms}))
            for arm in study.arms:
                # Ratios of methods vary little from run to run, so that their intervals are narrow.
                varies = offsets[run] if arm.control else 1e-4 * run * (arm.method.name != "Standard")
                pace = SECONDS[arm.method.name] * math.exp(varies)
                for turn in range(5):
                    append(file, epoch(arm.id, turn, pace, 64, turn))
            append(file, End(time=1.0))
    return manifest, load(manifest, [tmp_path / "runs"])


def test_each_study_gets_one_more_arm_that_does_the_same(tmp_path):
    plain, controlled = read(tmp_path, PLAIN), read(tmp_path, CONTROLLED)
    assert plain.cells == controlled.cells and len(plain.studies) == len(controlled.studies) == 2
    for before, after in zip(plain.studies, controlled.studies, strict=True):
        *arms, control = after.arms
        (baseline,) = (arm for arm in arms if controlled.is_baseline(arm))
        assert tuple(arms) == before.arms and before.id != after.id
        assert control.control and control.id != baseline.id and not controlled.is_baseline(control)
        assert control.model_copy(update={"control": False}) == baseline
        assert control.step_key == baseline.step_key and control.comparison_group == baseline.comparison_group
    assert read(tmp_path, PLAIN, "control=true") == controlled


def test_a_part_of_a_manifest_keeps_its_studies(tmp_path):
    manifest = read(tmp_path, CONTROLLED)
    assert chosen(manifest, "cnn4c3f").studies == manifest.studies[1:]
    bare = CONTROLLED.replace("baseline: Standard", "baseline: bare loop") + "  - {method: Standard, loop: bare}\n"
    bare = bare.replace("cells: [{method: [Standard, Gaussian, MACER]}]", "cells:\n  - {method: Standard}")
    assert all(study.arms[-1].control and study.arms[-1].loop == "bare" for study in read(tmp_path, bare).studies)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CONTROLLED.replace("timing: {runs: 3, rounds: 4, images: 64}\n", ""), "control: true (allowed: with timing"),
        (CONTROLLED.replace("control: true", "control: often"), "control: 'often' (allowed: true, false)"),
        (CONTROLLED.replace("{sigma: 0.25}", SIGMAS), "4 cells of Standard (allowed: one, or one for"),
        (PLAIN.replace("{sigma: 0.25}", SIGMAS), "; control: true times it against itself)"),
    ],
)
def test_what_cannot_be_controlled_is_refused(tmp_path, text, words):
    with pytest.raises(ValueError) as error:
        read(tmp_path, text)
    assert words in str(error.value)


def test_the_floor_is_the_reach_of_the_controls_interval(tmp_path):
    offsets = (-0.03, 0.01, -0.01)
    manifest, measured = timed(tmp_path, offsets)
    half = scipy_stats.t.ppf(0.975, 2) * np.std(offsets, ddof=1) / math.sqrt(3)
    low, high = np.mean(offsets) - half, np.mean(offsets) + half
    floor = math.expm1(max(abs(low), abs(high)))
    assert 0.04 < floor < 0.08
    for m in measured:
        assert math.isclose(noise_floor(m), floor, rel_tol=1e-9)
        ratio = control_ratio(m)
        if m.cell.control:
            assert np.allclose(np.log(ratio), [np.mean(offsets), low, high])
        else:
            assert math.isnan(ratio.mean)
    compared = settings(manifest, measured)
    frames = make_frames(manifest, measured, compared, manifest, ())
    for name in ("timing", "factors", "means"):
        assert np.allclose(frames[name]["noise_floor"], floor), name
    seen = observations(manifest, frames)
    seen = seen[seen["metric"] == "noise_floor"]
    assert len(seen) == 2 and np.allclose(seen["estimate"], floor) and set(seen["unit"]) == {"share"}


def test_nothing_within_the_floor_is_called_a_difference(tmp_path):
    for name, offsets, words in (
        ("noisy", (-0.03, 0.01, -0.01), "Gaussian 1.03x within the noise floor"),
        ("quiet", (-0.0003, 0.0001, -0.0001), "Gaussian 1.03x,"),
    ):
        (tmp_path / name).mkdir()
        manifest, measured = timed(tmp_path / name, offsets)
        compared = settings(manifest, measured)
        frames = make_frames(manifest, measured, compared, manifest, ())
        (costs,) = (each.text for each in verdict(manifest, measured, compared, frames) if each.rule == "costs")
        assert words in costs and "MACER 1.50x; robust" in costs, costs
        where = [str(tmp_path / name / "m.yaml"), "--runs", str(tmp_path / name / "runs")]
        done = CliRunner().invoke(reports.app, where)
        assert done.exit_code == 0 and "Noise floor, the most by which Standard" in done.output
        rows = [line for line in done.output.splitlines() if "Gaussian" in line and "1.03 [" in line]
        assert rows and all((" *" in row) == (name == "noisy") for row in rows), rows


def test_a_control_that_differs_from_its_baseline_is_warned_of(tmp_path):
    timed(tmp_path, (0.020, 0.021, 0.022))
    done = CliRunner().invoke(reports.app, [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs")])
    assert "The control's time differs from that of its baseline, though both do the same: " in done.output
    assert "1.021 (1.019 to 1.024)" in done.output


def test_a_control_without_records_leaves_the_floor_unknown(tmp_path):
    _, measured = timed(tmp_path, (0.0, 0.0, 0.0), PLAIN)
    assert all(math.isnan(noise_floor(m)) for m in measured)
    (tmp_path / "m.yaml").write_text(CONTROLLED)
    done = CliRunner().invoke(reports.app, [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 0 and "No records" in done.output and "noise floor %" not in done.output


@pytest.mark.parametrize(
    ("interval", "floor", "more", "apart"),
    [
        (Interval(1.04, 1.01, 1.07), 0.03, True, True),
        (Interval(1.04, 1.01, 1.07), 0.05, False, False),
        (Interval(1.04, 0.99, 1.09), 0.03, False, False),
        (Interval(0.96, 0.93, 0.99), 0.03, False, True),
        (Interval(0.96, 0.93, 0.99), 0.05, False, False),
        (Interval(1.04, 1.01, 1.07), math.nan, True, True),
        (Interval(math.nan, math.nan, math.nan), 0.03, False, False),
    ],
)
def test_a_difference_excludes_one_and_exceeds_the_floor(interval, floor, more, apart):
    assert (exceeds(interval, floor), differs(interval, floor)) == (more, apart)
    assert within_noise(1 / 1.03, 0.0300001) and not within_noise(1.0301, 0.03)


def test_a_controlled_study_runs(tmp_path, digits):
    text = CONTROLLED.replace("[cnn2c2f, cnn4c3f]", "cnn2c2f").replace("runs: 3, rounds: 4", "runs: 1, rounds: 2")
    (tmp_path / "m.yaml").write_text(text.replace(", MACER", "").replace("dataset:", "loader: device\ndataset:"))
    where = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--data", str(digits)]
    done = CliRunner().invoke(submit.app, [*where, "--launcher", "inline"])
    assert done.exit_code == 0, done.output
    told = CliRunner().invoke(reports.app, where[:3])
    assert told.exit_code == 0 and "Noise floor, the most by which Standard" in told.output


def test_a_cell_pickled_before_it_had_a_control_has_none(tmp_path):
    (cell, *_) = read(tmp_path, PLAIN).cells
    state = cell.__getstate__()
    former = {key: dict(value) if key == "__dict__" else value for key, value in state.items()}
    del former["__dict__"]["control"]
    restored = Cell.__new__(Cell)
    restored.__setstate__(former)
    assert restored == cell and restored.id == cell.id
