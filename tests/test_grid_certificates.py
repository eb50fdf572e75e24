"""Certificates of a grid of radii: draws, resuming, shards, ids, and what commands and reports say of them."""

import json
import math

import pandas as pd
import pytest
import torch
from test_certify import answers, certify, checkpoint, verdict  # noqa: F401
from torch import nn

from bench.commands import smoothing_tsv
from bench.jobs import evaluate
from bench.jobs.lease import JobPaths
from bench.jobs.train import run_cell
from bench.manifest.plugin_spec import spec
from bench.plan.forecast import _grids
from bench.records import Verdict, read_all
from bench.results.contenders import settings
from bench.results.counterparts import of_cell
from bench.results.judging import figure, judged_radius
from bench.results.measured import Measured
from bench.results.robustness import acr
from crt.evals.smoothing import Smoothing
from crt.sequential import RULES
from crt.threat import Threat
from reports.tables.certificates import certificates
from reports.tables.comparisons import comparisons
from reports.tables.robustness import robustness, robustness_tables

SIGMA, N = 0.25, 4000
THREAT = Threat(sigma=SIGMA)
GRID = {"radii": [0.25, 0.5], "until": "decided"}
BOTH = pytest.mark.parametrize("rule", list(RULES))


class Leans(nn.Module):
    """A network of two classes whose answer depends on one pixel, so that P(class 0) is Phi(x / sigma) there."""

    asked = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked += len(x)
        return torch.stack([x[:, 0, 0, 0], -x[:, 0, 0, 0]], 1)


def smoothing(**changes) -> Smoothing:
    return Smoothing(**({"threat": THREAT, "n": N, "n0": 100} | changes))


def question(radius: float, index: int) -> tuple:
    return torch.full((1, 2, 2), radius, dtype=torch.double), 0, (3, index)


@BOTH
@pytest.mark.parametrize("batch", [100, 300, 1000])
def test_draws_are_the_first_of_a_fixed_number_and_end_once_all_is_decided(rule, batch):
    images = [question(radius, i) for i, radius in enumerate((-0.02, 0.05, 0.2, 0.3, 0.45, 0.8))]
    found = list(smoothing(**GRID, rule=rule, batch=batch, skip_wrong=False).judge_many(Leans(), images))
    whole = smoothing(batch=100)
    drawn = []
    for (x, _, seed), judged in zip(images, found, strict=True):
        details = judged.details
        answers = torch.cat([Leans()(noisy).argmax(1) == 0 for noisy in whole.noisy(x, N, (*seed, 1))])
        if details["nA"]:
            share = answers[: details["drawn"]].sum()
            assert details["nA"] in (share, details["drawn"] - share)
        assert details["drawn"] in RULES[rule](0.001, N).looks and details["n"] == N
        assert judged.radius in (0.0, 0.25, 0.5) and judged.radius <= max(0.0, x.max().item())
        assert (judged.prediction == -1) == (details["pA_low"] < 0.5)
        drawn.append(details["drawn"])
    assert found[-1].radius == 0.5 and found[3].radius == 0.25 and max(drawn[-1], drawn[2]) < N
    again = list(smoothing(**GRID, rule=rule, batch=100, skip_wrong=False).judge_many(Leans(), images))
    assert [judged.details for judged in again] == [judged.details for judged in found]


@BOTH
def test_a_network_is_asked_no_more_than_the_draws_that_are_told(rule):
    network = Leans()
    found = smoothing(**GRID, rule=rule).judge(network, *question(0.8, 0))
    assert network.asked == 100 + found.details["drawn"] < N / 2


def test_images_whose_class_is_wrong_stop_after_the_first_draws():
    network = Leans()
    found = smoothing(**GRID).judge(network, *question(-0.8, 0))
    assert found.skipped and network.asked == 100 and found.prediction == 1


def test_without_a_grid_ids_are_those_of_before_and_with_one_they_say_so():
    plain = spec("crt.evals", "Smoothing", THREAT, "e")
    assert (plain.id, plain.label) == ("Smoothing-8626b1d2", "Smoothing") and "radii" not in plain.args
    grid = spec("crt.evals", {"Smoothing": GRID}, THREAT, "e")
    assert grid.id.startswith("Smoothing-grid-") and grid.label.startswith(
        "Smoothing grid(radii=0 0.25 0.5, until=decided"
    )
    assert spec("crt.evals", {"Smoothing": grid.args}, THREAT, "e") == grid
    same = {"radii": [0, "1/4", 0.5, 0.5], "until": "decided", "rule": "spending", "batch": 300}
    assert spec("crt.evals", {"Smoothing": same}, THREAT, "e").id == grid.id
    other = spec("crt.evals", {"Smoothing": GRID | {"rule": "mixture"}}, THREAT, "e")
    assert other.id != grid.id and "rule=mixture" in other.label


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"radii": [0.25]}, "radii, until and rule belong together"),
        ({"until": "decided"}, "radii, until and rule belong together"),
        ({"rule": "mixture"}, "radii, until and rule belong together"),
        (GRID | {"radii": []}, "Smoothing.radii: an empty list"),
        (GRID | {"radii": [-1]}, r"radii\[0\]: -1: .*greater than or equal to 0"),
        (GRID | {"radii": [2]}, r"radii: 2 cannot be certified \(allowed: up to 6 sigma = 1.5\)"),
        (GRID | {"until": "never"}, "until: 'never'"),
        (GRID | {"rule": "peeking"}, "rule: 'peeking'.*'spending' or 'mixture'"),
        (GRID | {"n": 5}, "n=5 is too small for alpha=0.001"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        spec("crt.evals", {"Smoothing": arguments}, THREAT, "e")


EVALS = (
    "[Clean, Smoothing: {n: 300, n0: 10, images: 8, skip_wrong: false}, "
    "Smoothing: {n: 300, n0: 10, images: 8, skip_wrong: false, radii: [0.1, 0.2], until: decided}]"
)


def test_killed_sharded_and_whole_evaluations_give_the_same_certificates(tiny, digits, tmp_path, monkeypatch):
    cell, step = tiny(method="Gaussian", evals=EVALS, loader="device", epochs=1).cells[0], evaluate.Progress.step

    def dies(self, note):
        if self.done % 3 == 2:
            raise InterruptedError
        step(self, note)

    def certified(name: str, shards: int, kill: bool) -> list[Verdict]:
        at = JobPaths(runs=tmp_path / name, data=digits, process="shared")
        run_cell(cell, at)
        for shard in range(shards):
            if kill:
                monkeypatch.setattr(evaluate.Progress, "step", dies)
                with pytest.raises(InterruptedError):
                    evaluate.run_judge(cell, shard, shards, at)
                monkeypatch.undo()
            evaluate.run_judge(cell, shard, shards, at)
        verdicts = [r for r in read_all(at.runs / cell.id) if isinstance(r, Verdict) and r.eval == cell.evals[2].id]
        return sorted((v.model_copy(update={"seconds": 0.0}) for v in verdicts), key=lambda v: v.index)

    whole = certified("whole", 1, kill=False)
    assert len(whole) == 8 and all({"drawn", "nA", "pA_low"} <= v.details.keys() for v in whole)
    assert certified("cut", 1, kill=True) == whole and certified("shards", 3, kill=False) == whole


def measured(tiny, tmp_path) -> tuple:
    manifest = tiny(evals=EVALS)
    cell = manifest.cells[0]
    details = {"n": 300, "nA": 90, "pA_low": 0.9}
    grid = [
        verdict(0, 1, 0.2, details=details | {"drawn": 100}),
        verdict(1, 1, 0.1, details=details | {"drawn": 200}),
        verdict(2, -1, 0.0, details=details | {"drawn": 300}),
        verdict(3, 0, 0.0, skipped=True),
    ]
    fixed = [verdict(i, 1, 0.3, details=details | {"drawn": 300}) for i in range(4)]
    keys = (cell.evals[1].id, cell.evals[2].id)
    found = {key: {v.index: v for v in verdicts} for key, verdicts in zip(keys, (fixed, grid), strict=True)}
    return manifest, Measured(cell, tmp_path, verdicts=found)


def test_reports_have_the_radii_and_draws_of_a_grid_and_no_acr(tiny, tmp_path):
    _, m = measured(tiny, tmp_path)
    fixed, grid = (row for _, row in robustness([m]).iterrows())
    assert fixed["acr"] == 0.3 and math.isnan(grid["acr"]) and acr(m).mean == 0.3
    assert [grid[f"certified_at_{r}"] for r in ("0.00", "0.10", "0.20")] == [0.5, 0.5, 0.25]
    assert math.isnan(grid["certified_at_0.25"]) and math.isnan(fixed["certified_at_0.10"])
    assert (fixed["draws"], grid["draws"]) == (310, 10 + 600 / 4)
    tables = list(robustness_tables(robustness([m])))
    radii = [column.heading for column in tables[1].columns if column.heading.startswith("r = ")]
    assert radii[:4] == ["r = 0.00", "r = 0.10", "r = 0.20", "r = 0.25"]
    assert "draws per image" in [column.heading for column in tables[0].columns]
    frame = certificates([m])
    assert frame.groupby("eval", sort=False)["drawn"].sum().tolist() == [1200, 600]


def test_a_grid_is_compared_at_its_own_radii_and_never_with_measured_ones(tiny, tmp_path):
    manifest, m = measured(tiny, tmp_path)
    fixed, grid = m.cell.evals[1:]
    assert judged_radius(m.cell, fixed) == 0.5 and judged_radius(m.cell, grid) == 0.2
    alone = m.cell.model_copy(update={"evals": (grid,)})
    assert figure([alone]) == "certified accuracy at l2 radius 0.2 (sigma 0.25), by grid certificates"
    only = Measured(alone, tmp_path, verdicts={grid.id: m.verdicts[grid.id]})
    assert of_cell(manifest, only, "acr", 0.0, ()).missing == "the grid decides at 0, 0.1, 0.2 alone, and has no ACR"
    assert "decides at" in of_cell(manifest, only, "certified", 0.25, ()).missing
    assert of_cell(manifest, only, "certified", 0.2, ()).interval.mean == 25
    assert of_cell(manifest, m, "acr", 0.0, ()).interval.mean == pytest.approx(0.3)
    assert math.isnan(acr(only).mean)
    (setting,) = settings(manifest.model_copy(update={"cells": (alone,)}), [only])
    assert setting.contenders[0].radii == {} and setting.contenders[0].robust[0][0] is True
    other = Measured(tiny(method="Gaussian", evals=EVALS).cells[0], tmp_path, verdicts=only.verdicts)
    pairs = manifest.model_copy(update={"cells": (alone, other.cell)})
    row = comparisons(pairs, [only, other]).iloc[0]
    assert row["at"] == "radius 0.2" and pd.isna(row["acr_difference"]) and row["accuracy_difference"] == 0


def test_plans_say_that_draws_end_early_and_which_radii_are_out_of_reach(tiny):
    manifest = tiny(evals="[Smoothing: {n: 1000, radii: [0.25, 0.75], until: decided}]")
    first, second = _grids(manifest)
    assert first.startswith("Smoothing grid(") and "bounds" in first
    assert second.startswith("Radii that no number of hits in n draws certifies: 0.75 (Smoothing grid(")
    assert _grids(tiny(evals="[Smoothing: {n: 1000}]")) == []


def test_certify_decides_radii_and_resumes(checkpoint, digits, tmp_path):  # noqa: F811
    options = ("--every", "40", "--n", "500", "--radii", "0.05, 0.1", "--no-skip-wrong")
    whole, cut = tmp_path / "whole.tsv", tmp_path / "cut.tsv"
    summary = tmp_path / "summary.json"
    result = certify(checkpoint, digits, whole, *options, "--json", str(summary))
    assert result.exit_code == 0, result.output
    for words in (
        "certified at 0.00",
        "certified at 0.05",
        "certified at 0.10",
        "draws per image",
        "whenever its draws end",
    ):
        assert words in result.output
    assert "ACR " not in result.output
    written = json.loads(summary.read_text())
    assert written["average_certified_radius"] is None and 100 < written["draws_per_image"] <= 600
    assert [at["radius"] for at in written["certified_accuracy"]] == [0, 0.05, 0.1]
    rows = smoothing_tsv.read(whole)
    assert whole.read_text().splitlines()[0].endswith("time\tdrawn\tnA\tpA_low")
    assert written["draws_per_image"] == pytest.approx(100 + sum(row.draws["drawn"] for row in rows) / len(rows))
    assert certify(checkpoint, digits, cut, *options, "--images", "3").exit_code == 0
    result = certify(checkpoint, digits, cut, *options, "--batch", "300")
    assert result.exit_code == 0 and answers(cut) == answers(whole)
    assert [row.draws for row in smoothing_tsv.read(cut)] == [row.draws for row in rows]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--radii", "0.25,x"], "--radii[1]: 'x'"),
        (["--radii", "0.9"], "--radii: 0.9: no number of hits in --n 100 draws certifies it"),
        (["--radii", "9"], "radii: 9 cannot be certified (allowed: up to 6 sigma = 1.5)"),
        (["--rule", "mixture"], "radii, until and rule belong together"),
    ],
)
def test_certify_refuses_in_one_line(checkpoint, digits, tmp_path, options, words):  # noqa: F811
    result = certify(checkpoint, digits, tmp_path / "t.tsv", *options)
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1, result.output
    assert not (tmp_path / "t.tsv").exists()
