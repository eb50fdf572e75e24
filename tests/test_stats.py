"""Intervals against formulas written out, edge cases, and how often they hold the truth."""

import csv
import math

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from bench.results import intervals
from bench.results.intervals import (
    drift,
    fieller_ratio,
    mean_ratio,
    nested_ci,
    outliers,
    paired_ratio,
    runs_ci,
    welch_ratio,
)
from bench.results.statistics import mean_ci
from reports import coverage
from reports import interval_coverage as simulation

SLOW = [[8.1, 8.3, 8.2], [8.6, 8.4, 8.7], [7.9, 8.0, 8.1], [8.2, 8.5, 8.0]]
FAST = [[1.00, 1.02], [1.05, 1.03], [0.97, 0.99]]
LOGS = [
    [[0.70, 0.74], [0.66, 0.68], [0.73, 0.69], [0.71, 0.75]],
    [[1.40, 1.36], [1.45, 1.41], [1.38, 1.42]],
    [[2.10, 2.05, 2.12], [2.00, 2.04, 2.01], [2.09, 2.02, 2.06]],
]
WAVE = [1.00, 1.03, 1.02, 1.05, 1.01, 1.02, 0.97, 1.00, 0.96, 0.99, 1.02, 0.98]
LATER = [1.3 * v**2 for v in WAVE[:8]]


def t(df: float) -> float:
    return scipy_stats.t.ppf(0.975, df)


def average(values) -> float:
    return math.fsum(values) / len(values)


def variance(values) -> float:
    """Variance of the mean of independent values."""
    return math.fsum((v - average(values)) ** 2 for v in values) / (len(values) - 1) / len(values)


def satterthwaite(variances, df) -> float:
    return sum(variances) ** 2 / sum(v**2 / d for v, d in zip(variances, df, strict=True))


def within(values) -> tuple[float, float, float]:
    """Mean, its variance and degrees of freedom, with an effective sample size."""
    n, mean = len(values), average(values)
    squares = sum((v - mean) ** 2 for v in values)
    lagged = sum((values[k] - mean) * (values[k + 1] - mean) for k in range(n - 1))
    r = (n * lagged / squares + 1) / (n - 3)
    worth = min(max(n * (1 - r) / (1 + r), 2), n) if -1 < r < 1 else 2 if r >= 1 else n
    return mean, squares / (n * (worth - 1)), worth - 1


def ends_are_missing(interval) -> bool:
    return math.isfinite(interval.mean) and math.isnan(interval.low) and math.isnan(interval.high)


def test_over_runs():
    means = [average(run) for run in SLOW]
    half = t(3) * math.sqrt(variance(means))
    assert runs_ci(SLOW) == pytest.approx((average(means), average(means) - half, average(means) + half))
    assert runs_ci([*SLOW, []]) == runs_ci(SLOW) == nested_ci(SLOW)
    assert runs_ci([[2.0], [2.0]]) == (2.0, 2.0, 2.0)
    assert np.isnan([runs_ci([]), runs_ci([[]]), mean_ci([])]).all()
    assert ends_are_missing(runs_ci([[1.0, 2.0]]))


def test_within_a_run():
    mean, var, df = within(WAVE)
    assert 1 < df < 6  # the wave is autocorrelated
    half = t(df) * math.sqrt(var)
    assert nested_ci([WAVE]) == pytest.approx((mean, mean - half, mean + half))
    assert nested_ci([WAVE]) == nested_ci([WAVE, []])


def test_within_a_run_at_the_edges():
    zigzag = [1.0, 1.2] * 4
    assert nested_ci([zigzag]) == pytest.approx(mean_ci(zigzag))  # never worth more than they are
    assert nested_ci([[1.0, 1.3, 1.1]]) == pytest.approx(mean_ci([1.0, 1.3, 1.1]))
    rising = [float(k) for k in range(10)]
    assert nested_ci([rising]).high == pytest.approx(4.5 + t(1) * math.sqrt(np.var(rising)))  # worth two values
    assert nested_ci([[2.0] * 5]) == (2.0, 2.0, 2.0)
    assert ends_are_missing(nested_ci([[1.0]])) and np.isnan(nested_ci([[]])).all()


def test_two_runs_are_combined_within():
    one, two = within(WAVE), within(LATER)
    parts = [one[1] / 4, two[1] / 4]
    half = t(satterthwaite(parts, [one[2], two[2]])) * math.sqrt(sum(parts))
    mean = (one[0] + two[0]) / 2
    assert nested_ci([WAVE, LATER]) == pytest.approx((mean, mean - half, mean + half))
    assert ends_are_missing(nested_ci([WAVE, [1.0]])) and ends_are_missing(nested_ci([[1.0], [2.0]]))


def test_a_time_is_not_negative():
    few = [4.0, 11.0]
    plain = mean_ci(few)
    assert plain.low < 0 and nested_ci([few]) == (plain.mean, 0, plain.high)
    apart = [[1.0], [1.0], [9.0]]
    assert runs_ci(apart).low < 0 and nested_ci(apart) == runs_ci(apart)._replace(low=0)


def test_logs_may_be_negative():
    over, under = (paired_ratio([[sign * v for v in run] for run in LOGS[0]]) for sign in (1, -1))
    assert under == pytest.approx((1 / over.mean, 1 / over.high, 1 / over.low))
    assert 0 < paired_ratio([[-0.1, 0.2]]).low < 1


def test_paired_ratio():
    low, high = scipy_stats.t.interval(0.95, 3, np.mean(LOGS[0]), scipy_stats.sem(np.mean(LOGS[0], axis=1)))
    assert paired_ratio(LOGS[0]) == pytest.approx([math.exp(v) for v in (np.mean(LOGS[0]), low, high)])
    assert paired_ratio(LOGS[0][:1]) == pytest.approx([math.exp(v) for v in mean_ci(LOGS[0][0])])
    assert np.isnan(paired_ratio([])).all() and paired_ratio([[0.0]] * 3) == (1.0, 1.0, 1.0)


def test_welch_ratio():
    a, b = ([math.log(average(run)) for run in runs] for runs in (SLOW, FAST))
    parts = [variance(a), variance(b)]
    half = t(satterthwaite(parts, [3, 2])) * math.sqrt(sum(parts))
    difference = average(a) - average(b)
    expected = [math.exp(v) for v in (difference, difference - half, difference + half)]
    assert welch_ratio(SLOW, FAST) == pytest.approx(expected)
    turned = welch_ratio(FAST, SLOW)
    assert (1 / turned.mean, 1 / turned.high, 1 / turned.low) == pytest.approx(expected)
    assert ends_are_missing(welch_ratio(SLOW, FAST[:1])) and ends_are_missing(welch_ratio(SLOW[:1], FAST))
    assert np.isnan([welch_ratio(SLOW, []), welch_ratio([[]], FAST)]).all()
    assert welch_ratio([[1.0], [1.0]], [[2.0], [2.0]]) == pytest.approx((0.5, 0.5, 0.5))


def test_fieller_ratio():
    a, b = ([average(run) for run in runs] for runs in (SLOW, FAST))
    ratio = average(a) / average(b)
    quantile = t(satterthwaite([variance(a), ratio**2 * variance(b)], [3, 2]))

    def outside(r: float) -> float:
        return (average(a) - r * average(b)) ** 2 - quantile**2 * (variance(a) + r**2 * variance(b))

    expected = (ratio, optimize.brentq(outside, ratio / 2, ratio), optimize.brentq(outside, ratio, ratio * 2))
    assert fieller_ratio(SLOW, FAST) == pytest.approx(expected)
    assert fieller_ratio(SLOW, FAST) == pytest.approx(welch_ratio(SLOW, FAST), rel=0.01)
    assert fieller_ratio([[4.0], [4.0]], [[2.0], [2.0]]) == (2.0, 2.0, 2.0)
    assert ends_are_missing(fieller_ratio(SLOW, FAST[:1])) and np.isnan(fieller_ratio([], FAST)).all()


def test_fieller_without_bounds():
    wild = [[0.1], [9.0], [2.0]]
    half_open = fieller_ratio(SLOW, wild)
    assert half_open.high == math.inf and 0 < half_open.low < half_open.mean
    assert fieller_ratio(wild, wild)[1:] == (0, math.inf)
    bounded = fieller_ratio(wild, FAST)
    assert bounded.low == 0 and math.isfinite(bounded.high)


def test_mean_ratio_of_one_architecture_is_its_ratio():
    for kind in ("geometric", "arithmetic"):
        assert mean_ratio(LOGS[:1], kind) == pytest.approx(paired_ratio(LOGS[0]))
        assert mean_ratio([LOGS[0][:2]], kind) == pytest.approx(paired_ratio(LOGS[0][:2]))


@pytest.mark.parametrize("kind", ["geometric", "arithmetic"])
def test_mean_ratio(kind):
    def log_of_mean(logs):
        return average(logs) if kind == "geometric" else math.log(average([math.exp(v) for v in logs]))

    means = [[average(run) for run in runs] for runs in LOGS]
    logs = np.array([average(runs) for runs in means])
    slopes = optimize.approx_fprime(logs, log_of_mean)
    parts = [slope**2 * variance(runs) for slope, runs in zip(slopes, means, strict=True)]
    half = t(satterthwaite(parts, [3, 2, 2])) * math.sqrt(sum(parts))
    middle = log_of_mean(logs)
    expected = [math.exp(v) for v in (middle, middle - half, middle + half)]
    assert mean_ratio(LOGS, kind) == pytest.approx(expected, rel=1e-6)
    assert np.isnan(mean_ratio([], kind)).all() and np.isnan(mean_ratio([*LOGS, []], kind)).all()
    assert ends_are_missing(mean_ratio([*LOGS, [[1.0]]], kind))


def test_drift_is_named_where_it_is_sure_and_large():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.002, 20)
    assert drift(list(np.exp(noise + np.linspace(0, 0.1, 20)))) == pytest.approx(math.expm1(0.1), abs=0.01)
    assert drift(list(np.exp(noise - np.linspace(0, 0.1, 20)))) == pytest.approx(math.expm1(-0.1), abs=0.01)
    assert drift(list(np.exp(noise))) is None
    assert drift(list(np.exp(np.linspace(0, 0.01, 20)))) is None  # sure, but below 2 %
    assert drift([1.0, 2.0, 3.0, 4.0]) is None  # large, but four values cannot be sure
    assert drift([]) is drift([1.0]) is drift([1.0] * 9) is None


@pytest.mark.parametrize("digits", [1, 9])
def test_drift_is_sure_as_kendalls_tau_is(digits):
    rng, seen = np.random.default_rng(2), set()
    for n in (7, 12, 25, 40):
        for slope in np.linspace(0, 4, 25):
            # Rounded to one digit, many values are alike.
            values = np.exp(0.3 * np.round(rng.normal(0, 1, n) + np.linspace(0, slope, n), digits)).tolist()
            p, found = scipy_stats.kendalltau(range(n), values).pvalue, drift(values)
            slopes = scipy_stats.theilslopes(np.log(values))
            if p < 0.005 or p > 0.02:
                assert (found is not None) == (p < 0.01 and abs(math.expm1(slopes.slope * (n - 1))) >= 0.02)
            assert found is None or found == pytest.approx(math.expm1(slopes.slope * (n - 1)))
            seen.add(found is None)
    assert seen == {True, False}


def test_outliers_are_flagged():
    values = [1.00, 1.01, 0.99, 1.02, 0.98, 1.00, 1.60, 1.01, 0.60]
    logs = np.log(values)
    spread = np.median(abs(logs - np.median(logs)))
    by_hand = [k for k, v in enumerate(logs) if 0.6745 * abs(v - np.median(logs)) / spread > 3.5]
    assert outliers(values) == by_hand == [6, 8]
    assert outliers([]) == outliers([1.0]) == outliers([2.0] * 5) == []
    assert outliers([1.0, 1.0, 1.0, 5.0]) == [3]


def test_intervals_over_runs_hold_the_truth_and_naive_ones_do_not():
    for case in (simulation.Case(0.5), simulation.Case(0.5, host=0.05)):
        rows = simulation.simulate(case, 5, 400)
        assert len(rows) == 9
        for row in rows:
            if row["interval"].startswith("naive"):
                assert row["coverage"] < 0.75, row
            elif "pairs ignored" in row["interval"] and case.host:
                assert row["coverage"] > 0.99, row
            else:
                assert scipy_stats.binomtest(round(400 * row["coverage"]), 400, 0.95).pvalue > 1e-3, row


def test_effective_sample_size_mends_most_of_what_autocorrelation_breaks():
    mended, long_run, naive = (row["coverage"] for row in simulation.simulate(simulation.Case(0.5), 1, 400))
    assert mended > 0.87 and naive < 0.82 and long_run < 0.8


def test_pairing_takes_the_host_out_of_the_width():
    widths = [
        {row["interval"]: row["width"] for row in simulation.simulate(case, 3, 100)} for case in simulation.CASES[1::2]
    ]
    paired, separate = ([w[name] for w in widths] for name in list(widths[0])[1:3])
    assert paired[1] < 1.5 * paired[0] and separate[1] > 1.5 * separate[0]


def test_command_writes_pages_tables_and_plots(tmp_path):
    result = CliRunner().invoke(coverage.app, ["--replicates", "4", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    with open(tmp_path / "intervals.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(simulation.CASES) * (2 * 3 + 3 * 9)
    text = (tmp_path / "intervals.md").read_text()
    assert "python -m reports.coverage --replicates 4`" in text and "| ratio: paired logs, t over runs | 10 |" in text
    page = (tmp_path / "seeds.md").read_text()
    assert (
        "python -m reports.coverage --replicates 4`" in page
        and "| no effect of the seed | 64 | seeds x images |" in page
    )
    pages = {f"{name}.{suffix}" for name in ("intervals", "seeds", "precision", "front") for suffix in ("md", "csv")}
    pages |= {"anytime.md", "anytime-draws.csv", "anytime-guarantee.csv"}
    assert {path.name for path in tmp_path.iterdir()} == pages | {"intervals.png", "seeds.png"}
    assert all(0 < path.stat().st_size < 200_000 for path in tmp_path.iterdir())


def test_ends_of_a_bootstrap_are_quantiles_to_the_last_bit():
    random = np.random.default_rng(0)
    for draws in (
        random.normal(size=9999),
        random.standard_t(1.2, size=9999),  # heavy tails: the ends may lie within 1.5 standard deviations
        np.round(random.exponential(size=9999), 1),
        np.zeros(100),
        random.normal(size=7),
    ):
        assert intervals._middle(draws) == tuple(np.quantile(draws, ((1 - 0.95) / 2, (1 + 0.95) / 2)))
