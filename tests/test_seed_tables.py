"""The tables of methods over their seeds and the observations of them, on made-up records."""

import math
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from bench.cell import Cell
from bench.manifest import Manifest, read_manifest
from bench.records import Verdict, append
from bench.results.contenders import settings
from bench.results.intervals import mcnemar
from bench.results.loading import load
from bench.results.over_seeds import collapse_coverage, difference_over_seeds, mean_over_seeds
from bench.results.seeds import holm
from reports import load_frame
from reports.__main__ import app
from reports.tables.seeds import seed_differences, seed_differences_table, seeds, seeds_table

HEAD = """
title: Seeds
baseline: Standard
dataset: digits
threat: {norm: l2, sigma: 0.25}
arch: cnn2c2f
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
evals: [Clean: {images: 60}, Smoothing: {images: 60}]
"""
SEVERAL = HEAD + "cells: [{method: [Standard, Gaussian], seed: [0, 1, 2]}, {method: SmoothMix, seed: [0, 1]}]\n"
ONE = HEAD + "cells: [{method: [Standard, Gaussian]}]\n"
RIGHT = {"Standard": 10, "Gaussian": 40, "SmoothMix": 44}
Flags = dict[int, dict[int, bool]]


def robust(cell: Cell, index: int) -> bool:
    """True for the first images, of which each seed has two more than the one before."""
    return index < RIGHT[cell.method.name] + 2 * cell.seed


def read(folder: Path, text: str, images=lambda cell: range(60)) -> Manifest:
    """A manifest with verdicts: robust images have radius 0.6, clean ones are right up to image 50 + seed."""
    folder.mkdir(exist_ok=True)
    (folder / "m.yaml").write_text(text)
    manifest = read_manifest(folder / "m.yaml")
    for cell in manifest.cells:
        for spec in cell.evals:
            for index in images(cell):
                radius = (0.6 if robust(cell, index) else 0.3) if spec.name == "Smoothing" else 0.0
                right = spec.name == "Smoothing" or index < 50 + cell.seed
                found = {"label": 1, "prediction": int(right), "radius": radius, "seconds": 0.0}
                append(folder / "runs" / cell.id / "judge.jsonl", Verdict(eval=spec.id, index=index, **found))
    return manifest


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    read(folder, SEVERAL)
    return folder


def flags(manifest: Manifest, name: str) -> Flags:
    own = [cell for cell in manifest.cells if cell.method.name == name]
    return {cell.seed: {i: robust(cell, i) for i in range(60)} for cell in own}


def test_a_row_per_method_has_its_means_over_seeds(several):
    manifest = read_manifest(several / "m.yaml")
    measured = load(manifest, [several / "runs"])
    frame = seeds(settings(manifest, measured), measured).set_index("method")
    assert list(frame.index) == ["Standard", "Gaussian", "SmoothMix"]
    assert frame["seeds"].tolist() == [3, 3, 2] and set(frame["images"]) == {60}
    assert set(frame["figure"]) == {"certified accuracy at l2 radius 0.5 (sigma 0.25)"}
    for name, row in frame.iterrows():
        expected = mean_over_seeds(flags(manifest, str(name)))
        assert (row["accuracy"], row["accuracy_low"], row["accuracy_high"]) == pytest.approx(expected.interval)
        assert row["accuracy_sd"] == pytest.approx(expected.sd)
        assert row["accuracy_interval"] == row["clean_interval"] == "score over seeds and images"
        assert row["acr"] == pytest.approx(0.3 + 0.3 * expected.interval.mean)
        assert row["acr_sd"] == pytest.approx(0.3 * expected.sd)
        assert row["acr_interval"] == "t over seeds and images"
        assert row["collapse_coverage"] == collapse_coverage(row["seeds"])
    assert frame["clean"].tolist() == pytest.approx([51 / 60, 51 / 60, 50.5 / 60])


def test_a_row_per_pair_has_its_difference_and_the_adjusted_p(several):
    manifest = read_manifest(several / "m.yaml")
    measured = load(manifest, [several / "runs"])
    frame = seed_differences(manifest, settings(manifest, measured), measured)
    pairs = [("Standard", "Gaussian"), ("Standard", "SmoothMix"), ("Gaussian", "SmoothMix")]
    assert list(zip(frame["first"], frame["second"], strict=True)) == pairs
    expected = [difference_over_seeds(*(flags(manifest, name) for name in pair)) for pair in pairs]
    assert frame["holm_p"].tolist() == pytest.approx(holm([each.p for each in expected]))
    assert set(frame["comparisons"]) == {3} and frame["seeds"].tolist() == [3, 2, 2]
    for (_, row), gap in zip(frame.iterrows(), expected, strict=True):
        ends = [row[f"accuracy_difference{end}"] for end in ("", "_low", "_high")]
        assert ends == pytest.approx(list(gap.interval)) and row["accuracy_interval"] == gap.made
    assert frame["accuracy_interval"].tolist() == [
        "paired t over seeds and images",
        "Welch t over seeds and images",
        "Welch t over seeds and images",
    ]
    assert frame["couple"].tolist() == ["baseline", "baseline", "other"]
    for (_, row), (first, second) in zip(frame.iterrows(), pairs, strict=True):
        a, b = flags(manifest, first), flags(manifest, second)
        single = [mcnemar([*a[s].values()], [*b[s].values()]) for s in a.keys() & b.keys()]
        assert row["alone"] == sum(p < 0.05 for p in single)
    (spec,) = seed_differences_table(frame)
    assert len(spec.rows) == 2


def test_one_seed_has_no_tables(tmp_path):
    manifest = read(tmp_path, ONE)
    measured = load(manifest, [tmp_path / "runs"])
    compared = settings(manifest, measured)
    assert seeds(compared, measured).empty and seed_differences(manifest, compared, measured).empty
    result = CliRunner().invoke(app, [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 0 and "ver seeds" not in result.output


def test_only_pairs_of_several_seeds_are_shown(tmp_path):
    text = HEAD + "cells: [{method: Standard}, {method: Gaussian, seed: [0, 1, 2]}]\n"
    manifest = read(tmp_path, text)
    measured = load(manifest, [tmp_path / "runs"])
    compared = settings(manifest, measured)
    frame = seed_differences(manifest, compared, measured)
    assert frame["accuracy_interval"].tolist() == ["Newcombe"] and frame["seeds"].tolist() == [1]
    assert list(seed_differences_table(frame)) == []
    (spec,) = seeds_table(seeds(compared, measured))
    assert spec.rows["seeds"].tolist() == [1, 3] and spec.rows["accuracy_interval"][0] == "Wilson"
    assert math.isnan(spec.rows["accuracy_sd"][0]) and math.isnan(spec.rows["collapse_coverage"][0])
    observed = load_frame(tmp_path / "m.yaml", tmp_path / "runs")
    own = observed[observed["metric"].str.contains("over_seeds|holm")]
    assert set(own["cell"]) == {cell.id for cell in manifest.cells if cell.method.name == "Gaussian" and not cell.seed}


def test_seeds_without_common_images_say_so(tmp_path):
    read(tmp_path, SEVERAL, images=lambda cell: range(20 * cell.seed, 20 * cell.seed + 20))
    frame = load_frame(tmp_path / "m.yaml", tmp_path / "runs").set_index("metric")
    assert set(frame.loc["accuracy_over_seeds", "interval"]) == {"t over seeds"}
    assert set(frame.loc["accuracy_difference_over_seeds", "interval"]) == {"Welch t over seeds"}


def test_observations_of_seeds_name_the_first_cell_and_no_seed(several):
    manifest = read_manifest(several / "m.yaml")
    frame = load_frame(several / "m.yaml", several / "runs")
    first = {cell.method.name: cell.id for cell in manifest.cells if not cell.seed}
    own = frame[frame["metric"].str.contains("over_seeds|holm")]
    assert own["seed"].isna().all() and set(own["cell"]) <= set(first.values())
    table = own.set_index(["cell", "metric"])
    gaussian = table.loc[first["Gaussian"], "accuracy_over_seeds"].squeeze()
    expected = mean_over_seeds(flags(manifest, "Gaussian"))
    assert (gaussian["estimate"], gaussian["low"], gaussian["high"]) == pytest.approx(expected.interval)
    assert (gaussian["n"], gaussian["radius"], gaussian["interval"]) == (3, 0.5, expected.made)
    assert gaussian["evaluation"].startswith("Smoothing")
    spread = table.loc[first["Gaussian"], "accuracy_sd_over_seeds"].squeeze()
    assert spread["estimate"] == pytest.approx(expected.sd) and pd.isna(spread["interval"])
    gap = own[(own["metric"] == "holm_p") & (own["compared_with"] == first["SmoothMix"])]
    assert set(gap["cell"]) == {first["Standard"], first["Gaussian"]} and gap["estimate"].between(0, 1).all()


def test_every_form_of_a_report_has_the_tables(several):
    files = [f"--out={several / 'm.md'}", f"--latex={several / 'm.tex'}", f"--html={several / 'm.html'}"]
    files.append(f"--wide-csv={several / 'wide.csv'}")
    result = CliRunner().invoke(app, [str(several / "m.yaml"), "--runs", str(several / "runs"), *files])
    assert result.exit_code == 0, result.output
    page, tex, html = ((several / f"m.{suffix}").read_text() for suffix in ("md", "tex", "html"))
    for text in (result.output, page, html):
        assert "Over seeds (accuracy in %)" in text and "Differences over seeds, first - second" in text
    assert "means over seeds and images" in tex and "differences over seeds and images" in tex
    assert "p (Holm): adjusted for the 3 pairs of methods of a setting, collapsed ones too." in page
    assert ", with 2 to 3 seeds; p-values of 3 differences are adjusted together (Holm)." in page
    assert len(pd.read_csv(several / "wide-seeds.csv")) == len(pd.read_csv(several / "wide-seed_differences.csv")) == 3
