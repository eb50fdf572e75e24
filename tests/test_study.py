"""A timing study end to end: its records, its report, with two ranks too; the bare loop trains as the harness does."""

import json

import pytest
import torch
from typer.testing import CliRunner

from bench import speed, submit
from bench.build.networks import batches, method, network, restatement
from bench.jobs.lease import JobPaths
from bench.jobs.time_arms import Arm, run_study
from bench.manifest import read_manifest
from bench.plan.waves import waves
from bench.records import End, Epoch, Phases, Start, read
from crt.training.loop import Training, optimizer
from reports import __main__ as reports

TIMED = """
baseline: bare loop
dataset: digits
loader: device
pipeline: plain
threat: {sigma: 0.25}
arch: cnn2c2f
recipe: {epochs: 2, batch_size: 32, lr: 0.1}
timing: {runs: 1, rounds: 3, images: 64}
cells:
  - {method: Standard, loop: bare}
  - {method: Standard}
  - {method: SmoothMix}
"""


def test_study_times_every_arm_and_looks_into_its_phases(tmp_path, digits, monkeypatch):
    made = []
    monkeypatch.setattr("bench.jobs.time_arms.network", lambda cell: made.append(cell) or network(cell))
    (tmp_path / "m.yaml").write_text(TIMED)
    (study,) = read_manifest(tmp_path / "m.yaml").studies
    place = JobPaths(runs=tmp_path / "runs", data=digits, process="shared")
    file = place.runs / study.id / "run0" / "time.jsonl"
    run_study(study, 0, place)
    # A cluster that starts the job again, just after its end, loses nothing of it.
    content = file.read_bytes()
    run_study(study, 0, place)
    assert file.read_bytes() == content and [each.name for each in file.parent.iterdir()] == [file.name]
    started, *records, ended = read(file)
    assert isinstance(started, Start) and isinstance(ended, End)
    arms = [arm.id for arm in study.arms]
    # What an arm's first steps take, compiling and recording, is no part of its phases.
    assert len(arms) == len(made) == 4 and set(started.flops) == set(started.passes) == set(arms)
    for arm in arms:
        own = [r for r in records if r.arm == arm]
        assert [(r.round, r.warmup) for r in own[:-1]] == [(0, True), (1, False), (2, False), (3, False)]
        assert all(isinstance(r, Epoch) and r.images == 64 for r in own[:-1])
        assert isinstance(own[-1], Phases) and own[-1].host["compute"] > 0 and own[-1].host["all_reduce"] == 0
    assert json.loads((tmp_path / "runs" / study.id / "study.json").read_text())["timing"]["rounds"] == 3
    assert started.passes[study.arms[2].id] == {
        "forwards": 12.0,
        "teacher_forwards": 0.0,
        "input_backwards": 8.0,
        "backwards": 4.0,
        "teacher_input_backwards": 0.0,
    }


def test_two_ranks_wait_for_their_all_reduce(tmp_path, digits):
    path = tmp_path / "m.yaml"
    cells = "cells:\n  - {method: Standard}\n  - {method: SmoothMix}\n"
    path.write_text(TIMED.replace("bare loop", "Standard").split("cells:")[0] + "ranks: 2\n" + cells)
    where = [str(path), "--runs", str(tmp_path / "runs"), "--data", str(digits)]
    done = CliRunner().invoke(submit.app, [*where, "--launcher", "local"])
    assert done.exit_code == 0, done.output
    (file,) = (tmp_path / "runs").glob("*/run0/time.jsonl")
    seen = [r for r in read(file) if isinstance(r, Phases)]
    assert len(seen) == 3 and all(r.host["all_reduce"] > 0 and r.images == 64 for r in seen)
    told = CliRunner().invoke(reports.app, where[:3])
    assert told.exit_code == 0 and "like for like" in told.output and "3 or more runs are needed" in told.output


def test_bare_loop_trains_as_the_harness_does(tmp_path, digits):
    (tmp_path / "m.yaml").write_text(TIMED)
    bare, cell, _ = read_manifest(tmp_path / "m.yaml").cells
    models = []
    for one in (bare, cell):
        model, bound = network(one), method(one, None)
        loaded = batches(one, digits, 64)
        if one.loop == "bare":
            restatement(one, bound, model, optimizer(model, one.recipe)).epoch(loaded, 0)
        else:
            Training(bound, model, one.recipe).epoch(loaded, 0)
        models.append(model.state_dict())
    for name, value in models[0].items():
        assert torch.equal(value, models[1][name]), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bare_loop_has_the_recipe_s_precision(tmp_path, digits, precision):
    (tmp_path / "m.yaml").write_text(TIMED.replace("lr: 0.1", f"lr: 0.1, precision: {precision}"))
    bare, *_ = read_manifest(tmp_path / "m.yaml").cells
    arm, dtypes = Arm(bare, bare.recipe), set()
    arm.model.register_forward_hook(lambda *call: dtypes.add(call[-1].dtype))
    arm.train(batches(bare, digits, 64), 0)
    assert dtypes == {torch.bfloat16 if precision == "bf16" else torch.float32}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("{method: SmoothMix}", "{method: SmoothMix, ranks: 2, loop: bare}"),
            "Standard, TRADES on one rank",
        ),
        (("timing: {runs: 1, rounds: 3, images: 64}", ""), "in a timing study"),
        (("baseline: bare loop\n", ""), "a timing study needs the method"),
        (("baseline: bare loop", "baseline: CRT"), "'CRT' (allowed: SmoothMix, Standard, bare loop)"),
    ],
)
def test_what_a_study_cannot_be_is_said(tmp_path, change, words):
    (tmp_path / "m.yaml").write_text(TIMED.replace(*change))
    with pytest.raises(ValueError) as error:
        read_manifest(tmp_path / "m.yaml")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--archs", "cnn2c2"], "--archs 'cnn2c2': not in the manifest (allowed: cnn2c2f)"),
        (["--methods", "Standard,Nope"], "--methods 'Nope': not in the manifest (allowed: Standard)"),
        (["--methods", ""], "--methods '': not in the manifest (allowed: Standard)"),
    ],
)
def test_speed_lists_the_names_that_there_are(tmp_path, options, words):
    (tmp_path / "m.yaml").write_text(TIMED)
    done = CliRunner().invoke(speed.app, [str(tmp_path / "m.yaml"), "--data", str(tmp_path / "data"), *options])
    assert (done.exit_code, done.stderr) == (2, f"error: {words}\n") and not (tmp_path / "data").exists()


def test_speed_times_studies_alone(tmp_path):
    path = tmp_path / "m.yaml"
    once = TIMED[: TIMED.index("timing:")].replace("baseline: bare loop", "")
    path.write_text(f"{once}cells: [{{method: Standard}}]")
    done = CliRunner().invoke(speed.app, [str(path), "--data", str(tmp_path / "data")])
    assert (done.exit_code, done.stderr) == (2, f"error: {path}: timing: missing (bench.speed times a study)\n")


def test_cells_that_quick_makes_equal_are_timed_trained_and_judged_once(tmp_path):
    free = "\n".join(
        f"  - {{method: FreeAT, recipe: {{epochs: {epochs}, batch_size: 32, lr: 0.1}}, evals: [{evals}]}}"
        for epochs, evals in ((40, "PGD"), (80, "PGD, Clean"))
    )
    twice = TIMED.replace("  - {method: SmoothMix}", free).replace("sigma: 0.25", "norm: linf, eps: 0.1")
    (tmp_path / "m.yaml").write_text(twice)
    manifests = {quick: read_manifest(tmp_path / "m.yaml", quick=quick) for quick in (False, True)}
    arms = {quick: [arm.method.name for arm in each.studies[0].arms] for quick, each in manifests.items()}
    assert arms[False].count("FreeAT") == 2 and arms[True].count("FreeAT") == 1
    place = JobPaths(runs=tmp_path, data=tmp_path, process="shared")
    tasks = [job.task.key for wave in waves(manifests[True], place) for job in wave.jobs]
    assert len(tasks) == len(set(tasks)) == 1 + 1 + 1
    (trained,) = manifests[True].trained
    assert [spec.name for spec in trained.evals] == ["PGD", "Clean"]
