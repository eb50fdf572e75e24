"""Ratios of like things, speedups taken apart, means, scaling, and what is said of odd records."""

import dataclasses
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats
from test_reports import epoch, start

from bench.manifest import Manifest, read_manifest
from bench.records import GPU, End, Phases, append
from bench.results.loading import load
from bench.results.measured import Measured
from bench.results.ratios import FIELDS, mismatched_fields
from bench.results.warnings import remarks
from reports.tables.factors import factors, means
from reports.tables.scaling import scaling
from reports.tables.timing import timing

HEAD = """
baseline: Standard
timing: {runs: 3, rounds: 4, images: 64}
dataset: digits
threat: {sigma: 0.25}
"""
ARMS = """
arch: [cnn2c2f, resnet20]
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
cells:
  - {method: Standard}
  - {method: SmoothMix, recipe: {epochs: 2, batch_size: 64, lr: 0.1}}
  - {method: Gaussian, recipe: {epochs: 4, batch_size: 64, lr: 0.1, precision: bf16}}
"""
SECONDS = {
    ("Standard", 64, "fp32"): 1.0,
    ("Standard", 32, "fp32"): 1.5,
    ("Standard", 64, "bf16"): 0.5,
    ("Standard", 32, "bf16"): 0.8,
    ("SmoothMix", 64, "fp32"): 12.0,
    ("Gaussian", 64, "bf16"): 0.6,
}
FLOPS = {"Standard": 3.0, "SmoothMix": 28.0, "Gaussian": 3.0}
NOISE = np.random.default_rng(0).normal(0, 0.02, (3, 6, 4))


def read(tmp_path: Path, text: str) -> Manifest:
    (tmp_path / "m.yaml").write_text(text)
    return read_manifest(tmp_path / "m.yaml")


def timed(tmp_path: Path, text: str = HEAD + ARMS) -> tuple[Manifest, list[Measured]]:
    """Records of every arm, its seconds those of SECONDS with a little noise."""
    manifest = read(tmp_path, text)
    for study in manifest.studies:
        for run in range(3):
            file = tmp_path / "runs" / study.id / f"run{run}" / "time.jsonl"
            append(file, start(flops={arm.id: FLOPS[arm.method.name] for arm in study.arms}))
            for k, arm in enumerate(study.arms):
                key = (arm.method.name, arm.recipe.batch_size, arm.recipe.precision)
                for turn in range(5):
                    noise = NOISE[run, k, turn - 1] if turn else 1.0
                    append(file, epoch(arm.id, turn, SECONDS[key] * math.exp(noise), 64, turn))
                host = {"loader": 1.0, "transfer": 0.5, "compute": 8.0, "all_reduce": 0.5}
                append(file, Phases(arm=arm.id, images=64, host=host, device=None))
            append(file, End(time=1.0))
    return manifest, load(manifest, [tmp_path / "runs"])


def test_the_baseline_is_timed_in_every_batch_size_and_precision(tmp_path):
    for study in read(tmp_path, HEAD + ARMS).studies:
        arms = [(arm.method.name, arm.per_step, arm.recipe.precision) for arm in study.arms]
        assert arms[:3] == [("Standard", 64, "fp32"), ("SmoothMix", 32, "fp32"), ("Gaussian", 64, "bf16")]
        assert sorted(arms[3:]) == [("Standard", 32, "bf16"), ("Standard", 32, "fp32"), ("Standard", 64, "bf16")]
    same = HEAD + "arch: cnn2c2f\nrecipe: {epochs: 4, batch_size: 64, lr: 0.1}\ncells: [{method: [Standard, Gaussian]}]"
    assert len(read(tmp_path, same).studies[0].arms) == 2


def test_ratios_are_of_like_things_and_the_published_one_stands_beside(tmp_path):
    frame = timing(*timed(tmp_path))
    frame = frame[frame["arch"] == "cnn2c2f"].set_index(["method", "batch", "precision"])
    mixed, gaussian = frame.loc[("SmoothMix", 64, "fp32")], frame.loc[("Gaussian", 64, "bf16")]
    assert mixed["slowdown"] == pytest.approx(8.0, rel=0.05) and mixed["as_published"] == pytest.approx(12.0, rel=0.05)
    assert gaussian["slowdown"] == pytest.approx(1.2, rel=0.05)
    assert gaussian["as_published"] == pytest.approx(0.6, rel=0.05)
    assert mixed["ideal"] == pytest.approx(28 / 3)
    assert mixed["efficiency"] == pytest.approx(mixed["ideal"] / mixed["slowdown"])
    assert mixed["efficiency_low"] == pytest.approx(mixed["ideal"] / mixed["slowdown_high"])
    assert mixed["pair"] == "like for like" and mixed["loader_share"] == pytest.approx(0.15)
    # Arms 1 and, among the baseline's twins, the one of 32 images in fp32: by hand.
    arms = read(tmp_path, HEAD + ARMS).studies[0].arms
    twin = next(k for k, arm in enumerate(arms) if (arm.per_step, arm.recipe.precision) == (32, "fp32") and k > 1)
    logs = np.log(8) + (NOISE[:, 1] - NOISE[:, twin]).mean(axis=1)
    low, high = scipy_stats.t.interval(0.95, 2, logs.mean(), scipy_stats.sem(logs))
    assert (mixed["slowdown_low"], mixed["slowdown_high"]) == pytest.approx((math.exp(low), math.exp(high)))
    assert mixed["unpaired_low"] < mixed["unpaired"] < mixed["unpaired_high"]


def test_a_speedup_is_the_product_of_its_factors(tmp_path):
    frame = factors(*timed(tmp_path))
    names = ["epochs", "passes", "batch", "precision", "host"]
    assert frame[names].prod(axis=1).to_numpy() == pytest.approx(frame["total"].to_numpy())
    assert len(frame) == 2 * 3
    row = frame[(frame["slower"] == "SmoothMix") & (frame["faster"] == "Gaussian")].iloc[0]
    # 12 s in half the epochs against 0.6 s; the baseline alone: 1.5 s to 1.0 s by the batch, 1.0 to 0.5 in bf16.
    assert row["total"] == pytest.approx(10.0, rel=0.05) and row["epochs"] == 0.5
    assert row["passes"] == pytest.approx(28 / 3)
    assert (row["batch"], row["precision"]) == pytest.approx((1.5, 2.0), rel=0.05)
    assert row["host"] == pytest.approx(10 / (0.5 * 28 / 3 * 1.5 * 2), rel=0.1)
    same = frame[(frame["slower"] == "SmoothMix") & (frame["faster"] == "Standard")].iloc[0]
    assert same["precision"] == 1.0


def test_means_over_architectures(tmp_path):
    frame = means(*timed(tmp_path)).set_index(["slower", "faster"])
    row = frame.loc[("SmoothMix", "Standard")]
    assert row["architectures"] == 2 and row["ideal"] == pytest.approx(28 / 3)
    logs = np.log(12) + (NOISE[:, 1] - NOISE[:, 0]).mean()
    assert row["geometric"] == pytest.approx(math.exp(logs)) and row["arithmetic"] == pytest.approx(math.exp(logs))
    assert row["geometric_low"] < row["geometric"] < row["geometric_high"]


def test_scaling_is_of_images_a_second_and_unpaired(tmp_path):
    recipes = ["{epochs: 4, batch_size: 64, lr: 0.1}", "{epochs: 4, batch_size: 128, lr: 0.1}"]
    cells = f"""
arch: cnn2c2f
method: Standard
cells:
  - {{ranks: [1, 2], recipe: {recipes[0]}}}
  - {{ranks: 2, recipe: {recipes[1]}}}
"""
    manifest = read(tmp_path, HEAD.replace("images: 64", "images: 128") + cells)
    for study in manifest.studies:
        for run in range(3):
            file = tmp_path / "runs" / study.id / f"run{run}" / "time.jsonl"
            append(file, start(world_size=study.arms[0].ranks))
            for arm in study.arms:
                seconds = {(1, 64): 4.0, (2, 64): 2.5, (2, 128): 2.0}[arm.ranks, arm.recipe.batch_size]
                for turn in range(5):
                    append(file, epoch(arm.id, turn, seconds * (1 + run / 100), 64, turn))
            append(file, End(time=1.0))
    frame = scaling(load(manifest, [tmp_path / "runs"])).set_index("kind")
    assert frame["speedup"].to_dict() == pytest.approx({"strong": 1.6, "weak": 2.0})
    assert frame.loc["strong", "efficiency"] == pytest.approx(0.8) and frame.loc["weak", "efficiency"] == pytest.approx(
        1
    )
    for kind in ("strong", "weak"):
        assert frame.loc[kind, "speedup_low"] < frame.loc[kind, "speedup"] < frame.loc[kind, "speedup_high"]


def test_unlike_fields_are_refused_by_name_and_allowed_by_name(tmp_path):
    _, measured = timed(tmp_path)
    one, other = measured[0], measured[2]
    with pytest.raises(ValueError, match="precision: bf16, fp32"):
        mismatched_fields(one, other)
    assert mismatched_fields(one, other, ["precision"]) == ("precision",)
    assert set(mismatched_fields(one, other, FIELDS)) == {"precision"}


def test_what_is_odd_is_said(tmp_path):
    manifest, _ = timed(tmp_path)
    arm = manifest.cells[0]
    file = tmp_path / "runs" / manifest.studies[0].id / "run0" / "time.jsonl"
    text = file.read_text()
    throttled = epoch(arm.id, 4, 50.0, 64, 4).model_copy(update={"gpu": GPU(throttle=("hw_thermal_slowdown",))})
    # Round 4 of run 0 is far off and throttled, run 1 was cut short, and run 2's host set its clock back.
    lines = [line for line in text.splitlines(keepends=True) if f'"{arm.id}","round":4' not in line]
    file.write_text("".join(lines))
    append(file, throttled)
    second = file.parents[1] / "run1" / "time.jsonl"
    second.write_text("".join(line for line in second.read_text().splitlines(keepends=True) if '"round":4' not in line))
    third = file.parents[1] / "run2" / "time.jsonl"
    third.write_text(third.read_text().replace('"time":0.0', '"time":60.0'))
    append(third, start(time=5.0, load=9.0))
    said = [line for line in remarks(load(manifest, [tmp_path / "runs"])) if "cnn2c2f Standard" in line]
    for kind, words in (
        ("Outliers: ", "cnn2c2f Standard, run 0, round 4"),
        ("Run 1 has 3 of 4 rounds: ", "cnn2c2f Standard"),
        ("Run 2: the host's clock was set back", "cnn2c2f Standard"),
        ("Busy host at the start (load above its 2 cores): ", "cnn2c2f Standard, load 9.0"),
        ("Throttled GPU: ", "cnn2c2f Standard, throughout: hw_thermal_slowdown"),
    ):
        assert any(line.startswith(kind) and words in line for line in said), (kind, words, said)
    assert all(line.rpartition(". ")[2][:1].isupper() and line.endswith(".") for line in said), "each has a remedy"
    odd = dataclasses.replace(
        (m := load(manifest, [tmp_path / "runs"])[0]), runs={k: m.runs[0] for k in range(7)}, started={}
    )
    (line,) = (line for line in remarks([odd]) if line.startswith("Outliers"))
    assert "run 0, round 4 and run 1, round 4 and run 2, round 4 and 4 more." in line
    shutil.copytree(tmp_path / "runs", tmp_path / "again")
    both = [m for m in load(manifest, [tmp_path / "runs", tmp_path / "again"]) if m.id == arm.id]
    (busy,) = (line for line in remarks(both) if "Busy" in line)
    assert all(f"cnn2c2f Standard in {tmp_path / folder}, load 9.0" in busy for folder in ("runs", "again"))
    many = [m for _ in range(9) for m in load(manifest, [tmp_path / "runs"])]
    busy = [line for line in remarks(many) if line.startswith("Busy host")]
    assert [line.split(": ")[1] for line in busy] == [
        f"{len(many) // 2} of {len(many)} timed cells (column remarks of --wide-csv)."
        " Time on a machine without other work."
    ]
    odd = timing(manifest, many).set_index("method").loc["Standard", "remarks"].iloc[0]
    assert "Rounds stand out: run 0: 4" in odd and "run 1 has 3 of 4 rounds; " in odd


def test_an_epoch_of_negative_time_is_left_out_by_file_and_line(tmp_path):
    manifest, _ = timed(tmp_path)
    runs = tmp_path / "runs"
    file = runs / manifest.studies[0].id / "run0" / "time.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    number = next(k for k, line in enumerate(lines) if '"warmup":false' in line)
    epochs = lambda: sum(len(run) for m in load(manifest, [runs]) for run in m.runs.values())  # noqa: E731
    before = epochs()
    lines[number] = re.sub(r'"seconds":[^,]+', '"seconds":-1.0', lines[number])
    file.write_text("".join(lines))
    (said,) = {line for m in load(manifest, [runs]) for line in m.left_out}
    assert re.search(rf"time\.jsonl, line {number + 1}: seconds: .*greater than", said)
    assert epochs() == before - 1
