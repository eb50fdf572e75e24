"""Tests of the spread by level, the costs, the best number of rounds, and the runs that a plan names."""

import math

import numpy as np
import pytest
from test_precision import ASKED, OFFSETS, expected_runs, read, recorded
from test_reports import epoch, start
from typer.testing import CliRunner

from bench import submit
from bench.records import End, append
from bench.results import load
from bench.results.variance import Components, Costs, best_rounds, components, costs
from reports import __main__ as reports
from reports.tables.repetitions import repetitions

ROUNDS, RUNS, HOSTS = 0.03, 0.02, 0.05


def draws(hosts: int, runs: int, rounds: int) -> tuple[dict[int, list[float]], dict[int, str]]:
    """Log ratios by run with the standard deviations ROUNDS, RUNS and HOSTS, and the host of each run."""
    rng = np.random.default_rng(5)
    level = rng.normal(0, HOSTS, hosts).repeat(runs) + rng.normal(0, RUNS, hosts * runs)
    logs = {run: list(value + rng.normal(0, ROUNDS, rounds)) for run, value in enumerate(level)}
    return logs, {run: f"host{run // runs}" for run in logs}


def test_levels_of_variance_are_told_apart():
    found = components(*draws(hosts=400, runs=5, rounds=4))
    assert np.allclose(found, (ROUNDS, RUNS, HOSTS), rtol=0.1)
    logs, _ = draws(hosts=1, runs=2000, rounds=4)
    one = components(logs, dict.fromkeys(logs, "h"))
    assert np.allclose(one[:2], (ROUNDS, RUNS), rtol=0.1) and math.isnan(one.hosts)


def test_hosts_of_one_run_each_are_not_told_from_runs():
    found = components(*draws(hosts=2000, runs=1, rounds=4))
    assert math.isnan(found.hosts) and math.isclose(found.runs, math.hypot(RUNS, HOSTS), rel_tol=0.1)


def test_few_values_leave_a_level_unknown_and_runs_that_agree_have_no_spread():
    assert math.isnan(components({0: [0.1, 0.2]}, {}).runs)
    assert math.isnan(components({0: [0.1], 1: [0.2]}, {}).rounds)
    assert components({0: [0.1, 0.2], 1: [0.1, 0.2]}, {}).runs == 0


def test_the_best_number_of_rounds_gives_the_smallest_variance_for_the_same_time():
    cost, found = Costs(2.0, 30.0), Components(0.05, 0.02, math.nan)
    counts = np.arange(1, 100)
    # In a given time, the number of runs is in inverse proportion to the time of each.
    variances = (cost.of_run + counts * cost.of_round) * (found.runs**2 + found.rounds**2 / counts)
    assert abs(counts[variances.argmin()] - best_rounds(found, cost)) <= 0.5
    assert best_rounds(found._replace(runs=0.0), cost) == math.inf
    assert math.isnan(best_rounds(found, Costs(math.nan, math.nan)))


def test_costs_are_those_of_all_arms(tmp_path):
    manifest = read(tmp_path, ASKED)
    (study,) = manifest.studies
    for run in range(3):
        file = tmp_path / "runs" / study.id / f"run{run}" / "time.jsonl"
        append(file, start(time=100.0))
        for arm in study.arms:
            for turn in range(3):
                pace = 3.0 if turn else 7.0
                own = OFFSETS[run] if arm.method.name == "Gaussian" else 0.0
                append(file, epoch(arm.id, turn, pace * math.exp(own), 64, turn))
        append(file, End(time=140.0))
    measured = load(manifest, [tmp_path / "runs"])
    found = costs(measured)
    # Two timed rounds of two arms of about 3 s each.
    assert found.of_round == pytest.approx(6.0, rel=0.05) and found.of_run == pytest.approx(28.0, rel=0.05)
    (row,) = repetitions(manifest, measured).to_dict("records")
    assert (row["method"], row["runs"], row["rounds"], row["hosts"]) == ("Gaussian", 3, 2, 1)
    assert row["sd_rounds"] < 1e-9 and row["sd_runs"] == pytest.approx(np.std(OFFSETS, ddof=1))
    done = CliRunner().invoke(reports.app, [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 0 and "Where repetitions pay" in done.output


def test_a_plan_says_how_many_runs_a_precision_needs(tmp_path):
    manifest = read(tmp_path, ASKED)
    (study,) = manifest.studies
    where = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--data", str(tmp_path)]
    where += ["--launcher", "local", "--dry-run"]
    listed = CliRunner().invoke(submit.app, where)
    needed = expected_runs((-0.02, 0.0, 0.02), 0.02)
    assert f"±2 % of each ratio of {study.id} needs {needed} runs, " in listed.output, listed.output
    assert "more: assumed, for want of records: runs differ by 2 % (sd); at_most ends it at 12" in listed.output
    recorded(tmp_path / "runs", study, OFFSETS)
    listed = CliRunner().invoke(submit.app, where)
    assert f"needs {expected_runs(OFFSETS, 0.02)} runs, " in listed.output
    assert "more: by the first 3 runs differ by 1.2 % (sd)." in listed.output
