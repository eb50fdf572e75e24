"""Tidy observations: their metrics, units and intervals, their agreement with records, and how notebooks load them."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats
from test_reports import TIMED, TRAINED, cells, epoch, start, trained
from typer.testing import CliRunner

from bench.records import append
from reports import load_frame
from reports.__main__ import app
from reports.observations import COLUMNS, INTERVALS, METRICS

ROOT = Path(__file__).parents[1]
HOME = ROOT / "tests" / "golden" / "report"
PAGE = (ROOT / "reports" / "README.md").read_text(encoding="utf-8")
EXPECTED = sorted(file.parent.name for file in HOME.glob("expected/*/observations.csv"))
KEYS = "folder study cell method metric radius compared_with evaluation evaluation_id run round".split()


@cache
def expected(name: str) -> pd.DataFrame:
    words = dict.fromkeys(("study", "date", "device", "interval"), str)
    return pd.read_csv(HOME / "expected" / name / "observations.csv", dtype=words)


def wide(name: str, table: str = "") -> pd.DataFrame:
    return pd.read_csv(HOME / "expected" / name / f"report{table and '-'}{table}.csv")


@pytest.mark.parametrize("name", EXPECTED)
def test_an_observation_is_told_from_all_others_and_names_its_unit_and_its_interval(name):
    frame = expected(name)
    assert list(frame) == list(COLUMNS) and len(frame) and not frame.duplicated(KEYS).any()
    assert frame["estimate"].notna().all() and set(frame["manifest"]) == {wide_name(name)}
    assert (frame["unit"] == frame["metric"].map(lambda metric: METRICS[metric].unit)).all()
    assert set(frame["interval"].dropna()) <= set(INTERVALS)
    bounded = frame["low"].notna()
    assert (frame["interval"].notna() == bounded).all() and (frame["level"].notna() == bounded).all()
    assert (frame.loc[bounded, "level"] == 0.95).all()
    inside = frame[bounded]
    assert (inside["low"] <= inside["estimate"] + 1e-12).all()
    assert ((inside["estimate"] <= inside["high"] + 1e-12) | inside["high"].isna()).all()
    shares = frame[frame["unit"].eq("share") & ~frame["metric"].str.contains("difference|paper|of_")]
    assert shares["estimate"].between(0, 1).all()
    measured = frame[frame["date"].notna()]
    assert measured["date"].str.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").all() and measured["device"].notna().all()
    assert frame.loc[frame["metric"].str.startswith("paper_"), ["date", "device", "n"]].isna().all(axis=None)


def wide_name(name: str) -> str:
    return {"two-folders": "smoothing", "nothing": "smoothing"}.get(name, name)


def test_every_metric_and_interval_is_among_the_expected_ones_and_has_a_unit_and_a_meaning():
    frame = pd.concat(map(expected, EXPECTED))
    # Frozen records have neither phases of several ranks, nor controls, nor changes, nor studies on several hosts, nor
    # three numbers of ranks.
    unseen = {"all_reduce_share", "noise_floor", "change", "slowdown_change", "draws", "sd_between_hosts", "imbalance"}
    unseen |= {"serial_share", "communication_share", "predicted_relative_time"}
    # Nor is an image corrupted.
    unseen |= {"corrupted"}
    # Nor is a target stated.
    unseen |= {"hours_to_target", "reached_rate", "operations_to_target"}
    # Nor is any gain shown.
    unseen |= {"cost_per_point"}
    assert set(METRICS) - set(frame["metric"]) == unseen
    # Nor have they a study whose precision decides its runs, nor seeds that share no images; test_precision.py and
    # test_seed_tables.py do.
    others = {"t over seeds", "Welch t over seeds", "paired two-stage t of log ratios over runs", "bootstrap over runs"}
    others |= {"t of log times over seeds"}
    assert set(INTERVALS) - set(frame["interval"].dropna()) == others
    assert set(frame["interval"].dropna()) <= set(INTERVALS)
    assert all(metric.unit and metric.meaning for metric in METRICS.values())


@pytest.mark.parametrize("name", ["smoothing", "timing", "attempts", "two-folders"])
def test_certificates_join_with_observations_and_give_the_same_figures(name):
    certificates, frame = wide(name, "certificates"), expected(name)
    keys, checked = ["folder", "cell", "evaluation_id"], 0
    groups = dict(list(certificates.groupby(keys)))
    for _, row in frame[frame["metric"].isin(["certified_accuracy", "acr"])].iterrows():
        own = groups.get(tuple(row[keys]))
        if own is None:  # a bound, which measures radii too
            continue
        assert own["image"].is_unique and row["n"] == len(own)
        radii = own["radius"] * own["right"]
        share = (own["right"] & (own["radius"] >= row["radius"])).mean()
        assert row["estimate"] == pytest.approx(share if row["metric"] == "certified_accuracy" else radii.mean())
        checked += 1
    assert checked > 4


@pytest.mark.parametrize("name", EXPECTED)
def test_rounds_give_the_mean_of_an_epoch(name):
    frame = expected(name).fillna({"study": ""})
    rounds = frame[frame["metric"] == "epoch_seconds"]
    assert rounds[["run", "round"]].notna().all(axis=None)
    means = rounds.groupby(["folder", "study", "cell", "run"])["estimate"].mean()
    means = means.groupby(["folder", "study", "cell"]).mean()
    summary = frame[frame["metric"] == "s_per_epoch"].set_index(["folder", "study", "cell"])["estimate"]
    pd.testing.assert_series_equal(summary.sort_index(), means.sort_index(), check_names=False)


@pytest.mark.parametrize("name", EXPECTED)
def test_wide_and_tidy_hold_the_same_times(name):
    table, frame = wide(name), expected(name)
    pairs = {"slowdown": "slowdown", "as_published": "slowdown_as_published", "hours": "hours", "ideal": "ideal"}
    pairs |= {"memory_mb": "memory", "loader_share": "loader_share", "paper_hours": "paper_hours"}
    for column, metric in pairs.items():
        known = table[column].dropna()
        assert sorted(known) == pytest.approx(sorted(frame.loc[frame["metric"] == metric, "estimate"])), column


def test_intervals_say_how_they_are_made_and_what_they_count(tmp_path):
    (study,) = cells(tmp_path, TIMED).studies
    standard, gaussian = study.arms
    seconds = {0: (1.0, 1.2), 1: (1.1, 1.3), 2: (1.4, 1.6)}
    for run, values in seconds.items():
        file = tmp_path / "runs" / study.id / f"run{run}" / "time.jsonl"
        append(file, start(time=86400.0 * run, dirty=run == 2))
        for turn, value in enumerate(values, 1):
            append(file, epoch(standard.id, turn, value, 1437, turn))
            append(file, epoch(gaussian.id, turn, 2 * value, 1437, turn))
    frame = load_frame(tmp_path / "m.yaml", tmp_path / "runs").set_index(["cell", "metric"])
    mean, ratio = (frame.loc[key].squeeze() for key in [(standard.id, "s_per_epoch"), (gaussian.id, "slowdown")])
    low, high = stats.t.interval(0.95, 2, 3.8 / 3, stats.sem([1.1, 1.2, 1.5]))
    assert [mean[key] for key in ("estimate", "low", "high")] == pytest.approx([3.8 / 3, low, high])
    assert (mean["interval"], mean["n"], mean["unit"]) == ("t over runs", 3, "s")
    assert (mean["date"], mean["commit"]) == ("1970-01-03T00:00:00Z", "c" * 40 + "-dirty")
    assert (ratio["estimate"], ratio["interval"]) == (pytest.approx(2), "paired t of log ratios over runs")
    assert (ratio["compared_with"], ratio["n"], ratio["study"]) == (standard.id, 3, study.id)
    first = frame.loc[standard.id, "epoch_seconds"].iloc[0]
    assert (first["run"], first["round"], first["estimate"], first["n"]) == (0, 1, pytest.approx(1.0), 1)


def test_epochs_of_a_training_count_from_1_and_accuracies_name_their_evaluation(tmp_path):
    trained(tmp_path)
    frame = load_frame(str(tmp_path / "m.yaml"), [str(tmp_path / "runs")])
    standard, gaussian = (frame[frame["cell"] == cell.id] for cell in cells(tmp_path, TRAINED).cells)
    rounds = standard[standard["metric"] == "epoch_seconds"]
    # The first epoch is warm-up.
    assert rounds["round"].tolist() == [2, 3, 4]
    assert rounds["estimate"].tolist() == pytest.approx([1.0, 2.0, 3.0])
    (clean,) = gaussian[gaussian["metric"] == "clean"].to_dict("records")
    assert clean["evaluation"].startswith("Clean") and (clean["estimate"], clean["n"]) == (1.0, 4)
    certified = gaussian[gaussian["metric"] == "certified_accuracy"].set_index("radius")["estimate"]
    assert certified.loc[[0.0, 0.25]].tolist() == [0.5, 0.25]
    published = gaussian[gaussian["metric"] == "paper_certified_accuracy"]
    assert published[["radius", "estimate"]].to_numpy().tolist() == [[0.25, 0.6775]]
    assert set(frame["threat"]) == {"l2"} and set(frame["sigma"]) == {0.25} and set(frame["seed"].dropna()) == {0}


@pytest.mark.parametrize(
    ("manifest", "runs", "options"),
    [
        ("smoothing", ["runs"], {"allow": ["precision"]}),
        ("gpu", ["gpu-runs"], {"grid_intensity": 400, "hourly_rate": 2.5}),
        ("smoothing", ["runs", "gpu-runs"], {"allow": ["precision"]}),
        ("quick", ["runs"], {"quick": True}),
    ],
)
def test_a_loaded_frame_has_the_rows_of_the_csv(tmp_path, monkeypatch, manifest, runs, options):
    monkeypatch.chdir(HOME)
    frame = load_frame(f"manifests/{manifest}.yaml", runs, **options)
    words = [word for folder in runs for word in ("--runs", folder)]
    words += [word for name in options.get("allow", ()) for word in ("--allow", name)]
    words += ["--quick"] * options.get("quick", False)
    for key in ("grid_intensity", "hourly_rate"):
        words += [f"--{key.replace('_', '-')}={options[key]}"] if key in options else []
    done = CliRunner().invoke(app, [f"manifests/{manifest}.yaml", *words, "--csv", str(tmp_path / "t.csv")])
    assert done.exit_code == 0 and f"wrote {tmp_path / 't.csv'}" in done.output
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == frame.to_csv(index=False)
    read = pd.read_csv(StringIO(frame.to_csv(index=False)))
    assert len(read) == len(frame) and read["estimate"].tolist() == pytest.approx(frame["estimate"].tolist())


def test_what_cannot_be_loaded_is_named(tmp_path):
    cells(tmp_path, TRAINED)
    with pytest.raises(ValueError, match=r"runs .*nowhere: no such folder"):
        load_frame(tmp_path / "m.yaml", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"--allow colour: no such field \(allowed: device"):
        load_frame(tmp_path / "m.yaml", tmp_path, allow=["colour"])
    with pytest.raises(ValueError, match="--hourly-rate -1: allowed are finite numbers of 0 or more"):
        load_frame(tmp_path / "m.yaml", tmp_path, hourly_rate=-1)


def test_importing_reports_is_light():
    code = "import sys, reports; print(bool({'pandas', 'numpy', 'torch', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# The page


def listed(heading: str) -> list[list[str]]:
    """Cells of the table below a heading of the page."""
    section = PAGE.split(f"\n### {heading}\n")[1].split("\n#")[0]
    lines = re.findall(r"^\| (.*) \|$", section, re.M)[2:]
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_the_page_lists_all_columns_metrics_and_intervals():
    assert listed("Columns") == [[f"`{name}`", meaning] for name, meaning in COLUMNS.items()]
    assert listed("Metrics") == [[f"`{name}`", metric.unit, metric.meaning] for name, metric in METRICS.items()]
    assert listed("Intervals") == [[name, meaning] for name, meaning in INTERVALS.items()]


def test_the_notebook_example_runs_as_it_is_written(tmp_path):
    (code,) = re.findall(r"```python\n(from reports import load_frame\n.*?)```", PAGE, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) == 5
    for part in ("manifests", "runs"):
        shutil.copytree(HOME / part, tmp_path / part)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    table = wide("lipschitz").dropna(subset=["hours", "at_eps"])
    assert len(table) and all(re.search(rf"^{re.escape(method)} ", done.stdout, re.M) for method in table["method"])
