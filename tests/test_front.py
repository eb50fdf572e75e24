"""The Pareto front and its uncertainty, and the table of what robustness costs."""

import math

import numpy as np
import pytest
from test_verdict import CELLS, HEAD, TIMED, recorded

from bench.results.contenders import settings
from bench.results.front import drawn_costs, drawn_means, front_frequencies, pareto
from bench.results.statistics import Interval
from reports.tables.robustness_cost import robustness_cost

RIGHT = {"Standard": 60, "Gaussian": 400, "SmoothMix": 250}


def dominated(cost, value, k):
    return any(
        cost[j] <= cost[k] and value[j] >= value[k] and (cost[j] < cost[k] or value[j] > value[k])
        for j in range(len(cost))
    )


def test_front_of_many_draws_is_that_of_each():
    random = np.random.default_rng(0)
    cost, value = random.integers(0, 4, (2, 50, 5))
    expected = [[not dominated(c, v, k) for k in range(5)] for c, v in zip(cost, value, strict=True)]
    assert pareto(cost, value).tolist() == expected


def test_drawn_means_have_the_variance_of_seeds_and_images():
    random = np.random.default_rng(1)
    # Seeds differ by far more than images: the variance of a mean of S seeds is that between seeds / S.
    levels = np.array([0.2, 0.5, 0.7])
    table = np.repeat(levels[:, None], 400, axis=1) + random.normal(0, 0.01, (3, 400))
    draws = drawn_means([table], True, np.random.default_rng(2), 4000)[:, 0]
    assert draws.mean() == pytest.approx(levels.mean(), abs=0.01)
    assert draws.var() == pytest.approx(levels.var(ddof=1) / 3, rel=0.1)
    # One seed: only images vary.
    flags = (random.random((1, 400)) < 0.3).astype(float)
    draws = drawn_means([flags], True, np.random.default_rng(3), 4000)[:, 0]
    assert draws.var() == pytest.approx(flags.mean() * (1 - flags.mean()) / 400, rel=0.1)


def test_paired_tables_share_seeds_and_images():
    table = np.random.default_rng(4).random((3, 100))
    first, second = drawn_means([table, table + 0.1], True, np.random.default_rng(5)).T
    assert np.allclose(second - first, 0.1)
    first, second = drawn_means([table, table + 0.1], False, np.random.default_rng(5)).T
    assert np.std(second - first) > 0


def test_drawn_costs_have_the_width_of_their_intervals():
    costs = [Interval(1.0, math.nan, math.nan), Interval(2.0, 1.8, 2.0**2 / 1.8)]
    draws = drawn_costs(costs, np.random.default_rng(6), 20_000)
    assert (draws[:, 0] == 1).all()
    assert np.quantile(draws[:, 1], [0.025, 0.975]) == pytest.approx([1.8, 2.0**2 / 1.8], rel=0.01)


def test_a_dominated_method_is_never_on_the_front_and_a_tie_is_open(tmp_path):
    manifest, measured = recorded(tmp_path, TIMED + CELLS.replace("SEEDS", ""), RIGHT)
    (setting,) = settings(manifest, measured)
    found = {each.label: share for each, share in front_frequencies(setting).items()}
    # SmoothMix costs more than Gaussian and is less robust; Standard is the fastest, Gaussian the most robust.
    assert found == {"Standard": 1.0, "Gaussian": 1.0, "SmoothMix": 0.0}
    equal = {"Standard": 300, "Gaussian": 301, "SmoothMix": 300}
    manifest, measured = recorded(tmp_path / "tie", TIMED + CELLS.replace("SEEDS", ""), equal)
    (setting,) = settings(manifest, measured)
    found = {each.label: share for each, share in front_frequencies(setting).items()}
    assert found["Standard"] == 1.0 and 0.3 < found["Gaussian"] < 0.9


def test_the_table_of_costs(tmp_path):
    manifest, measured = recorded(tmp_path, TIMED + CELLS.replace("SEEDS", ""), RIGHT)
    rows = robustness_cost(settings(manifest, measured), measured).set_index("method")
    assert rows.loc["Gaussian", "cost"] == pytest.approx(1.25, rel=0.02)
    assert rows.loc["Gaussian", "gain"] == pytest.approx((400 - 60) / 600)
    points = 100 * (400 - 60) / 600
    assert rows.loc["Gaussian", "cost_per_point"] == pytest.approx(0.25 / points, rel=0.1)
    assert math.isnan(rows.loc["Standard", "cost_per_point"]) and math.isnan(rows.loc["Standard", "gain"])


def test_one_judged_method_has_no_table(tmp_path):
    manifest, measured = recorded(tmp_path, HEAD + CELLS.replace("SEEDS", ""), {"Standard": 60})
    assert robustness_cost(settings(manifest, measured), measured).empty
