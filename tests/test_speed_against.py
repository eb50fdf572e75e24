"""Methods beside their plain restatements: the studies, the records, the ratios, the command and the report."""

from pathlib import Path

import pytest
from test_reports import epoch, start
from typer.testing import CliRunner

from bench import speed
from bench.cell import Cell
from bench.jobs import step_memory
from bench.jobs.lease import JobPaths
from bench.manifest import read_manifest
from bench.manifest.restated import restated_studies
from bench.records import Epoch, Phases, StepMemory, append, read
from bench.results.restated import restated
from crt.plugins import plugins
from reports import __main__ as reports

TEXT = """
baseline: Standard
dataset: digits
loader: device
pipeline: plain
arch: cnn2c2f
threat: {sigma: 0.25}
timing: {runs: 1, rounds: 2, images: 32}
recipe: {epochs: 1, batch_size: 16, lr: 0.1, channels_last: true, fused: true, fold: true}
cells:
  - {method: Standard}
  - {method: SmoothMix}
"""


def manifest(tmp_path, text: str = TEXT):
    (tmp_path / "m.yaml").write_text(text)
    return read_manifest(tmp_path / "m.yaml")


def test_each_cell_is_timed_with_its_restatement_in_plain_arithmetic(tmp_path):
    bare = "  - {method: Standard, loop: bare}\n  - {method: Standard, ranks: 2}\n"
    first, second = restated_studies(manifest(tmp_path, TEXT + bare))
    assert [arm.method.name for arm in (*first.arms, *second.arms)] == ["Standard"] * 2 + ["SmoothMix"] * 2
    for study in (first, second):
        ours, plain = study.arms
        assert (ours.loop, plain.loop) == ("train", "bare") and study.references == {ours.id: plain.id}
        assert ours.recipe.fold and not (plain.recipe.fold or plain.recipe.fused or plain.recipe.channels_last)
        assert ours.per_step == plain.per_step and ours.threat == plain.threat
    # A manifest's own study of the same cell, which may be there as well, has records of its own.
    assert first.id not in {study.id for study in manifest(tmp_path).studies}


def test_the_ratio_is_paired_by_round_and_memory_has_one(tmp_path):
    (study, _), runs = restated_studies(manifest(tmp_path)), tmp_path / "runs"
    ours, plain = (arm.id for arm in study.arms)
    file = runs / study.id / "run0" / "time.jsonl"
    append(file, start())
    for turn, seconds in enumerate((1.0, 2.0, 3.0, 4.0), 1):
        append(file, epoch(ours, turn, 0.5 * seconds, 32, turn))
        append(file, epoch(plain, turn, seconds, 32, turn))
    memory = runs / study.id / "memory.jsonl"
    append(memory, start())
    append(memory, StepMemory(arm=ours, memory=30.0))
    append(memory, StepMemory(arm=plain, memory=40.0))
    (row,) = restated(read_manifest(tmp_path / "m.yaml"), runs)
    assert row.ratio.mean == pytest.approx(0.5) and row.ratio.low == pytest.approx(0.5)
    assert row.ours.memory / row.plain.memory == 0.75
    assert row.plain.step.mean == pytest.approx(2.5 / 32 * 16)
    shown = CliRunner().invoke(reports.app, [str(tmp_path / "m.yaml"), "--runs", str(runs), "--wide"])
    assert shown.exit_code == 0 and "beside plain PyTorch" in shown.output and "0.75" in shown.output
    assert not any(words in shown.output for words in ("Not timed", "slowdown", "No records"))
    written = CliRunner().invoke(
        reports.app, [str(tmp_path / "m.yaml"), "--runs", str(runs), "--wide-csv", str(tmp_path / "r.csv")]
    )
    assert written.exit_code == 0
    header, line = (tmp_path / "r-restatements.csv").read_text().splitlines()
    values = dict(zip(header.split(","), line.replace('"channels_last, fused, fold"', "exact").split(","), strict=True))
    assert values["switches"] == "exact" and float(values["ratio"]) == pytest.approx(0.5)
    assert float(values["memory_ratio"]) == 0.75 and float(values["plain_memory_mb"]) == 40


def test_the_command_times_and_resumes(tmp_path, digits, monkeypatch):
    manifest(tmp_path, TEXT.replace("  - {method: SmoothMix}\n", "").replace("runs: 1", "runs: 2"))
    measured = []
    monkeypatch.setattr(step_memory, "_in_a_process", lambda arm: measured.append(arm.loop) or 5.0 + len(measured))
    words = [str(tmp_path / "m.yaml"), "--against", "plain-eager", "--runs", str(tmp_path / "runs"), "--data"]
    for _ in range(2):
        done = CliRunner().invoke(speed.app, [*words, str(digits)])
        assert done.exit_code == 0, done.output
        assert "Beside plain PyTorch" in done.output and "2 of 2 timing tasks are complete" in done.output
    assert measured == ["train", "bare"]
    # What is interrupted between its rounds and its memory measures that alone.
    before = {file: file.read_bytes() for file in (tmp_path / "runs").glob("*/run*/*")}
    next((tmp_path / "runs").glob("*/memory.jsonl")).unlink()
    assert "2 of 2" in CliRunner().invoke(speed.app, [*words, str(digits)]).output and len(measured) == 4
    assert before == {file: file.read_bytes() for file in (tmp_path / "runs").glob("*/run*/*")}
    files = sorted((tmp_path / "runs").glob("*/run*/*"))
    assert [file.name for file in files] == ["time.jsonl", "time.jsonl"]
    records = read(files[0])
    assert not any(isinstance(record, Phases) for record in records)
    assert sum(isinstance(record, Epoch) and not record.warmup for record in records) == 4


def test_memory_grows_with_the_batch_and_is_measured_in_a_process(tmp_path):
    (study, _) = restated_studies(manifest(tmp_path))
    arm = study.arms[1]
    assert Cell.model_validate_json(arm.model_dump_json()) == arm
    large = arm.model_copy(update={"recipe": arm.recipe.model_copy(update={"batch_size": 1024})})
    place = JobPaths(runs=tmp_path / "runs", data=tmp_path, process="shared")
    both = study.model_copy(update={"arms": (arm, large)})
    step_memory.measure_memory(both, place)
    first, second = (r for r in read(place.runs / both.id / "memory.jsonl") if isinstance(r, StepMemory))
    # The first convolution alone has 16 x 16 x 16 outputs an image, before and behind its ReLU.
    assert 0 < first.memory < second.memory and second.memory > 1024 * 2 * 16**3 * 4 / 2**20


def test_a_process_that_fails_is_told_by_its_last_line(tmp_path):
    (study, _) = restated_studies(manifest(tmp_path))
    wrong = study.arms[0].model_copy(update={"arch": "cnn2c3f"})
    with pytest.raises(RuntimeError, match=r"memory of cnn2c3f-Standard.*unknown name 'cnn2c3f'"):
        step_memory._in_a_process(wrong)


@pytest.mark.parametrize(
    ("words", "change", "message"),
    [
        (["--against", "eager"], ("", ""), "--against eager: no such reference (allowed: plain-eager)"),
        (["--against", "plain-eager", "--methods", "SAT"], ("", ""), "--methods 'SAT': not in the manifest"),
        (["--against", "plain-eager"], ("\ncells:", "\nranks: 2\ncells:"), "no cell to time beside a restatement"),
        (["--against", "plain-eager"], ("timing: {runs: 1, rounds: 2, images: 32}", ""), "timing: missing"),
    ],
)
def test_what_cannot_be_timed_is_refused_in_one_line(tmp_path, digits, words, change, message):
    (tmp_path / "m.yaml").write_text(TEXT.replace(*change) if change[0] else TEXT)
    where = ["--runs", str(tmp_path / "runs"), "--data", str(digits)]
    done = CliRunner().invoke(speed.app, [str(tmp_path / "m.yaml"), *words, *where])
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_shipped_manifest_has_every_method():

    found = read_manifest(Path(__file__).parents[1] / "manifests" / "speed-against.yaml", networks=False)
    arms = [study.arms[0] for study in restated_studies(found)]
    assert {arm.method.name for arm in arms} == set(plugins("crt.methods"))
    assert all(arm.recipe.fold and arm.recipe.fused and arm.recipe.channels_last for arm in arms)
