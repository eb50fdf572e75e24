"""Hours with teachers: the whole ancestry, each ancestor once; where they are missing, report and figures say why."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_reports import epoch, start
from typer.testing import CliRunner

from bench.build import robust_dataset
from bench.cell import Cell
from bench.manifest import Manifest, read_manifest
from bench.records import RobustChunk, Verdict, append
from bench.results.loading import load
from reports.__main__ import app
from reports.figures import hours
from reports.figures.tradeoff import tradeoff
from reports.tables.robustness import robustness
from reports.tables.teachers import notes, teachers
from reports.tables.timing import timing

HEAD = """
title: Hand-made
{timing}
dataset: digits
threat: {{norm: l2, sigma: 0.25, eps: 0.5}}
arch: cnn2c2f
recipe: &r {{epochs: 4, batch_size: 64, lr: 0.1}}
evals: [Clean]
cells:
"""
BASE = "{arch: cnn2c2f, method: SmoothMix, recipe: *r}"
CHAIN = f"""
  - {{method: CRT, name: first, teacher: {BASE}}}
  - {{method: CRT, arch: resnet20, name: second, teacher: {{cell: first}}}}
  - {{method: RRM, arch: resnet20, teacher: {{cell: second}}}}
"""
NESTED = """
  - method: RRM
    teacher: {arch: cnn2c2f, method: CRT, recipe: *r, teacher: {arch: cnn2c2f, method: Gaussian, recipe: *r}}
"""
DIAMOND = f"""
  - {{method: CRT, teacher: {BASE}}}
  - {{method: CRT, arch: resnet20, teacher: {BASE}}}
"""
BESIDE = f"""
  - {{method: SmoothMix, arch: cnn2c2f}}
  - {{method: CRT, arch: resnet20, teacher: {BASE}}}
"""
MADE = f"""
  - {{method: RDT, teacher: {BASE}}}
"""
BELOW_MADE = f"""
  - {{method: RRM, arch: resnet20, teacher: {{arch: resnet20, method: RDT, recipe: *r, teacher: {BASE}}}}}
"""
SECONDS = {"SmoothMix": 9.0, "CRT": 2.0, "Gaussian": 5.0, "RRM": 1.0, "RDT": 3.0, "Standard": 0.5}
"""An epoch, by method; in a study, a hundred times as many."""
MAKING = 0.25
"""Seconds an image of a robust dataset."""
STUDY = "timing: {runs: 1, rounds: 2}\nbaseline: Standard"


def read(tmp_path: Path, cells: str, head: str = "") -> Manifest:
    (tmp_path / "m.yaml").write_text(HEAD.format(timing=head) + cells)
    return read_manifest(tmp_path / "m.yaml")


def train(cell: Cell, runs: Path, epochs: int | None = None, **machine) -> None:
    """Records of a training, of its robust dataset, and of two verdicts."""
    file = runs / cell.id / "train.jsonl"
    append(file, start(**machine))
    for number in range(cell.recipe.epochs if epochs is None else epochs):
        append(file, epoch(cell.id, number, SECONDS[cell.method.name], 1437))
    if cell.robust:
        append(
            robust_dataset.folder(cell, runs) / "0of1.jsonl",
            RobustChunk(first=0, images=100, seconds=100 * MAKING, distance=1.0),
        )
    for spec in cell.evals:
        for index in range(2):
            right = int(cell.method.name not in ("CRT", "Gaussian") or index == 0)
            said = Verdict(eval=spec.id, index=index, label=1, prediction=right, radius=0.0, seconds=0.0)
            append(runs / cell.id / "judge.jsonl", said)


def family(manifest: Manifest) -> dict[str, Cell]:
    """Every network of the manifest and every ancestor, each once."""
    ancestors = [one for cell in manifest.cells for one in cell.lineage]
    return {one.id: one for one in (*ancestors, *manifest.cells)}


def cost(cell: Cell) -> float:
    """By the definition: four epochs of a network and of all before it, and the images made for any of them."""
    own = 4 * SECONDS[cell.method.name] + 1437 * MAKING * (cell.method.name == "RDT")
    return own / 3600 + (cost(cell.teacher) if cell.teacher else 0.0)


@pytest.mark.parametrize("cells", [CHAIN, NESTED, DIAMOND, BESIDE, MADE, BELOW_MADE])
def test_the_whole_ancestry_is_summed(tmp_path, cells):
    manifest, runs = read(tmp_path, cells), tmp_path / "runs"
    for one in family(manifest).values():
        train(one, runs)
    measured = load(manifest, [runs])
    frame = timing(manifest, measured)
    for cell, (_, row) in zip(manifest.cells, frame.iterrows(), strict=True):
        assert row["hours"] == pytest.approx(4 * SECONDS[cell.method.name] / 3600)
        expected = pytest.approx(cost(cell)) if cell.teacher else pytest.approx(math.nan, nan_ok=True)
        assert row["hours_with_teacher"] == expected
    assert frame["teacher_hours_unknown"].isna().all() and notes(measured) == []
    needed = teachers(measured)
    assert not needed.duplicated(["student", "needs"]).any() and needed["hours"].notna().all()
    assert needed.groupby("student")["hours"].sum().to_dict() == pytest.approx(
        {c.id: cost(c) - 4 * SECONDS[c.method.name] / 3600 for c in manifest.cells if c.teacher}
    )


def test_a_teacher_of_another_manifest_counts(tmp_path):
    runs = tmp_path / "runs"
    for one in family(read(tmp_path, "  - {method: SmoothMix}\n")).values():
        train(one, runs)
    manifest = read(tmp_path, DIAMOND)
    for cell in manifest.cells:
        train(cell, runs)
    assert timing(manifest, load(manifest, [runs]))["hours_with_teacher"].tolist() == pytest.approx(
        [cost(cell) for cell in manifest.cells]
    )


def test_an_unfinished_teacher_is_told(tmp_path):
    manifest, runs = read(tmp_path, CHAIN), tmp_path / "runs"
    for one in family(manifest).values():
        train(one, runs, 2 if one.method.name == "SmoothMix" else None)
    measured = load(manifest, [runs])
    assert timing(manifest, measured)["hours_with_teacher"].tolist() == pytest.approx(list(map(cost, manifest.cells)))
    assert notes(measured) == [
        "Hours with teacher: cnn2c2f SmoothMix has trained 2 of 4 epochs; its hours are computed from these."
    ]


def no_record(cells, runs):
    del cells["SmoothMix"]
    return "there is no record of cnn2c2f SmoothMix (cnn2c2f-SmoothMix-s0-"


def warm_up_alone(cells, runs):
    train(cells.pop("SmoothMix"), runs, 1)
    return "no epoch was timed but warm-up of cnn2c2f SmoothMix (cnn2c2f-SmoothMix-s0-"


def begun(cells, runs):
    append(runs / cells.pop("SmoothMix").id / "train.jsonl", start())
    return "there is no record of cnn2c2f SmoothMix (cnn2c2f-SmoothMix-s0-"


def in_another_folder(cells, runs):
    train(cells.pop("SmoothMix"), runs.parent / "others")
    return "there is no record of cnn2c2f SmoothMix (cnn2c2f-SmoothMix-s0-"


def in_the_middle(cells, runs):
    del cells["CRT"]
    return "there is no record of cnn2c2f CRT(target=logits) (cnn2c2f-CRT-s0-"


@pytest.mark.parametrize("spoil", [no_record, warm_up_alone, begun, in_another_folder, in_the_middle])
def test_what_is_missing_is_a_dash_with_its_reason(tmp_path, spoil):
    teacher = f"{{arch: cnn2c2f, method: CRT, recipe: *r, teacher: {BASE}}}"
    manifest = read(tmp_path, f"  - {{method: RRM, teacher: {teacher}}}\n  - {{method: [Standard, Gaussian]}}\n")
    runs = tmp_path / "runs"
    cells = {one.method.name: one for one in family(manifest).values()}
    why = spoil(cells, runs)
    for one in cells.values():
        train(one, runs)
    done = CliRunner().invoke(
        app, [str(tmp_path / "m.yaml"), "--runs", str(runs), "--plot", str(tmp_path / "p.pdf")], env={"COLUMNS": "300"}
    )
    assert done.exit_code == 0, done.output
    student = "cnn2c2f RRM(lbd=0.005, distance=cosine)"
    assert f"Hours with teacher are unknown for {student}: {why}" in done.output
    # The figure over hours has the other two networks, and says that it lacks this one.
    figure = done.output[done.output.index("p-tradeoff.pdf") :].splitlines()
    assert figure[1].startswith(f"  without {student} from cnn2c2f CRT(target=logits)") and why in figure[1]
    assert f"not drawn: stacked: no teacher was timed; {student}" in done.output
    frame = timing(manifest, load(manifest, [runs]))
    assert frame["hours"].notna().all() and frame["hours_with_teacher"].isna().all()
    assert why in frame["teacher_hours_unknown"][0] and pd.isna(frame["teacher_hours_unknown"][1])


@pytest.mark.parametrize("between", [False, True])
def test_weights_from_elsewhere_cost_nobody_knows_what(tmp_path, between):
    torch.save({"head.weight": torch.zeros(1)}, tmp_path / "w.pt")
    weights = f"{{arch: cnn2c2f, weights: {tmp_path}/w.pt, normalize: true}}"
    middle = f"{{arch: cnn2c2f, method: CRT, recipe: *r, teacher: {weights}}}"
    manifest = read(tmp_path, f"  - {{method: CRT, arch: resnet20, teacher: {middle if between else weights}}}\n")
    for one in family(manifest).values():
        train(one, tmp_path / "runs")
    measured = load(manifest, [tmp_path / "runs"])
    assert math.isnan(timing(manifest, measured)["hours_with_teacher"][0])
    (note,) = notes(measured)
    assert "cost is not known, for they were trained elsewhere" in note and "w.pt" in note
    with pytest.raises(ValueError, match=r"no cell has both.*trained elsewhere"):
        tradeoff(timing(manifest, measured), robustness(measured))


def test_a_robust_dataset_that_was_not_recorded_is_told(tmp_path):
    manifest, runs = read(tmp_path, BELOW_MADE), tmp_path / "runs"
    for one in family(manifest).values():
        train(one, runs)
    (made,) = [one for one in family(manifest).values() if one.robust]
    (robust_dataset.folder(made, runs) / "0of1.jsonl").unlink()
    measured = load(manifest, [runs])
    assert math.isnan(timing(manifest, measured)["hours_with_teacher"][0])
    (note,) = notes(measured)
    assert f"no record says how long the robust dataset of cnn2c2f SmoothMix ({made.teacher.id}/rdt-" in note


@pytest.mark.parametrize("timed", [True, False])
def test_a_study_takes_a_teachers_hours_from_itself_or_else_from_its_training(tmp_path, timed):
    cells = f"  - {{method: Standard}}\n  - {{method: CRT, teacher: {BASE}}}\n"
    manifest = read(tmp_path, cells + "  - {method: SmoothMix}\n" * timed, STUDY)
    runs = tmp_path / "runs"
    for one in manifest.studies:
        file = runs / one.id / "run0" / "time.jsonl"
        append(file, start())
        for arm in one.arms:
            for turn in range(3):
                append(file, epoch(arm.id, turn, 100 * SECONDS[arm.method.name], 1437, turn))
    train(manifest.cells[1].teacher, runs)
    measured = load(manifest, [runs])
    teacher = 36 * (100 if timed else 1)
    assert timing(manifest, measured)["hours_with_teacher"][1] == pytest.approx((800 + teacher) / 3600)
    said = "those of cnn2c2f SmoothMix come from its training; no timing study here includes it."
    assert notes(measured) == ([] if timed else [f"Hours with teacher: {said}"])


def test_an_untrained_arm_of_a_study_has_no_robust_dataset_for_nothing(tmp_path):
    manifest, runs = read(tmp_path, f"  - {{method: Standard}}\n{MADE}", STUDY), tmp_path / "runs"
    (study,) = manifest.studies
    file = runs / study.id / "run0" / "time.jsonl"
    append(file, start())
    for arm in study.arms:
        for turn in range(3):
            append(file, epoch(arm.id, turn, 1.0, 1437, turn))
    train(manifest.cells[1].teacher, runs)
    frame = timing(manifest, load(manifest, [runs]))
    assert frame["hours"].notna().all() and math.isnan(frame["hours_with_teacher"][1])
    assert "robust dataset" in frame["teacher_hours_unknown"][1]


def test_hours_of_unlike_machines_are_told(tmp_path):
    manifest, runs = read(tmp_path, BESIDE), tmp_path / "runs"
    train(manifest.cells[0], runs, device="cuda A100")
    train(manifest.cells[1], runs)
    assert notes(load(manifest, [runs])) == [
        "Hours with teacher add times of different machines: cnn2c2f SmoothMix on cuda A100 (x), students on cpu (x)."
    ]


def test_each_runs_folder_has_hours_of_its_own(tmp_path):
    manifest = read(tmp_path, BESIDE)
    for name, teacher in (("a", True), ("b", False)):
        for cell in manifest.cells[not teacher :]:
            train(cell, tmp_path / name)
    measured = load(manifest, [tmp_path / "a", tmp_path / "b"])
    found = timing(manifest, measured)["hours_with_teacher"].to_numpy()
    assert np.isnan(found).tolist() == [True, False, True, True]
    (note,) = notes(measured)
    assert note.startswith(f"Hours with teacher are unknown for resnet20 CRT(target=logits) in {tmp_path / 'b'}: ")


def test_bars_show_what_was_made_apart_from_teachers(tmp_path):
    manifest, runs = read(tmp_path, MADE), tmp_path / "runs"
    for one in family(manifest).values():
        train(one, runs)
    axes = hours.stacked(timing(manifest, load(manifest, [runs]))).axes[0]
    bars = {container.get_label(): container.patches[0] for container in axes.containers}
    widths = {name: 3600 * bar.get_width() for name, bar in bars.items()}
    assert widths == pytest.approx({"own training": 12, "teachers": 36, "robust dataset": 1437 * MAKING})
    assert bars["teachers"].get_x() == pytest.approx((12 + 1437 * MAKING) / 3600)


def test_a_curve_stands_at_the_minutes_of_all_that_it_needs(tmp_path):
    manifest, runs = read(tmp_path, CHAIN), tmp_path / "runs"
    for one in family(manifest).values():
        train(one, runs)
    measured = load(manifest, [runs])
    plot = tradeoff(timing(manifest, measured), robustness(measured))
    assert plot.left_out == ["cnn2c2f CRT: no other method there has both time and result"]
    assert sorted(plot.data["hours"].unique()) == pytest.approx(sorted(cost(c) for c in manifest.cells[1:]))
