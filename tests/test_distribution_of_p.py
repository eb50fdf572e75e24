"""The distribution of p, the probability that noise leaves the class: table, observations and figure by raw counts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.manifest import Manifest, read_manifest
from bench.records import Verdict, append
from bench.results.contenders import settings
from bench.results.loading import load
from reports.figures.certificates import probability
from reports.observations.outcomes import GROUP_METRICS, distributed
from reports.tables.certificates import certificates
from reports.tables.probabilities import probabilities, probabilities_table, without_counts
from reports.tables.timing import timing

TEXT = """
title: Distribution of p
baseline: Standard
dataset: digits
threat: {sigma: 0.25}
arch: cnn2c2f
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
evals: [Smoothing: {n: 1000, images: 80, skip_wrong: false}]
cells: [{method: Standard}, {method: Gaussian, seed: [0, 1, 2]}]
"""
IMAGES = 80


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (IMAGES,) where the label is 1, and counts of 1,000 draws, with values at the limits of groups."""
    predictions = rng.choice([1, 1, 1, 1, 1, 1, 0, -1], IMAGES)
    counts = rng.integers(550, 1001, IMAGES)
    counts[:6] = 899, 900, 989, 990, 999, 1000
    predictions[:6] = 1
    return predictions, counts


def record(folder: Path, counted=lambda cell: True) -> tuple[Manifest, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """A manifest with verdicts, and predictions and counts by cell id; verdicts that are not `counted` are old ones."""
    (folder / "m.yaml").write_text(TEXT)
    manifest, rng, raw = read_manifest(folder / "m.yaml"), np.random.default_rng(7), {}
    for cell in manifest.cells:
        predictions, counts = raw[cell.id] = drawn(rng)
        for index in range(IMAGES):
            details = {"n": 1000, "drawn": 1000, "nA": int(counts[index]), "pA_low": 0.5} if counted(cell) else {}
            verdict = {"label": 1, "prediction": int(predictions[index]), "radius": 0.1, "seconds": 0.0}
            file = folder / "runs" / cell.id / "judge.jsonl"
            append(file, Verdict(eval=cell.evals[0].id, index=index, details=details, **verdict))
    return manifest, raw


def shares(predictions: np.ndarray, counts: np.ndarray) -> list[float]:
    right, p = predictions == 1, counts / 1000
    parts = p < 0.9, (p >= 0.9) & (p < 0.99), p >= 0.99
    return [group.mean() for group in (predictions == 0, predictions == -1, *(right & part for part in parts))]


def test_shares_are_those_of_raw_counts_and_sum_to_1(tmp_path):
    manifest, raw = record(tmp_path)
    measured = load(manifest, [tmp_path / "runs"])
    frame = probabilities(settings(manifest, measured), measured).set_index("method")
    assert frame["seeds"].to_dict() == {"Standard": 1, "Gaussian": 3} and set(frame["images"]) == {IMAGES}
    standard, *gaussian = (raw[cell.id] for cell in manifest.cells)
    keys = list(GROUP_METRICS)
    assert frame.loc["Standard", keys].tolist() == pytest.approx(shares(*standard))
    assert frame.loc["Gaussian", keys].tolist() == pytest.approx(np.mean([shares(*each) for each in gaussian], axis=0))
    assert frame[keys].sum(axis=1).tolist() == pytest.approx([1, 1])
    for key, share in zip(keys, shares(*standard), strict=True):
        wilson = stats.binomtest(round(share * IMAGES), IMAGES).proportion_ci(method="wilson")
        assert frame.loc["Standard", [f"{key}_low", f"{key}_high"]].tolist() == pytest.approx([wilson.low, wilson.high])
        low, high = frame.loc["Gaussian", [f"{key}_low", f"{key}_high"]]
        assert low < frame.loc["Gaussian", key] < high
    assert frame["interval"].to_dict() == {"Standard": "Wilson", "Gaussian": "score over seeds and images"}
    assert not without_counts(frame)


def test_observations_name_their_interval_and_have_no_seed_over_several(tmp_path):
    manifest, _ = record(tmp_path)
    measured = load(manifest, [tmp_path / "runs"])
    frame = probabilities(settings(manifest, measured), measured)
    found = pd.DataFrame(distributed(frame))
    assert found["metric"].tolist() == 2 * list(GROUP_METRICS.values())
    assert found["estimate"].tolist() == pytest.approx(frame[list(GROUP_METRICS)].to_numpy().ravel())
    assert found["n"].tolist() == 5 * [IMAGES] + 5 * [3] and found["seed"].tolist()[:5] == 5 * [0]
    assert found["seed"].isna().tolist() == 5 * [False] + 5 * [True]


def test_old_records_without_counts_are_left_out_and_named(tmp_path):
    manifest, raw = record(tmp_path, lambda cell: cell.method.name == "Gaussian" and cell.seed < 2)
    measured = load(manifest, [tmp_path / "runs"])
    frame = probabilities(settings(manifest, measured), measured)
    assert frame["seeds"].tolist() == [0, 2] and frame["seeds_without_counts"].tolist() == [1, 1]
    two = [shares(*raw[cell.id]) for cell in manifest.cells[1:3]]
    assert frame.loc[1, list(GROUP_METRICS)].tolist() == pytest.approx(np.mean(two, axis=0))
    assert frame.loc[0, list(GROUP_METRICS)].isna().all()
    (table,) = probabilities_table(frame)
    assert table.rows["method"].tolist() == ["Gaussian"]
    (line,) = without_counts(frame)
    assert "2 trainings left out (cnn2c2f Standard and cnn2c2f Gaussian)" in line
    plot = probability(certificates(measured), timing(manifest, measured))
    assert set(plot.data["series"]) == {"Gaussian"} and set(plot.data["seeds"]) == {2}
    assert plot.left_out and "its records have no count of a fixed number of draws of each image" in plot.left_out[0]


def test_nothing_is_drawn_of_old_records(tmp_path):
    manifest, _ = record(tmp_path, lambda cell: False)
    measured = load(manifest, [tmp_path / "runs"])
    assert not list(probabilities_table(probabilities(settings(manifest, measured), measured)))
    with pytest.raises(ValueError, match="no record counts the draws of right images"):
        probability(certificates(measured), timing(manifest, measured))


def test_the_figure_has_the_share_of_images_with_at_least_each_p(tmp_path):
    manifest, raw = record(tmp_path)
    measured = load(manifest, [tmp_path / "runs"])
    plot = probability(certificates(measured), timing(manifest, measured))
    predictions, counts = raw[manifest.cells[0].id]
    own = plot.data[plot.data["series"] == "Standard"].sort_values("changed")
    assert own["changed"].iloc[0] == 0 and own["changed"].iloc[-1] == 0.5
    for row in own.itertuples():
        # Counts are whole, so that the nearest one is exact.
        expected = ((predictions == 1) & (1000 - counts <= round(1000 * row.changed))).mean()
        assert row.estimate == pytest.approx(100 * expected) and row.low <= row.estimate <= row.high
    gaussian = plot.data[(plot.data["series"] == "Gaussian") & (plot.data["changed"] == 0)].iloc[0]
    ones = [((predictions == 1) & (counts == 1000)).mean() for predictions, counts in list(raw.values())[1:]]
    mean, error = np.mean(ones), stats.sem(ones)
    assert gaussian["estimate"] == pytest.approx(100 * mean) and gaussian["seeds"] == 3
    assert gaussian["high"] == pytest.approx(100 * (mean + stats.t.ppf(0.975, 2) * error))
    (axes,) = plot.axes
    assert axes.get_xscale() == "log" and axes.get_xlim() == (0.5, 0.0005)
