"""Summaries of verdicts and curves: accuracy at eps, failed attacks, pairs, sweeps and their figures."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from test_plots import ends, lines
from test_reports import epoch, rows, start
from typer.testing import CliRunner

from bench.manifest import Manifest, read_manifest
from bench.manifest.labels import written
from bench.records import End, MonitorPoint, Verdict, append
from bench.results.intervals import mcnemar
from bench.results.loading import load
from bench.results.measured import Measured
from bench.results.pairs import shown
from bench.results.statistics import share_difference, wilson
from reports.__main__ import app
from reports.figures import arguments, hours, training
from reports.figures.tradeoff import tradeoff
from reports.header import header
from reports.render.table_spec import TEXT
from reports.tables.all_tables import tables
from reports.tables.attack_checks import masking
from reports.tables.comparisons import comparisons
from reports.tables.factors import factors
from reports.tables.monitor import monitored
from reports.tables.robustness import robustness
from reports.tables.speed import speed
from reports.tables.sweeps import sweeps
from reports.tables.timing import timing

STUDY = """
title: Hand-made
baseline: SAT
timing: {runs: 1, rounds: 2, images: 64}
dataset: digits
threat: {norm: linf, eps: 8/255}
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
monitor: {evals: [PGD]}
evals: [PGD: {steps: 5}, PGD: {steps: 50}, PGD: {steps: 5, eps: 0.5}]
cells:
  - {method: SAT, arch: resnet110, name: small, paper: {clean: 85.5, robust: 48.38}}
  - {method: SAT, arch: resnet20, select: best}
  - {method: FreeAT: {m: 4}, arch: resnet20, recipe: {epochs: 2, batch_size: 64, lr: 0.1}, monitor: null}
  - method: [{RRM: {lbd: 0.1}}, {RRM: {lbd: 0.01}}]
    arch: [resnet110, resnet20]
    teacher: {cell: small}
""".replace("FreeAT: {m: 4}, arch", "{FreeAT: {m: 4}}, arch")
SECONDS = {"SAT": 8.0, "FreeAT": 4.0, "RRM": 1.0}
FLOPS = {"SAT": 24.0, "FreeAT": 12.0, "RRM": 4.0}
CLEAN = {"SAT": 8, "FreeAT": 6, "RRM": 7}
"""Of ten images, those that are right; at eps two fewer under 5 steps, and one more fewer under 50."""


def study(tmp_path: Path, text: str = STUDY) -> tuple[Manifest, list[Measured]]:
    """Times in the folders of studies, and verdicts in the cells' own."""
    (tmp_path / "m.yaml").write_text(text)
    manifest, runs = read_manifest(tmp_path / "m.yaml"), tmp_path / "runs"
    for one in manifest.studies:
        file = runs / one.id / "run0" / "time.jsonl"
        append(file, start(flops={arm.id: FLOPS[arm.method.name] for arm in one.arms}))
        for arm in one.arms:
            for turn in range(3):
                append(file, epoch(arm.id, turn, SECONDS[arm.method.name] * (1 + turn / 100), 64, turn))
    for cell in manifest.cells:
        file = runs / cell.id / "train.jsonl"
        append(file, start(host="elsewhere", threads=1))
        for number in range(cell.recipe.epochs):
            for spec in cell.monitor.evals if cell.monitor else ():
                seen = {"right": 0.2 * (number + 1), "standing": 0.1 * (number + 1), "details": {"norm": 0.5}}
                append(file, MonitorPoint(arm=cell.id, epoch=number, eval=spec.id, images=10, **seen))
            append(file, epoch(cell.id, number, 99.0, 1437).model_copy(update={"loss": 4.0 - number}))
        append(file, End(time=1.0))
        for spec, standing in zip(cell.evals, (-2, -3, -10), strict=True):
            eps, clean = spec.args["eps"] or 8 / 255, CLEAN[cell.method.name]
            for index in range(10):
                found = {"prediction": int(index < clean), "radius": eps * (index < clean + standing), "seconds": 0.0}
                append(runs / cell.id / "judge.jsonl", Verdict(eval=spec.id, index=index, label=1, **found))
    return manifest, load(manifest, [runs])


def test_times_come_from_the_study_and_accuracies_from_the_cells_own_folder(tmp_path):
    manifest, measured = study(tmp_path)
    frame = timing(manifest, measured).set_index(["arch", "method"])
    sat, student = frame.loc[("resnet20", "SAT")], frame.loc[("resnet20", "RRM(lbd=0.1, distance=cosine)")]
    assert sat["s_per_epoch"] == pytest.approx(8.0 * 1.015 * 1437 / 64) and sat["rounds"] == 2
    assert (sat["clean"], sat["at_eps"]) == (0.8, 0.6) and sat["at_eps_by"].endswith(
        "steps=5, restarts=1) at linf 8/255"
    )
    assert (sat["at_eps_low"], sat["at_eps_high"]) == pytest.approx(wilson(6, 10)[1:])
    assert student["at_eps"] == 0.5 and student["hours_with_teacher"] > student["hours"] > 0
    lines = header(
        manifest,
        measured,
        {k: factors(manifest, measured) for k in ("means", "factors", "comparisons", "seed_differences")}
        | {"timing": frame, "speed": speed(manifest, measured), "seeds": pd.DataFrame()}
        | {"probabilities": pd.DataFrame()},
    )
    for words in (
        "do not train networks to the end",
        "1 of 2 threads",
        "on all test images",
        " 4 times",
        "at linf 8/255",
    ):
        assert any(words in line for line in lines), words
    judged = robustness(measured)
    assert len(judged) == 7 * 3 and set(judged["epochs"]) == {"4/4", "4/4 (best)", "8/8"}
    first = judged.iloc[0]
    assert (first["clean"], first["at_eps"], first["paper_clean"], first["paper_at_eps"]) == (0.8, 0.6, 0.855, 0.4838)
    assert judged["paper_at_eps"].notna().sum() == 1 and judged["eps"].iloc[2] == 0.5 and judged["at_eps"].iloc[2] == 0


def test_a_replay_counts_as_an_epoch(tmp_path):
    manifest, measured = study(tmp_path)
    frame = timing(manifest, measured).set_index(["arch", "method"])
    free = frame.loc[("resnet20", "FreeAT(m=4, reset=False)")]
    # Four replays in 4 s of a loaded epoch, against 8 s.
    assert free["s_per_epoch"] == pytest.approx(1.0 * 1.015 * 1437 / 64)
    assert free["slowdown"] == pytest.approx(1 / 8) and free["ideal"] == pytest.approx(3 / 24)
    assert free["epochs"] == 8 and free["hours"] == pytest.approx(2 * 4 * 1.015 * 1437 / 64 / 3600)
    row = factors(manifest, measured).set_index(["slower", "faster"]).loc[("SAT", "FreeAT(m=4, reset=False)")]
    assert (row["total"], row["epochs"], row["passes"]) == pytest.approx((4.0, 0.5, 8.0))


def test_pairs_that_papers_compare_are_shown_and_the_frame_has_all(tmp_path):
    manifest, measured = study(tmp_path)
    frame = factors(manifest, measured)
    assert len(frame) == 3 + 6
    sat, free, one, other = "SAT", "FreeAT(m=4, reset=False)", *(f"RRM(lbd={v}, distance=cosine)" for v in (0.1, 0.01))
    assert {frozenset(pair) for pair in shown(frame)[["slower", "faster"]].itertuples(index=False)} == {
        frozenset(pair) for pair in ((sat, free), (sat, one), (sat, other), (free, one), (free, other))
    }
    compared = comparisons(manifest, measured)
    assert len(compared) == 3 * 21
    worth = shown(compared)
    # Without every pair, the same rows have no differences but where a table shows them.
    quick = comparisons(manifest, measured, every=False)
    assert shown(quick).equals(worth) and quick["couple"].equals(compared["couple"])
    assert quick.loc[quick["couple"] == "other", ["accuracy_difference", "mcnemar_p"]].isna().all(axis=None)
    # Of one architecture 2 and 5, and two students with a teacher of another architecture.
    assert (
        len(worth) == 2 + 5 + 2 and set(worth["at"]) == {"eps 8/255"} and worth["eval"].str.contains("steps=5,").all()
    )
    row = worth[worth["other"].str.contains("FreeAT")].iloc[0]
    assert (row["one"], row["images"], row["accuracy_difference"]) == ("resnet20 SAT", 10, pytest.approx(0.2))
    assert row["mcnemar_p"] == mcnemar([True] * 6 + [False] * 4, [True] * 4 + [False] * 6) and math.isnan(
        row["acr_difference"]
    )


def test_networks_trained_for_other_balls_are_compared_in_the_same_one(tmp_path):
    text = STUDY.split("monitor")[0].replace("timing: {runs: 1, rounds: 2, images: 64}\n", "")
    text += "evals: [PGD: {steps: 5, eps: 8/255}, PGD: {steps: 5}]\n"
    text += "cells: [{method: SAT, arch: cnn2c2f, threat: [{norm: linf, eps: 4/255}, {norm: linf, eps: 8/255}]}]"
    (tmp_path / "m.yaml").write_text(text)
    manifest = read_manifest(tmp_path / "m.yaml")
    right = {"label": 1, "prediction": 1, "seconds": 0.0, "radius": 8 / 255}
    measured = [
        Measured(
            c, tmp_path, verdicts={s.id: {i: Verdict(eval=s.id, index=i, **right) for i in range(10)} for s in c.evals}
        )
        for c in manifest.cells
    ]
    (row,) = comparisons(manifest, measured).to_dict("records")
    assert (row["one"], row["other"]) == ("cnn2c2f SAT, linf eps 4/255", "cnn2c2f SAT, linf eps 8/255")
    assert (row["at"], row["images"], row["accuracy_difference"]) == ("eps 8/255", 10, 0)


def test_differences_of_shares_against_newcombe():
    # Newcombe (1998), table II: 36, 12, 2 and 0 pairs; and by a re-statement of his formula.
    a, b = [True] * 48 + [False] * 2, [True] * 36 + [False] * 12 + [True] * 2
    assert share_difference(a, b)[1:] == pytest.approx((0.0569, 0.3404), abs=5e-5)
    rng = np.random.default_rng(0)
    a = rng.random(200) < 0.7
    b = np.where(rng.random(200) < 0.8, a, ~a)
    one, other = (scipy_stats.binomtest(int(s.sum()), 200).proportion_ci(0.95, "wilson") for s in (a, b))
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    (e, f), (g, h) = np.array(table, float)
    phi = (e * h - f * g - 100) / math.sqrt((e + f) * (g + h) * (e + g) * (f + h))
    p, q = a.mean(), b.mean()
    low = math.sqrt((p - one.low) ** 2 - 2 * phi * (p - one.low) * (other.high - q) + (other.high - q) ** 2)
    high = math.sqrt((one.high - p) ** 2 - 2 * phi * (one.high - p) * (q - other.low) + (q - other.low) ** 2)
    assert share_difference(list(a), list(b)) == pytest.approx((p - q, p - q - low, p - q + high))
    # Half of the images decided by chance, and the truth in the interval as often as it says.
    inside = 0
    for _ in range(300):
        a = rng.random(60) < 0.6
        b = np.where(rng.random(60) < 0.5, a, rng.random(60) < 0.4)
        found = share_difference(list(a), list(b))
        inside += found.low <= 0.1 <= found.high
    assert scipy_stats.binomtest(inside, 300, 0.95).pvalue > 1e-3


def judge(tmp_path: Path, evals: str, standing: list[list[int]]) -> Measured:
    """A cell of ten right images, of which some stand under each attack."""
    text = STUDY.split("monitor")[0] + f"evals: {evals}\ncells: [{{method: SAT, arch: resnet110}}]"
    (tmp_path / "m.yaml").write_text(text)
    (cell,) = read_manifest(tmp_path / "m.yaml").cells
    verdicts = {
        spec.id: {
            i: Verdict(
                eval=spec.id,
                index=i,
                label=1,
                prediction=1,
                seconds=0,
                radius=(i in kept) * (spec.args["eps"] or 8 / 255),
            )
            for i in range(10)
        }
        for spec, kept in zip(cell.evals, standing, strict=True)
    }
    return Measured(cell, tmp_path, verdicts=verdicts)


def test_failed_attacks_are_named_by_rule(tmp_path):
    evals = "[PGD: {steps: 50}, PGD: {steps: 5}, PGD: {steps: 50, restarts: 2, eps: 0.5}]"
    fine = judge(tmp_path, evals, [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5], []])
    weak = judge(tmp_path, evals, [[0, 9], [0, 1, 2, 3, 4, 5, 6, 7], []])
    masked = judge(tmp_path, evals, [[0], [0], [0, 1]])
    frame = masking([fine, weak, masked])
    assert frame["verdict"].tolist() == ["ok", "weak attack", "masked gradients?"]
    assert frame["weakest"].str.contains("steps=5,").all() and frame["strongest"].str.contains("steps=50").all()
    assert frame["at_weakest"].tolist() == [0.6, 0.8, 0.1] and frame["at_largest"].tolist() == [0, 0, 0.2]
    # 9 stood 50 steps but not 5; 1 stood in the large ball but not in the small one.
    assert frame["only_weaker"].tolist() == [0, 1, 1]
    assert masking([judge(tmp_path, "[PGD]", [[1]])]).empty
    alone = masking([judge(tmp_path, "[PGD, PGD: {eps: 0.4}]", [[1], [1, 2]])]).iloc[0]
    assert alone["verdict"] == "ok" and math.isnan(alone["at_weakest"]) and alone["at_largest"] == 0.2


def test_certificates_of_a_lipschitz_constant(tmp_path):
    text = STUDY.split("monitor")[0].replace("linf, eps: 8/255", "l2, eps: 36/255")
    paper = f"{{robust: 60.8, certified: {{{36 / 255}: 51.3}}}}"
    text += f"evals: [PGD, Lipschitz]\ncells: [{{method: SAT, arch: cnn4c3f, paper: {paper}}}]"
    (tmp_path / "m.yaml").write_text(text)
    (cell,) = read_manifest(tmp_path / "m.yaml").cells
    _, bound = cell.evals
    found = ((1, 0.3), (1, 0.1), (0, 0.5), (1, 36 / 255))
    verdicts = {
        i: Verdict(eval="", index=i, label=1, prediction=p, radius=r, seconds=0) for i, (p, r) in enumerate(found)
    }
    by_attack, by_bound = (
        row for _, row in robustness([Measured(cell, tmp_path, verdicts={bound.id: verdicts})]).iterrows()
    )
    assert (by_bound["clean"], by_bound["at_eps"], by_bound["paper_at_eps"]) == (0.75, 0.5, pytest.approx(0.513))
    assert by_bound["acr"] == pytest.approx((0.3 + 0.1 + 36 / 255) / 4) and by_attack["paper_at_eps"] == pytest.approx(
        0.608
    )
    assert math.isnan(by_attack["clean"]) and math.isnan(by_attack["acr"])


def test_eps_as_people_write_it():
    assert [written(eps) for eps in (8 / 255, 36 / 255, 0.5, 1.0, 3.0, 51 / 255, 0.0314)] == [
        "8/255", "36/255", "0.5", "1", "3", "0.2", "0.0314",
    ]  # fmt: skip


def test_figures_draw_what_is_in_the_frames(tmp_path):
    manifest, measured = study(tmp_path)
    frame = timing(manifest, measured)
    drawn = tradeoff(frame, robustness(measured)).data.query("arch == 'resnet20' and series == 'SAT'")
    sat = frame[(frame["method"] == "SAT") & (frame["arch"] == "resnet20")].iloc[0]
    assert drawn["hours"].tolist() == pytest.approx([sat["hours"]] * 2)
    assert drawn["measure"].tolist() == ["PGD at ℓ∞ 8/255 (%)", "clean (%)"]
    for row, key in zip(drawn.itertuples(), ("at_eps", "clean"), strict=True):
        assert (row.low, row.estimate, row.high) == pytest.approx(
            tuple(100 * sat[f"{key}{end}"] for end in ("_low", "", "_high"))
        )
    bars = hours.stacked(frame).axes[0].patches
    widths = [bar.get_width() for bar in bars]
    assert widths[:7] == pytest.approx(frame["hours"].tolist())
    assert widths[7:] == pytest.approx((frame["hours_with_teacher"] - frame["hours"]).fillna(0).tolist())
    frame.loc[(frame["arch"] == "resnet20") & frame["method"].str.contains("0.1,"), "clean"] = 0.6
    (axes,) = arguments.complexity(frame).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["resnet110", "resnet20"]
    assert lines(axes)["RRM lbd=0.1"] == [(0, 70), (1, 60)]
    accuracy, _, loss, _ = training.epochs(monitored(manifest, measured), frame).axes
    assert accuracy.get_title() == "resnet110" and accuracy.lines[0].get_xydata() == pytest.approx(
        np.array([(k + 1, 20 * (k + 1)) for k in range(4)])
    )
    assert loss.lines[0].get_xydata().tolist() == [[1, 4], [2, 3], [3, 2], [4, 1]]


def test_sweeps_are_drawn_where_an_accuracy_changes(tmp_path):
    _, measured = study(tmp_path)
    frame = sweeps(measured)
    with pytest.raises(ValueError, match="no result changes"):
        arguments.sweep(frame)
    frame.loc[frame["value"] == 0.1, "at_eps"] = 0.8
    panels = arguments.sweep(frame).axes
    assert [axes.get_title() for axes in panels] == ["resnet110", "resnet20"]
    assert [x for x, _ in lines(panels[0])["RRM"]] == [0.01, 0.1] and panels[0].get_xscale() == "log"
    assert ends(panels[0], "RRM", 1) == [
        pytest.approx((100 * row.clean_low, 100 * row.clean_high))
        for row in frame[frame["arch"] == "resnet110"].sort_values("value").itertuples()
    ]


MIXED = """
dataset: cifar10
arch: cnn4c3f
recipe: {epochs: 60, batch_size: 100, lr: 0.1}
threat: {norm: linf, eps: 8/255}
cells:
- {method: METHODS}
"""


@pytest.mark.parametrize(
    ("written", "swept"),
    [
        ("[{IBP: {regularize: 0.5}}, IBP]", {("IBP", "regularize", 0.5), ("IBP", "regularize", 0.0)}),
        ("[IBP, {IBP: {regularize: 0.5}}]", {("IBP", "regularize", 0.5), ("IBP", "regularize", 0.0)}),
        ("[{SAT: {awp: 0.005}}, SAT]", set()),
        ("[{SAT: {awp: 0.005}}, SAT, {SAT: {awp: 0.01}}]", {("SAT", "awp", 0.005), ("SAT", "awp", 0.01)}),
        (
            "[{SAT: {awp: 0.005, K: 3}}, {SAT: {K: 3}}, {SAT: {K: 5}}, {SAT: {awp: 0.005, K: 5}}]",
            {(f"SAT, awp={awp}", "K", steps) for awp in (None, 0.005) for steps in (3, 5)},
        ),
    ],
)
def test_arguments_that_an_id_leaves_out_at_their_defaults_are_swept(tmp_path, written, swept):
    (tmp_path / "m.yaml").write_text(MIXED.replace("METHODS", written))
    cells = read_manifest(tmp_path / "m.yaml").cells
    frame = sweeps([Measured(cell, tmp_path) for cell in cells])
    assert set(zip(frame["method"], frame["argument"], frame["value"], strict=True)) == swept
    assert all(cell.arguments.items() >= cell.method.args.items() for cell in cells)


def test_nothing_to_draw_is_said(tmp_path):
    manifest, measured = study(tmp_path)
    nothing = [Measured(m.cell, m.folder) for m in measured]
    frame = timing(manifest, nothing)
    for draw, empty, said in (
        (partial(tradeoff, robustness=robustness(nothing)), frame, "no cell has both"),
        (hours.stacked, frame, "no teacher was timed"),
        (arguments.sweep, sweeps(nothing), "no evaluated cells differ"),
        (arguments.complexity, frame, "no teacher has evaluated students"),
        (partial(training.epochs, timing=frame), monitored(manifest, nothing), "no network was monitored"),
    ):
        with pytest.raises(ValueError, match=said):
            draw(empty)


def test_the_command_writes_all_of_it(tmp_path):
    study(tmp_path)
    options = [
        "--wide-csv",
        str(tmp_path / "m.csv"),
        "--out",
        str(tmp_path / "m.md"),
        "--plot",
        str(tmp_path / "m.png"),
    ]
    done = CliRunner().invoke(app, [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), *options])
    assert done.exit_code == 0, done.output
    for name in ("tradeoff", "stacked", "progress", "curves", "slowdown"):
        assert (tmp_path / f"m-{name}.png").stat().st_size > 0
    text = (tmp_path / "m.md").read_text()
    assert (
        "| linf 8/255 | 60.0 [31, 83] | 85.50 | 48.38 |" in text and "skipped" not in text and "paper total" not in text
    )
    assert len(rows(tmp_path / "m-comparisons.csv")) == 63 and len(rows(tmp_path / "m-masking.csv")) == 7
    assert rows(tmp_path / "m-monitored.csv")[0]["mean_norm"] == "0.5"


def test_tables_have_no_columns_of_dashes_that_nobody_waits_for(tmp_path):
    manifest, measured = study(tmp_path)
    names = "means factors scaling masking comparisons speed claims energy trainings seeds seed_differences".split()
    frames = {"timing": timing(manifest, measured), "robustness": robustness(measured)}
    frames |= dict.fromkeys(names, masking([])) | {"masking": masking(measured)}
    headings = {
        spec.title.split(" (")[0]: [column.heading for column in spec.shown(TEXT)] for spec in tables(frames, TEXT)
    }
    assert headings["Evaluation"][-4:] == ["eps", "accuracy at eps", "paper clean", "paper at eps"]
    assert not {"skipped", "abstained", "ACR"} & set(headings["Evaluation"])
    assert headings["Time"][-4:] == ["training", "with teacher", "clean", "accuracy at eps"]
