"""The number of seeds that shows a stated difference between two methods."""

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.results.over_seeds import difference_over_seeds
from bench.results.power import ASSUMED, MOST, POWER, Spread, images_needed, power, seeds_needed, spread
from bench.results.seeds import crossed, p_value
from bench.submit import app

WIDE = Spread(seeds=0.03**2, images=0.2)


def shown(difference: float, spread: Spread, seeds: int, images: int, pairs: int) -> float:
    """Share of 3,000 simulated studies that show the difference; effects of seeds and images are normal."""
    rng = np.random.default_rng([seeds, images, pairs])
    effects = np.sqrt(spread.seeds) * rng.normal(size=(3000, seeds, 1))
    gaps = difference + effects + np.sqrt(spread.images) * rng.normal(size=(3000, 1, images))
    parts = crossed(gaps, 1)
    return float(((p_value(parts) < 0.05 / pairs) & (parts.mean > 0)).mean())


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("pairs", [1, 15])
def test_the_power_is_that_of_simulated_studies(seeds, pairs):
    for images in (100, 400):
        for difference in (0.05, 0.12):
            expected = shown(difference, WIDE, seeds, images, pairs)
            # Four standard errors of a share of 3,000 studies, and the error of taking the images' variance as known.
            assert power(difference, WIDE, seeds, images, pairs) == pytest.approx(expected, abs=0.04 + 0.02)


def test_the_number_of_seeds_is_the_smallest_with_the_power():
    for difference, images, pairs in ((0.05, 1000, 1), (0.1, 500, 21), (0.3, 200, 3)):
        seeds = seeds_needed(difference, ASSUMED, images, pairs)
        assert seeds is not None and power(difference, ASSUMED, seeds, images, pairs) >= POWER
        assert seeds == 2 or power(difference, ASSUMED, seeds - 1, images, pairs) < POWER


def test_few_images_bound_what_seeds_can_show():
    assert seeds_needed(0.02, ASSUMED, 100) is None
    images = images_needed(0.02, ASSUMED)
    assert seeds_needed(0.02, ASSUMED, images) is not None
    assert power(0.02, ASSUMED, MOST, int(0.97 * images)) < POWER


def test_equal_methods_vary_in_nothing():
    table = {seed: {image: image % 2 == 0 for image in range(50)} for seed in range(3)}
    none = spread(table, table)
    assert none is not None and power(0.2, none, 2, 50) == 1.0 and power(0.0, none, 2, 50) == 0.0


def test_the_variances_are_those_of_the_records():
    rng = np.random.default_rng(5)
    tables = [{seed: dict(enumerate(map(bool, rng.random(300) < share))) for seed in range(4)} for share in (0.5, 0.6)]
    found, gap = spread(*tables), difference_over_seeds(*tables)
    assert found is not None
    gaps = np.array([[tables[0][s][i] - float(tables[1][s][i]) for i in range(300)] for s in range(4)])
    assert found.seeds == pytest.approx(gaps.mean(1).var(ddof=1))
    assert gap.sd == pytest.approx(np.sqrt(found.seeds))
    # A seed more or less: nothing is paired.
    assert spread(tables[0], {seed: tables[1][seed] for seed in range(3)}) is None
    assert spread({0: tables[0][0]}, {0: tables[1][0]}) is None


MANIFEST = """\
title: Power
baseline: Standard
dataset: digits
loader: device
arch: cnn2c2f
pipeline: rrm-linf
threat: {norm: linf, eps: 0.1}
recipe: {epochs: 2, batch_size: 64, lr: 0.1}
cells: [{method: [Standard, SAT], evals: EVALS}]
"""


def dry(folder, evals, *options):
    (folder / "m.yaml").write_text(MANIFEST.replace("EVALS", evals))
    arguments = [str(folder / "m.yaml"), "--runs", str(folder / "runs"), "--data", str(folder), "--launcher", "inline"]
    return CliRunner().invoke(app, [*arguments, "--device", "a100", *options])


def test_a_dry_run_says_how_many_seeds_a_difference_needs(tmp_path):
    result = dry(tmp_path, "[PGD: {steps: 2}]", "--dry-run", "--distinguish", "10")
    seeds = seeds_needed(0.1, ASSUMED, 360)
    expected = f"(digits, cnn2c2f, 360 images) between two of 2 methods needs {seeds} seeds of both (power 80 %, 1 pair"
    assert result.exit_code == 0 and expected in " ".join(result.output.split())
    assert "assumed, for want of records" in result.output and "one more seed of all methods costs" in result.output
    few = dry(tmp_path, "[PGD: {steps: 2}]", "--dry-run", "--distinguish", "0.5")
    assert f"needs more images: {images_needed(0.005, ASSUMED)} or more" in " ".join(few.output.split())
    none = dry(tmp_path, "[Clean]", "--dry-run", "--distinguish", "10")
    assert "No two methods of this manifest are evaluated alike" in none.output


@pytest.mark.parametrize("options", [["--distinguish", "5"], ["--dry-run", "--distinguish", "0"]])
def test_a_difference_without_a_dry_run_or_of_nothing_is_refused(tmp_path, options):
    result = dry(tmp_path, "[Clean]", *options)
    assert result.exit_code == 2 and "(allowed: above 0 and below 100, with --dry-run)" in result.output
