"""Collapsed trainings: each rule on records whose answer is known, and what reports say of them."""

import math
from pathlib import Path

import pytest
from test_reports import start

from bench.cell import Cell
from bench.manifest import Manifest, read_manifest
from bench.records import Epoch, MonitorPoint, Verdict, append
from bench.results.collapse import LEAST, collapse
from bench.results.contenders import settings
from bench.results.loading import load
from bench.results.measured import Measured
from reports.frames import make_frames
from reports.observations import observations
from reports.verdict import verdict

HEAD = """
baseline: Standard
dataset: digits
threat: {norm: linf, eps: 0.1}
arch: cnn2c2f
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
evals: [Clean, {PGD: {steps: 1, start: none}}, {PGD: {steps: 50}}]
"""
MONITOR = "monitor: {every: 1, images: 100, evals: [{PGD: {steps: 5}}]}\n"
IMAGES = 200


def read(tmp_path: Path, text: str) -> Manifest:
    (tmp_path / "m.yaml").write_text(HEAD + text)
    return read_manifest(tmp_path / "m.yaml", networks=False)


def judged(runs: Path, cell: Cell, *right: int, images: int = IMAGES, prediction: int | None = None) -> None:
    """Record verdicts of each evaluation on images of ten classes; the first `right` of them hold.

    Others have the wrong class in a clean evaluation, and no radius under an attack. With `prediction`, all images get
    that class.
    """
    for spec, count in zip(cell.evals, right, strict=True):
        for index in range(images):
            label, holds = index % 10, index < count
            if spec.name == "Clean":
                guess = prediction if prediction is not None else label if holds else (label + 1) % 10
                line = Verdict(eval=spec.id, index=index, label=label, prediction=guess, radius=0, seconds=1)
            else:
                guess = label if prediction is None else prediction
                line = Verdict(eval=spec.id, index=index, label=label, prediction=guess, radius=0.1 * holds, seconds=1)
            append(runs / cell.id / "judge.jsonl", line)


def trained(runs: Path, cell: Cell, losses: list[float], standing: list[float] = []) -> None:  # noqa: B006
    """Record a training and what its monitor saw of 100 images."""
    append(runs / cell.id / "train.jsonl", start())
    for epoch, loss in enumerate(losses):
        line = Epoch(arm=cell.id, epoch=epoch, seconds=1, warmup=not epoch, images=1437, lr=0.1, loss=loss, memory=None)
        append(runs / cell.id / "train.jsonl", line)
    for epoch, share in enumerate(standing):
        spec = cell.monitor.evals[0]
        line = MonitorPoint(arm=cell.id, epoch=epoch, eval=spec.id, images=100, right=0.9, standing=share)
        append(runs / cell.id / "train.jsonl", line)


def only(tmp_path: Path, manifest: Manifest) -> Measured:
    return load(manifest, [tmp_path / "runs"])[0]


def test_a_sound_network_did_not_collapse(tmp_path):
    manifest = read(tmp_path, "cells: [{method: [Standard, FGSMRS]}]")
    standard, fgsm = manifest.cells
    # An attack breaks a network that was never trained against it: this is no collapse.
    judged(tmp_path / "runs", standard, 180, 60, 0)
    judged(tmp_path / "runs", fgsm, 160, 110, 100)
    assert [collapse(m) for m in load(manifest, [tmp_path / "runs"])] == [None, None]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_loss_that_is_not_finite(tmp_path, loss):
    manifest = read(tmp_path, "cells: [{method: Standard}]")
    trained(tmp_path / "runs", manifest.cells[0], [2.3, loss])
    assert collapse(only(tmp_path, manifest)) == ("loss not finite", f"the loss of epoch 2 is {loss}")


def test_constant_output(tmp_path):
    manifest = read(tmp_path, "cells: [{method: Standard}]")
    judged(tmp_path / "runs", manifest.cells[0], 20, 20, 20, prediction=0)
    assert collapse(only(tmp_path, manifest)) == ("constant output", "all 200 images get class 0")


def test_no_better_than_chance(tmp_path):
    manifest = read(tmp_path, "cells: [{method: Standard}]")
    judged(tmp_path / "runs", manifest.cells[0], 25, 20, 20)
    found = collapse(only(tmp_path, manifest))
    assert found.rule == "no better than chance" and "12.5 %" in found.detail and "chance 10.0 %" in found.detail


@pytest.mark.parametrize(
    ("right", "detail"),
    [
        ((160, 150, 5), "accuracy under PGD(steps=50, restarts=1) at 0.1 2.5 %"),  # below chance
        ((180, 160, 30), "accuracy under PGD(steps=50, restarts=1) 15.0 %"),  # below half of one step
    ],
)
def test_catastrophic_overfitting_under_attacks(tmp_path, right, detail):
    manifest = read(tmp_path, "cells: [{method: [FGSMRS, Standard]}]")
    for cell in manifest.cells:
        judged(tmp_path / "runs", cell, *right)
    fgsm, standard = load(manifest, [tmp_path / "runs"])
    assert collapse(fgsm).rule == "catastrophic overfitting" and detail in collapse(fgsm).detail
    assert collapse(standard) is None


@pytest.mark.parametrize(("standing", "fell"), [([0.2, 0.5, 0.1], True), ([0.2, 0.5, 0.4], False), ([0.1], False)])
def test_catastrophic_overfitting_while_it_is_monitored(tmp_path, standing, fell):
    manifest = read(
        tmp_path, "monitor: {every: 1, images: 100, evals: [{PGD: {steps: 5}}]}\ncells: [{method: [SAT, Standard]}]"
    )
    trained(tmp_path / "runs", manifest.cells[0], [2.3, 2.0, 1.9], standing)
    found = collapse(only(tmp_path, manifest))
    assert (found is not None) is fell
    if fell:
        assert "fell from 50.0 % (40.4 to 59.6) to 10.0 %" in found.detail
        assert found.detail.endswith("while it trained, from epoch 3 on, clean accuracy 90.0 %")


def monitored(runs: Path, cell: Cell, *epochs: tuple[float, ...]) -> None:
    """Record a training, and for each epoch clean accuracy and robust accuracy under each monitored evaluation."""
    trained(runs, cell, [2.0] * len(epochs))
    for epoch, (clean, *shares) in enumerate(epochs):
        for spec, share in zip(cell.monitor.evals, shares, strict=True):
            line = MonitorPoint(arm=cell.id, epoch=epoch, eval=spec.id, images=100, right=clean, standing=share)
            append(runs / cell.id / "train.jsonl", line)


TWO = "monitor: {every: 1, images: 100, evals: [{PGD: {steps: 5}}, {PGD: {steps: 1, start: none}}]}\n"
"""An attack of several steps, then one of a single step."""


@pytest.mark.parametrize(
    ("epochs", "rule", "detail"),
    [
        # The fall is sudden, heals, and comes back.
        (
            [(0.8, 0.4, 0.5), (0.9, 0.0, 0.9), (0.9, 0.4, 0.5), (0.9, 0.0, 0.9)],
            "catastrophic overfitting",
            "epoch 4 on",
        ),
        # Robust accuracy was never high, which the attack of a single step shows.
        ([(0.8, 0.15, 0.7)] * 4, "catastrophic overfitting", "start=none) 70.0 % (60.4 to 78.1) after epoch 4"),
        ([(0.8, 0.0, 0.1)] * 4, "catastrophic overfitting", "after epoch 4, chance 10.0 %, clean accuracy 80.0 %"),
        # It is not over yet, or nothing is lost.
        ([(0.8, 0.0, 0.7)] * 3, None, ""),
        ([(0.5, 0.3, 0.4), (0.8, 0.0, 0.9), (0.8, 0.4, 0.5), (0.8, 0.4, 0.5)], None, ""),
        # Everything is lost, and not robustness alone.
        ([(0.8, 0.4, 0.5), (0.8, 0.4, 0.5), (0.1, 0.1, 0.1), (0.1, 0.1, 0.1)], "accuracy lost", "80.0 %"),
    ],
)
def test_the_monitor_shows_what_was_lost(tmp_path, epochs, rule, detail):
    manifest = read(tmp_path, TWO + "cells: [{method: [FGSMRS, Standard]}]")
    for cell in manifest.cells:
        monitored(tmp_path / "runs", cell, *epochs)
    fgsm, standard = map(collapse, load(manifest, [tmp_path / "runs"]))
    assert (fgsm and fgsm.rule) == rule and (fgsm is None or detail in fgsm.detail)
    assert (standard and standard.rule) == (rule if rule == "accuracy lost" else None)


def test_few_images_and_one_label_show_nothing(tmp_path):
    manifest = read(tmp_path, "cells: [{method: [FGSMRS, Standard], seed: [0, 1]}]")
    few, one_label, *_ = manifest.cells
    judged(tmp_path / "runs", few, 0, 0, 0, images=LEAST - 1, prediction=3)
    for index in range(50):
        line = Verdict(eval=one_label.evals[0].id, index=index, label=4, prediction=4, radius=0, seconds=1)
        append(tmp_path / "runs" / one_label.id / "judge.jsonl", line)
    assert [collapse(m) for m in load(manifest, [tmp_path / "runs"])] == [None] * 4


def test_a_rate_over_seeds_is_reported_everywhere(tmp_path):
    manifest = read(tmp_path, "cells: [{method: Standard}, {method: FGSMRS, seed: [0, 1, 2, 3, 4]}]")
    for cell in manifest.cells:
        lost = cell.method.name == "FGSMRS" and cell.seed == 3
        judged(tmp_path / "runs", cell, 160, 150 if lost else 110, 5 if lost else 100)
    measured = load(manifest, [tmp_path / "runs"])
    compared = settings(manifest, measured)
    frames = make_frames(manifest, measured, compared, manifest, ())
    rows = frames["trainings"].set_index(["method", "seed"])
    assert rows["rule"].notna().sum() == 1 and rows.loc[("FGSMRS", 3), "rule"] == "catastrophic overfitting"
    assert tuple(rows.loc[("FGSMRS", 0), ["collapsed", "trainings", "collapse_rate"]]) == (1, 5, 0.2)
    said = {finding.rule: finding.text for finding in verdict(manifest, measured, compared, frames)}
    # Wilson's interval of 1 of 5 is 3.6 to 62.4 %.
    assert said["collapsed"] == "Collapsed trainings: FGSMRS 1 of 5 (20.0 % (3.6 to 62.4), catastrophic overfitting)."
    assert frames["masking"].set_index("method")["verdict"].to_dict()["FGSMRS seed 3"].startswith("weak attack, coll")
    tidy = observations(manifest, frames)
    assert tidy[tidy["metric"] == "collapsed"].set_index(["method", "seed"])["estimate"].sum() == 1
    rate = tidy[(tidy["metric"] == "collapse_rate") & (tidy["method"] == "FGSMRS")]
    assert set(rate["estimate"]) == {0.2} and set(rate["interval"]) == {"Wilson"}


def test_a_method_that_always_collapsed_does_not_compete(tmp_path):
    manifest = read(tmp_path, "cells: [{method: [Standard, SAT, FGSMRS]}]")
    runs = tmp_path / "runs"
    judged(runs, manifest.cells[0], 180, 60, 0)
    judged(runs, manifest.cells[1], 160, 110, 100)
    judged(runs, manifest.cells[2], 20, 20, 20, prediction=0)
    measured = load(manifest, [runs])
    said = {finding.rule: finding.text for finding in verdict(manifest, measured, settings(manifest, measured), {})}
    assert (
        "FGSMRS 1 of 1 (constant output); a method that collapsed with every seed does not compete" in said["collapsed"]
    )
    assert not any("FGSMRS" in text for rule, text in said.items() if rule not in ("compared", "collapsed"))
