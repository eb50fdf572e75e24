"""Published figures keep the digits, the uncertainty and the unit in which they were printed."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from bench.manifest import read_manifest
from bench.published import PATTERN, Figure, Paper

HEAD = "dataset: digits\narch: resnet20\nrecipe: {epochs: 1, batch_size: 64, lr: 0.1}\n"


@pytest.mark.parametrize(
    ("printed", "value", "plus_minus", "rounding"),
    [
        ("0.550", 0.55, 0, 0.0005),
        ("63.1", 63.1, 0, 0.05),
        ("569", 569, 0, 0.5),
        ("1e-4", 1e-4, 0, 0.5e-4),
        ("1.50e2", 150, 0, 0.5),
        ("455.55 ± 1.17", 455.55, 1.17, 0.005),
        ("1807.58/60", 1807.58 / 60, 0, 0.005 / 60),
        ("101.49*60", 101.49 * 60, 0, 0.3),
        (0.5, 0.5, 0, 0.05),
        (7, 7, 0, 0.5),
    ],
)
def test_a_figure_knows_its_rounding_and_uncertainty(printed, value, plus_minus, rounding):
    figure = Figure(printed)
    assert (figure, figure.plus_minus) == (value, plus_minus)
    assert figure.rounding == pytest.approx(rounding, rel=1e-12)
    assert figure.low == pytest.approx(value - plus_minus - rounding)
    assert figure.high == pytest.approx(value + plus_minus + rounding)


def test_every_value_that_rounds_to_the_print_lies_within_it():
    random = np.random.default_rng(0)
    for exact, digits in zip(random.normal(0, 100, 500), random.integers(0, 7, 500), strict=True):
        figure, unit = Figure(f"{exact:.{digits}f}"), 10.0**-digits
        assert figure.low - 1e-9 * unit <= exact <= figure.high + 1e-9 * unit
        assert not figure.low <= exact + 1.1 * unit <= figure.high


@pytest.mark.parametrize("wrong", [True, None, "much", "nan", "5 ±", "± 5", "1/0", "1*2 ± 3", float("inf"), [1]])
def test_anything_else_is_refused(wrong):
    with pytest.raises((ValueError, ZeroDivisionError), match=r"figure is needed|division|number is needed"):
        Figure(wrong)


def test_a_figure_survives_pickling_and_is_a_number_in_json():
    paper = Paper(s_per_epoch="455.55 ± 1.17", certified={"0.25": "67.10"})
    again = pickle.loads(pickle.dumps(paper))
    assert again == paper and again.s_per_epoch.plus_minus == 1.17
    assert again.certified[0.25].printed == "67.10"
    assert '"s_per_epoch":455.55' in paper.model_dump_json()
    assert Paper.model_validate_json(paper.model_dump_json()) == paper


def paper(tmp_path: Path, figures: str) -> Paper:
    (tmp_path / "m.yaml").write_text(f"{HEAD}cells: [{{method: Standard, paper: {figures}}}]", encoding="utf-8")
    return read_manifest(tmp_path / "m.yaml").cells[0].paper


def test_a_manifest_keeps_the_printed_digits(tmp_path):
    read = paper(tmp_path, "{acr: 0.550, hours: 27.69/60, s_per_epoch: 86.41 ± 0.11, certified: {0: 77.50, 8/255: 5}}")
    assert read.acr.printed == "0.550" and read.acr.rounding == pytest.approx(0.0005)
    assert read.hours == 27.69 / 60 and read.s_per_epoch.plus_minus == 0.11
    assert {radius: figure.printed for radius, figure in read.certified.items()} == {0: "77.50", 8 / 255: "5"}


def test_a_wrong_figure_is_refused_with_its_place(tmp_path):
    with pytest.raises(ValueError, match=re.escape("cells[0].paper.acr: 'much': a printed figure is needed")):
        paper(tmp_path, "{acr: much}")
    with pytest.raises(ValueError, match=re.escape("cells[0].paper.clean")):
        paper(tmp_path, "{clean: true}")


COMPARISON = HEAD + "cells: [{method: [Standard, Gaussian]}]\npublished: {device: V100, comparisons: [%s]}"


def test_what_is_published_of_a_whole_table_is_read(tmp_path):
    (tmp_path / "m.yaml").write_text(COMPARISON % "{slower: Gaussian, faster: Standard, epoch_ratio: 10.70}")
    published = read_manifest(tmp_path / "m.yaml").published
    assert published.device == "V100" and published.comparisons[0].epoch_ratio.printed == "10.70"


@pytest.mark.parametrize(
    ("comparison", "message"),
    [
        ("{slower: SAT, faster: Standard}", "published.comparisons[0].slower: 'SAT' (allowed: Gaussian, Standard)"),
        ("{slower: Gaussian, faster: Standard, arch: dla}", "comparisons[0].arch: 'dla' (allowed: resnet20)"),
        ("{slower: Gaussian}", "published.comparisons[0].faster: missing"),
        ("{slower: Gaussian, faster: Standard, speed: 3}", "published.comparisons[0].speed: unknown key (allowed:"),
    ],
)
def test_a_wrong_comparison_is_refused_with_what_is_allowed(tmp_path, comparison, message):
    (tmp_path / "m.yaml").write_text(COMPARISON % comparison)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_manifest(tmp_path / "m.yaml")


def test_the_pattern_matches_what_is_read():
    assert all(re.fullmatch(PATTERN, text) for text in ("0.550", "455.55 ± 1.17", "101.49*60", "1807.58/60"))
