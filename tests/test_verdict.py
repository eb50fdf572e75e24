"""The verdict: the rule behind each of its sentences, on record sets whose answer is known."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from checkpoints import network
from test_reports import epoch, start

from bench.cell import Cell
from bench.manifest import Manifest, read_manifest
from bench.records import Verdict, append
from bench.results.contenders import Contender, Setting, settings
from bench.results.intervals import mcnemar, welch_ratio
from bench.results.loading import load
from bench.results.measured import Measured
from bench.results.over_seeds import difference_over_seeds, mean_over_seeds
from bench.results.statistics import mean_ci, share_difference, wilson
from reports.competition import winner
from reports.studies import scaled, switched
from reports.tables.claims import claims
from reports.verdict import verdict

HEAD = """
baseline: Standard
dataset: digits
threat: {norm: l2, sigma: 0.25}
arch: cnn2c2f
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
evals: [Smoothing]
"""
CELLS = "cells: [{method: [Standard, Gaussian, SmoothMix]SEEDS}]\n"
TIMED = HEAD + "timing: {runs: 3, rounds: 4}\n"
BOUNDS = """
baseline: Standard
dataset: digits
threat: {norm: l2, eps: 0.5}
arch: cnn2c2f
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
cells:
  - {method: Standard, evals: [PGD, Lipschitz]}
  - {method: BCP, evals: [PGD, Lipschitz: {bounds: box}]}
  - {method: CROWNIBP, evals: [PGD, CROWN]}
"""
IMAGES = 600
SECONDS = {"Standard": 1.0, "Gaussian": 1.25, "SmoothMix": 8.0}


def read(tmp_path: Path, text: str) -> Manifest:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "m.yaml").write_text(text)
    return read_manifest(tmp_path / "m.yaml")


def evaluated(runs: Path, cell: Cell, right: int, images: int = IMAGES) -> None:
    """Record verdicts of which the first `right` are robust at radius 0.5 and the others at 0.25 alone."""
    for index in range(images):
        radius = 0.6 if index < right else 0.3
        line = Verdict(eval=cell.evals[0].id, index=index, label=1, prediction=1, radius=radius, seconds=1)
        append(runs / cell.id / "judge.jsonl", line)


def recorded(tmp_path: Path, text: str, right: dict[str, int], seconds: dict[str, float] = SECONDS):
    """The manifest and its records: a study of 3 runs x 4 rounds, and evaluations of the methods in `right`."""
    manifest, runs = read(tmp_path, text), tmp_path / "runs"
    noise = np.random.default_rng(0)
    for study in manifest.studies if manifest.timing else ():
        for run in range(3):
            file = runs / study.id / f"run{run}" / "time.jsonl"
            append(file, start())
            for arm in study.arms:
                for turn in range(5):
                    pace = seconds[arm.method.name] * math.exp(noise.normal(0, 0.01))
                    append(file, epoch(arm.id, turn, pace, 1437, turn))
    for cell in manifest.cells:
        if cell.method.name in right:
            evaluated(runs, cell, right[cell.method.name] + 3 * cell.seed)
    return manifest, load(manifest, [runs])


def sentences(manifest: Manifest, measured: list[Measured], claimed: pd.DataFrame | None = None) -> dict[str, str]:
    frames = {} if claimed is None else {"claims": claimed}
    findings = verdict(manifest, measured, settings(manifest, measured), frames)
    assert len({finding.rule for finding in findings}) == len(findings) <= 7
    assert all(finding.text.endswith(".") and "nan" not in finding.text for finding in findings)
    return {finding.rule: finding.text for finding in findings}


def test_a_clear_win(tmp_path):
    manifest, measured = recorded(
        tmp_path, TIMED + CELLS.replace("SEEDS", ""), {"Standard": 60, "Gaussian": 400, "SmoothMix": 250}
    )
    said = sentences(manifest, measured)
    assert said["compared"].startswith("Compared: Standard, Gaussian and SmoothMix, on digits with cnn2c2f, judged by")
    assert said["fastest"].startswith(
        "Fastest at the robustness of the best: Gaussian, with 66.7 % (62.8 to 70.3), in 1.2"
    )
    assert "of Standard's training time; no other method has a higher figure" in said["fastest"]
    assert said["buys"].startswith("More robust than Standard: Gaussian (+56.7 points (")
    assert "SmoothMix (+31.7 points" in said["buys"]
    assert said["wasted"].startswith("Costs more without being measurably more robust: SmoothMix (6.")
    assert "difference -25.0 points" in said["wasted"] and "distinguishable" not in said["wasted"]
    assert "tied" not in said and "costs" not in said and "claims" not in said


def test_a_tie(tmp_path):
    manifest, measured = recorded(
        tmp_path,
        TIMED + CELLS.replace("SEEDS", ""),
        {"Standard": 60, "Gaussian": 400, "SmoothMix": 404},
        SECONDS | {"SmoothMix": 1.25},
    )
    said = sentences(manifest, measured)
    assert said["tied"] == "Not distinguishable by time or robustness: Gaussian and SmoothMix."
    assert "wasted" not in said
    (setting,) = settings(manifest, measured)
    base, gaussian, mixed = setting.contenders
    assert setting.cost(gaussian, mixed).low < 1 < setting.cost(gaussian, mixed).high
    assert winner(setting) in (gaussian, mixed) and setting.baseline is base


def test_equal_robustness_for_more_time_is_wasted(tmp_path):
    manifest, measured = recorded(
        tmp_path, TIMED + CELLS.replace("SEEDS", ""), {"Standard": 60, "Gaussian": 400, "SmoothMix": 404}
    )
    said = sentences(manifest, measured)
    assert "Gaussian, with 66.7 %" in said["fastest"]
    assert "the highest figure is that of SmoothMix, 67.3 %" in said["fastest"]
    assert "difference +0.7 points (" in said["fastest"] and "not distinguishable from 0" in said["fastest"]
    assert "SmoothMix (6." in said["wasted"] and "not distinguishable from 0" in said["wasted"]


def test_a_contradicted_claim(tmp_path):
    paper = ", paper: {certified: [{0.5: 10.0}, {0.5: 66.5}, {0.5: 75.00}], hours: [1, 2, 3]}"
    manifest = read(tmp_path, HEAD + CELLS.replace("SEEDS", paper))
    for cell, right in zip(manifest.cells[:2], (60, 400), strict=True):
        evaluated(tmp_path / "runs", cell, right)
        file = tmp_path / "runs" / cell.id / "train.jsonl"
        append(file, start())
        for number in range(4):
            append(file, epoch(cell.id, number, 1.0, 1437))
    measured = load(manifest, [tmp_path / "runs"])
    assert sentences(manifest, measured, claims(manifest, measured, manifest))["claims"] == (
        "Published figures: 2 of 2 agree with the measurement; 2 measured in a different setting, 2 not measured."
    )
    evaluated(tmp_path / "runs", manifest.cells[2], 250)
    for number in range(4):
        append(tmp_path / "runs" / manifest.cells[2].id / "train.jsonl", epoch(manifest.cells[2].id, number, 1.0, 1437))
    measured = load(manifest, [tmp_path / "runs"])
    assert sentences(manifest, measured, claims(manifest, measured, manifest))["claims"] == (
        "Published figures: 2 of 3 agree with the measurement; measured below: cnn2c2f SmoothMix, certified at 0.5 (%);"
        " 3 measured in a different setting."
    )
    none = read(tmp_path, HEAD + CELLS.replace("SEEDS", ", paper: {hours: [1, 2, 3]}"))
    measured = load(none, [tmp_path / "runs"])
    said = sentences(none, measured, claims(none, measured, none))["claims"]
    assert said == "No published figure can be checked: 3 measured in a different setting."


def test_one_seed_and_several(tmp_path):
    right = {"Standard": 60, "Gaussian": 400, "SmoothMix": 404}
    one = sentences(*recorded(tmp_path / "one", TIMED + CELLS.replace("SEEDS", ""), right))
    assert "robustness of one seed says nothing of the next training (list several seeds)" in one["distrust"]
    assert "wide intervals" not in one["distrust"] and "vary more between runs" not in one["distrust"]
    manifest, measured = recorded(tmp_path / "three", HEAD + CELLS.replace("SEEDS", ", seed: [0, 1, 2]"), right)
    (setting,) = settings(manifest, measured)
    _, gaussian, mixed = setting.contenders
    assert [len(each.by_seed) for each in setting.contenders] == [3, 3, 3]
    flags = {seed: {i: i < 400 + 3 * seed for i in range(IMAGES)} for seed in range(3)}
    assert gaussian.accuracy == mean_over_seeds(flags).interval
    # Three seeds hardly vary, so that the interval is nearly that over the images of one.
    assert gaussian.accuracy[1:] == pytest.approx(wilson(403, IMAGES)[1:], abs=0.003)
    # Each seed's difference is 4 of 600 images.
    gap = difference_over_seeds({seed: {i: i < 404 + 3 * seed for i in range(IMAGES)} for seed in range(3)}, flags)
    assert setting.difference(mixed, gaussian) == pytest.approx(gap.interval)
    assert gap.interval.mean == pytest.approx(4 / IMAGES) and gap.made == "paired t over seeds and images"
    assert setting.difference(gaussian, mixed) == pytest.approx([-gap.interval[k] for k in (0, 2, 1)])
    said = sentences(manifest, measured)
    assert "one seed" not in said.get("distrust", "")
    assert ", with 3 seeds; p-values of 3 differences are adjusted together (Holm)." in said["compared"]
    assert "3 seeds may all miss a collapse: if 1 in 5 trainings collapses, the intervals contain" in said["distrust"]
    assert "seeds" not in one["compared"] and "collapse" not in one["distrust"]


def test_seeds_that_vary_more_than_images_widen_the_interval():
    far = {seed: {i: i < share * 100 for i in range(100)} for seed, share in enumerate([0.2, 0.5, 0.8])}
    spread = Contender("far", {}, far, False)
    t = mean_ci([0.2, 0.5, 0.8])
    assert t.low < 0 < spread.accuracy.low < 0.1 and t.high > 1 > spread.accuracy.high > 0.9
    assert spread.over_seeds.sd == pytest.approx(0.3) and spread.over_seeds.seeds == 3


def test_a_difference_of_many_pairs_counts_only_if_its_adjusted_p_is_small():
    def setting(*rights: int) -> Setting:
        contenders = (
            Contender(f"method {right}", {}, {0: {i: i < right for i in range(100)}}, not k)
            for k, right in enumerate(rights)
        )
        return Setting("digits", "cnn2c2f", 1, "accuracy", tuple(contenders), False, frozenset())

    two = setting(50, 57)
    a, b = two.contenders
    assert two.difference(b, a).low > 0 and (two.differs(b, a), two.differs(a, b), two.comparisons) == (1, -1, 1)
    many = setting(50, 57, 50, 50, 50)
    a, b, *_ = many.contenders
    assert many.difference(b, a) == two.difference(*two.contenders[::-1])
    assert many.differs(b, a) == 0 and many.comparisons == 10
    assert two.difference(a, a).mean == 0 and two.differs(a, a) == 0
    pair = many.differences[a, b]
    assert pair.over_seeds.p == mcnemar([i < 50 for i in range(100)], [i < 57 for i in range(100)]) < 0.05
    # The four pairs with the method that stands out have equal p-values, the other six have p = 1.
    assert pair.adjusted_p == pytest.approx(10 * pair.over_seeds.p)


def test_failed_cells_are_counted(tmp_path):
    manifest, measured = recorded(tmp_path, HEAD + CELLS.replace("SEEDS", ""), {"Standard": 60, "Gaussian": 400})
    said = sentences(manifest, measured)
    assert said["compared"].endswith("; 1 of 3 cells have no record (bench.status says why).")
    assert said["fastest"].startswith("Fastest at the robustness of the best: Gaussian, with 66.7 %")
    assert "training time" not in said["fastest"]


def test_without_records_there_is_no_verdict_and_without_evaluations_only_costs(tmp_path):
    manifest = read(tmp_path, TIMED + CELLS.replace("SEEDS", ""))
    assert verdict(manifest, load(manifest, [tmp_path / "none"]), [], {}) == []
    said = sentences(*recorded(tmp_path, TIMED + CELLS.replace("SEEDS", ""), {}))
    assert said["costs"].startswith("Training time relative to Standard: Gaussian 1.2")
    assert ", SmoothMix 7.9" in said["costs"] and said["costs"].endswith("; robustness was not measured.")
    assert said["compared"].endswith("; 3 of 3 cells are not evaluated (bench.status says why).")


def test_costs_are_of_whole_trainings_and_differences_of_common_images(tmp_path):
    text = HEAD + "cells: [{method: Standard}, {method: Gaussian, recipe: {epochs: 6, batch_size: 64, lr: 0.1}}]\n"
    manifest, runs = read(tmp_path, text), tmp_path / "runs"
    times = {"Standard": [1.0, 1.1, 0.9], "Gaussian": [1.2, 1.3, 1.25]}
    for cell in manifest.cells:
        file = runs / cell.id / "train.jsonl"
        append(file, start())
        for number, seconds in enumerate([5.0, *times[cell.method.name]]):
            append(file, epoch(cell.id, number, seconds, 1437))
    standard, gaussian = manifest.cells
    evaluated(runs, standard, 100, images=300)
    evaluated(runs, gaussian, 150, images=200)
    (setting,) = settings(manifest, load(manifest, [runs]))
    base, other = setting.contenders
    ratio = welch_ratio([times["Gaussian"]], [times["Standard"]])
    assert setting.cost(other, base).mean == pytest.approx(1.5 * ratio.mean)
    first, second = ([index < right for index in range(200)] for right in (150, 100))
    assert setting.difference(other, base) == pytest.approx(share_difference(first, second))


def arms(*rows: tuple[str, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["switches", "speedup", "speedup_low", "speedup_high"])


def test_switches_are_named_by_their_speedup_and_those_without_a_gain_apart():
    plain, slow = ("plain", 1.0, math.nan, math.nan), ("fused", 1.01, 0.97, 1.05)
    text = switched(
        arms(plain, ("bf16", 1.4, 1.3, 1.5), ("bf16", 1.5, 1.4, 1.6), ("compile default", 1.2, 1.1, 1.3), slow)
    )
    assert text == (
        "Speed relative to the plain path: bf16 1.40x to 1.50x; compile default 1.20x (1.10 to 1.30);"
        " no measurable gain: fused."
    )
    assert switched(arms(plain, slow)) == "No switch is measurably faster." and switched(arms(plain)) == ""


def test_scaling_is_that_of_the_most_ranks():
    columns = ["kind", "ranks", "speedup", "speedup_low", "speedup_high", "efficiency"]
    rows = [("strong", 2, 1.9, 1.8, 2.0, 0.95), ("strong", 4, 3.2, 3.0, 3.4, 0.8), ("weak", 4, 3.6, 3.5, 3.7, 0.9)]
    assert scaled(pd.DataFrame(rows, columns=columns)) == (
        "Speed of 4 ranks relative to one: 3.20x (3.00 to 3.40) at the same global batch size, 80 % of the ideal;"
        " 3.60x (3.50 to 3.70) at the same batch size per rank, 90 % of the ideal."
    )
    assert scaled(pd.DataFrame(columns=columns)) == ""


def test_methods_are_compared_whichever_bound_proves_them(tmp_path):
    manifest, runs = read(tmp_path, BOUNDS), tmp_path / "runs"
    for cell, right in zip(manifest.cells, (100, 300, 400), strict=True):
        spec = cell.evals[-1]
        for index in range(IMAGES):
            label = index % 10
            line = Verdict(eval=spec.id, index=index, label=label, prediction=label, radius=index < right, seconds=1)
            append(runs / cell.id / "judge.jsonl", line)
    (setting,) = settings(manifest, load(manifest, [runs]))
    assert setting.figure == "certified accuracy at l2 0.5, each by its own bound"
    assert [each.accuracy.mean for each in setting.judged] == [100 / IMAGES, 300 / IMAGES, 400 / IMAGES]


def test_a_study_times_one_seed_for_all(tmp_path):
    manifest, measured = recorded(
        tmp_path,
        TIMED + CELLS.replace("SEEDS", ", seed: [0, 1, 2]"),
        {"Standard": 60, "Gaussian": 400, "SmoothMix": 250},
    )
    (study,) = manifest.studies
    assert [arm.seed for arm in study.arms] == [0] * len(study.arms) and len(manifest.cells) == 9
    (setting,) = settings(manifest, measured)
    gaussian = next(each for each in setting.contenders if each.label == "Gaussian")
    assert sorted(gaussian.by_seed) == sorted(gaussian.robust) == [0, 1, 2]
    assert setting.cost(gaussian, setting.baseline).mean == pytest.approx(1.25, rel=0.02)
    said = sentences(manifest, measured)
    assert "Gaussian, with 67.2 %" in said["fastest"] and "in 1.25x (" in said["fastest"]


def test_families_with_a_figure_of_their_own_have_a_winner_each(tmp_path):
    smoothing = "threat: {norm: l2, sigma: 0.25}\n    evals: [Smoothing: {n: 100}]"
    attacked = "threat: {norm: linf, eps: 0.5}\n    evals: [PGD]"
    text = HEAD + (
        f"cells:\n  - method: [Standard, Gaussian]\n    {smoothing}\n"
        f"  - method: [Standard, SAT]\n    pipeline: rrm-linf\n    {attacked}\n"
    )
    manifest, runs = read(tmp_path, text), tmp_path / "runs"
    for cell, right in zip(manifest.cells, (60, 400, 0, 300), strict=True):
        evaluated(runs, cell, right)
    said = sentences(manifest, load(manifest, [runs]))
    smoothed, attacks = said["fastest"].removeprefix("Fastest at the robustness of the best. By ").split(". By ")
    assert smoothed.startswith("certified accuracy at l2 radius 0.5 (sigma 0.25): Gaussian, with 66.7 %")
    assert attacks.startswith("accuracy under PGD") and ": SAT, with 50.0 %" in attacks
    # Each method is in one setting only, so its numbers stand beside it.
    assert "SAT (+50.0 points (" in said["buys"] and "settings" not in said["buys"]


def test_a_difference_that_holms_adjustment_hides_names_the_pairs(tmp_path):
    # Six images tell one from the next: p is 0.031, twice of which is above 0.05.
    right = {"Standard": 398, "Gaussian": 404, "SmoothMix": 410}
    manifest, measured = recorded(tmp_path, TIMED + CELLS.replace("SEEDS", ""), right)
    (setting,) = settings(manifest, measured)
    base, gaussian, mixed = setting.contenders
    assert setting.difference(mixed, gaussian).low > 0 and not setting.differs(mixed, gaussian)
    assert setting.differs(mixed, base)
    said = sentences(manifest, measured)
    assert "difference +1.0 points (" in said["wasted"]
    assert "not distinguishable from 0 among 3 pairs" in said["wasted"]


def test_students_are_priced_with_their_teachers(tmp_path):
    students = """
cells:
  - {method: Standard}
  - {method: Gaussian, name: teacher}
  - {method: CRT, teacher: {cell: teacher}}
  - {method: {CRT: {target: softmax}}, teacher: {weights: FILE, arch: cnn2c2f}}
"""
    pace = {"Standard": 1.0, "Gaussian": 1.25, "CRT": 1.5}
    torch.save(network(0).state_dict(), tmp_path / "elsewhere.pt")
    text = TIMED + students.replace("FILE", str(tmp_path / "elsewhere.pt"))
    said = sentences(*recorded(tmp_path, text, {"Gaussian": 400}, pace))["teachers"]
    assert said.startswith("These times leave out the training of teachers; with it, relative to Standard: CRT(")
    assert "unknown for CRT(" in said
    # A student's epoch takes 1.5 and its teacher's 1.25 times the baseline's, up to noise of 1 %.
    assert float(re.search(r" (\d\.\d+)x", said).group(1)) == pytest.approx(1.5 + 1.25, rel=0.03)
    assert "teachers" not in sentences(*recorded(tmp_path / "alone", TIMED + CELLS.replace("SEEDS", ""), {}))


def test_a_baseline_that_is_not_evaluated_still_tells_the_costs(tmp_path):
    cells = "cells:\n  - {method: Standard, evals: []}\n  - {method: [Gaussian, SmoothMix]}\n"
    manifest, measured = recorded(tmp_path, TIMED + cells, {"Gaussian": 400, "SmoothMix": 250})
    (setting,) = settings(manifest, measured)
    assert setting.baseline and [each.label for each in setting.judged] == ["Gaussian", "SmoothMix"]
    said = sentences(manifest, measured)
    assert "Compared: Standard, Gaussian and SmoothMix" in said["compared"] and "radius 0.5" in said["compared"]
    assert "Gaussian, with 66.7 % (62.8 to 70.3), in 1.2" in said["fastest"] and "buys" not in said
