"""Times at two versions of the code: what became slower is found, and equal times are not told apart."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind
from test_reports import epoch, start
from typer.testing import CliRunner

from bench.manifest import Manifest, read_manifest
from bench.records import append
from bench.results.against import changes
from bench.results.intervals import welch_test
from bench.results.loading import load
from bench.results.unlike import unlike
from reports.__main__ import app

TEXT = """
baseline: Standard
dataset: digits
threat: {norm: l2, sigma: 0.25}
arch: cnn2c2f
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
timing: {runs: 5, rounds: 4}
cells: [{method: [Standard, Gaussian, SmoothMix]}]
"""
SECONDS = {"Standard": 1.0, "Gaussian": 1.25, "SmoothMix": 8.0}
OLD, NEW = "a" * 40, "b" * 40


def read(tmp_path: Path) -> Manifest:
    (tmp_path / "m.yaml").write_text(TEXT)
    return read_manifest(tmp_path / "m.yaml", networks=False)


def timed(manifest: Manifest, runs: Path, commit: str, noise: np.random.Generator, numbers=range(5), **factors) -> None:
    """Record runs of the study, whose processes and rounds vary by 1 % each; a method's factor multiplies its times."""
    (study,) = manifest.studies
    for run in numbers:
        file = runs / study.id / f"run{run}" / "time.jsonl"
        append(file, start(commit=commit))
        for arm in study.arms:
            own = SECONDS[arm.method.name] * factors.get(arm.method.name, 1.0) * np.exp(noise.normal(0, 0.01))
            for turn in range(5):
                append(file, epoch(arm.id, turn, own * np.exp(noise.normal(0, 0.01)), 1437, turn))


def report(tmp_path: Path, *options):
    return CliRunner().invoke(app, [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), *map(str, options)])


def test_p_value_is_that_of_welchs_test():
    noise = np.random.default_rng(0)
    a, b = ([np.exp(noise.normal(0, s, 3)).tolist() for _ in range(n)] for s, n in ((0.1, 4), (0.2, 6)))
    expected = ttest_ind(*[np.log([np.mean(run) for run in runs]) for runs in (a, b)], equal_var=False)
    assert welch_test(a, b) == pytest.approx(expected.pvalue)
    assert welch_test([[2.0], [2.0]], [[2.0], [2.0]]) == 1.0 and welch_test([[2.0], [2.0]], [[1.0], [1.0]]) == 0.0


def test_a_slowdown_is_found_and_a_slower_machine_is_not_taken_for_it(tmp_path):
    manifest, noise, found, false = read(tmp_path), np.random.default_rng(1), 0, 0
    for k in range(20):
        before, after = tmp_path / f"{k}a", tmp_path / f"{k}b"
        timed(manifest, before, OLD, noise)
        # On another day the whole machine is slower by up to a third.
        day = np.exp(noise.uniform(0, 0.3))
        timed(manifest, after, NEW, noise, Standard=day, Gaussian=day, SmoothMix=1.05 * day)
        compared = changes(manifest, load(manifest, [after]), load(manifest, [before]))
        said = {c.now[0].cell.method.name: c.verdict for c in compared}
        found += said["SmoothMix"] == "slower"
        false += said["Gaussian"] != "no change shown"
        assert said["Standard"] in ("machine or shared code", "no change shown")
    # 5 % are 5 standard errors or more. Of 20 pairs of equal times one is expected to differ; 5 have probability 0.003.
    assert found >= 19 and false < 5


def test_the_change_of_a_slowdown_is_that_of_the_rounds_beside_the_baseline(tmp_path):
    manifest, noise = read(tmp_path), np.random.default_rng(6)
    folders = [tmp_path / name for name in ("before", "now")]
    for folder, factor in zip(folders, (1.0, 1.3), strict=True):
        timed(manifest, folder, OLD, noise, Gaussian=factor)
    old, new = (load(manifest, [folder]) for folder in folders)
    change = next(c for c in changes(manifest, new, old) if c.now[0].cell.method.name == "Gaussian")
    logs = []
    for measured in (new, old):
        by_name = {(m.cell.method.name, m.cell.recipe.batch_size): m for m in measured}
        pair = by_name["Gaussian", 64], by_name["Standard", 64]
        seconds = [np.array([[e.seconds for e in run.values()] for run in m.runs.values()]) for m in pair]
        logs.append(np.log(seconds[0] / seconds[1]).mean(axis=1))
    expected = ttest_ind(*logs, equal_var=False)
    ends = expected.confidence_interval(0.95)
    assert change.slowdown == pytest.approx(np.exp([logs[0].mean() - logs[1].mean(), ends.low, ends.high]))
    # Holm: the smaller of two p-values; those of the two baselines are a family of their own.
    assert change.p == pytest.approx(2 * expected.pvalue) and change.verdict == "slower"


def test_a_baseline_that_became_slower_is_reported_but_not_taken_for_a_slower_method(tmp_path):
    manifest, noise = read(tmp_path), np.random.default_rng(7)
    every = dict.fromkeys(SECONDS, 1.5)
    timed(manifest, tmp_path / "before", OLD, noise)
    timed(manifest, tmp_path / "runs", NEW, noise, **every)
    done = report(tmp_path, "--against", tmp_path / "before", "--wide")
    words = " ".join(done.output.split())
    assert done.exit_code == 0 and "relative to the baseline, no change shown; the baseline itself: cnn2c2f" in words
    assert "by the machine or by code that all methods share." in words and "machine or shared code" in words


def test_a_report_against_another_folder(tmp_path):
    manifest, noise = read(tmp_path), np.random.default_rng(2)
    timed(manifest, tmp_path / "before", OLD, noise)
    timed(manifest, tmp_path / "runs", NEW, noise, SmoothMix=1.2, Gaussian=0.8)
    done = report(tmp_path, "--against", tmp_path / "before", "--csv", tmp_path / "o.csv")
    assert done.exit_code == 1
    assert "- Times against before, of 4 cells: relative to the baseline, slower: cnn2c2f SmoothMix" in done.output
    assert "faster: cnn2c2f Gaussian 0." in done.output and "relative to before" in done.output
    tidy = pd.read_csv(tmp_path / "o.csv").query("metric == 'change' and method == 'SmoothMix'")
    assert tidy["estimate"].between(1.15, 1.25).all() and set(tidy["interval"]) == {"Welch t of log ratios"}
    assert report(tmp_path, "--against", tmp_path / "runs").exit_code == 0
    shutil.copy(tmp_path / "m.yaml", tmp_path / "other.yaml")
    both = report(tmp_path, tmp_path / "other.yaml", "--against", tmp_path / "before")
    assert both.exit_code == 1 and "slower: cnn2c2f SmoothMix" in both.output
    assert report(tmp_path).exit_code == 0 and "relative to before" not in report(tmp_path).output


def test_a_report_against_a_commit_in_the_same_folder(tmp_path):
    manifest, noise = read(tmp_path), np.random.default_rng(3)
    timed(manifest, tmp_path / "runs", OLD, noise, range(2))
    timed(manifest, tmp_path / "runs", NEW, noise, range(2, 5), Gaussian=2.0)
    done = report(tmp_path, "--against", OLD[:7])
    assert done.exit_code == 1 and "slower: cnn2c2f Gaussian 2.0" in done.output
    lines = unlike(load(manifest, [tmp_path / "runs"]))
    assert lines == [
        "Compared times come from 2 commits of this project: aaaaaaaaaa (4 cells), bbbbbbbbbb (4 cells). Measure all at"
        " one commit, or compare commits by --against."
    ]
    assert lines[0] in report(tmp_path).output


def test_one_run_tells_nothing(tmp_path):
    manifest, noise = read(tmp_path), np.random.default_rng(4)
    timed(manifest, tmp_path / "before", OLD, noise)
    timed(manifest, tmp_path / "runs", NEW, noise, range(1), SmoothMix=3.0)
    done = report(tmp_path, "--against", tmp_path / "before")
    assert done.exit_code == 0 and "4 of them cannot be told with fewer than 2 runs on each side" in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--against", "cccccccc"),
            "--against cccccccc: neither a folder nor one recorded commit (allowed: a runs folder,",
        ),
        (("--against", "aaa"), "(allowed: a runs folder, aaaaaaaaaa)"),
        (("--against", "aaaaaaa", "--runs", "other"), "with 2 --runs (allowed: one)"),
    ],
)
def test_a_wrong_name_is_refused(tmp_path, options, words):
    timed(read(tmp_path), tmp_path / "runs", OLD, np.random.default_rng(5), range(1))
    done = report(tmp_path, *options)
    assert done.exit_code == 2 and words in done.stderr and not done.stdout


def test_hosts_power_limits_and_clocks_are_remarked_on(tmp_path):
    text = TEXT.replace("timing: {runs: 5, rounds: 4}\n", "")
    (tmp_path / "m.yaml").write_text(text)
    manifest = read_manifest(tmp_path / "m.yaml", networks=False)
    for cell, host, watts in zip(manifest.cells, ("n1", "n2", "n1"), (300.0, 300.0, 400.0), strict=True):
        file = tmp_path / "runs" / cell.id / "train.jsonl"
        append(file, start(commit=OLD, host=host, watts=watts))
        append(file, epoch(cell.id, 1, 1.0, 1437, 1))
    assert [line.partition(". ")[0] for line in unlike(load(manifest, [tmp_path / "runs"]))] == [
        "Compared times come from 2 hosts: n1 (2 cells), n2 (1 cell)",
        "Compared times come from 2 power limits of the GPU: 300 W (2 cells), 400 W (1 cell)",
    ]
    shutil.rmtree(tmp_path / "runs")
