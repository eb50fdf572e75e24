"""Effect of switches: studies of one method each, a time budget, certification, and their report."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from test_ratios import epoch, start
from typer.testing import CliRunner
from waiting import HANG

from bench import speed
from bench.build import networks
from bench.build.cost import work
from bench.commands import speed_study
from bench.jobs.lease import JobPaths
from bench.jobs.time_arms import run_study
from bench.jobs.time_certification import engines, run_certification
from bench.jobs.timing_tasks import TimingTask
from bench.manifest import read_manifest
from bench.measure.bare_loop import bare_certify
from bench.measure.roofline import roofline
from bench.records import PLAIN, CertificationTiming, End, Record, Start, append, read
from bench.results.loading import load
from crt.evals.smoothing import Smoothing
from crt.models.classifier import Classifier
from crt.plugins import find
from crt.threat import Threat
from launchers.task import TaskProgress
from reports import __main__ as reports
from reports.tables.speed import certification, not_reached
from reports.tables.speed import speed as frame

TEXT = """
baseline: Standard
dataset: digits
loader: torch
pipeline: plain
arch: cnn2c2f
threat: {sigma: 0.25}
timing: {runs: 1, rounds: 2, images: 32, together: method, certify: {images: 1, n: 100}}
recipe:
  - {epochs: 1, batch_size: 16, lr: 0.1, compute: plain}
  - {epochs: 1, batch_size: 16, lr: 0.1, compute: plain, channels_last: true}
  - {epochs: 1, batch_size: 16, lr: 0.1, compute: plain, fold: true, compile: default}
cells: [{method: [Standard, Gaussian, SmoothMix]}]
"""


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "m.yaml").write_text(TEXT)
    return read_manifest(tmp_path / "m.yaml")


def ways(study) -> list[tuple]:
    return [(a.method.name, a.per_step, a.recipe.channels_last, bool(a.recipe.compile)) for a in study.arms]


def test_each_method_is_a_study_and_what_is_compiled_another_beside_its_plain_path(manifest):
    found = manifest.studies
    assert [s.arms[0].method.name for s in found] == ["Standard", "Gaussian", "SmoothMix"] * 2
    assert ways(found[0]) == [("Standard", 16, False, False), ("Standard", 16, True, False)]
    # SmoothMix steps on half of what it loads, so the baseline does, too; the two ways alternate.
    assert ways(found[2]) == [
        ("SmoothMix", 8, False, False),
        ("Standard", 8, False, False),
        ("SmoothMix", 8, True, False),
        ("Standard", 8, True, False),
    ]
    assert [(name, compiled) for name, _, _, compiled in ways(found[4])] == [
        ("Gaussian", False),
        ("Standard", False),
        ("Gaussian", True),
        ("Standard", True),
    ]


def test_together_and_certify_are_no_part_of_a_study(manifest):
    study = manifest.studies[0]
    plain = study.timing.model_copy(update={"together": "arch", "certify": None})
    assert study.model_copy(update={"timing": plain}).id == study.id


def test_a_study_without_time_has_one_round_of_what_got_warm(tmp_path, digits, manifest):
    place = JobPaths(runs=tmp_path, data=digits, process="shared")
    study = manifest.studies[1]
    run_study(study, 0, place, seconds=1e-9, left_out=[study.arms[1].id])
    begun, *records = read(tmp_path / study.id / "run0" / "time.jsonl")
    assert isinstance(begun, Start) and set(begun.ceilings) == {"fp32", "copy"}
    assert set(begun.traffic) == {arm.id for arm in study.arms} - {study.arms[1].id}
    assert [(r.arm, r.round) for r in records] == [(study.arms[0].id, 0), (study.arms[0].id, 1)]
    run_study(study, 0, place, left_out=[study.arms[1].id])
    *_, ended = read(tmp_path / study.id / "run0" / "time.jsonl")
    assert isinstance(ended, End) and list((tmp_path / study.id / "run0").glob("*.cut"))


@dataclass(frozen=True, kw_only=True)
class StandInTask(TimingTask):
    """A task that is finished when its file ends, and works as it is told to."""

    id: str = ""
    compiled: bool = False
    work: Callable[[TimingTask, float], None]

    def progress(self, records: Sequence[Record]) -> TaskProgress:
        return TaskProgress(finished=any(isinstance(record, End) for record in records))

    def run_within(self, seconds: float) -> None:
        self.work(self, seconds)


def test_shares_of_the_time_go_to_what_is_left_and_compiling_has_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(speed_study.time, "monotonic", lambda: 0.0)
    shares = {}
    names = ["done", "early", "broken", "late"]

    def work(task: StandInTask, seconds: float) -> None:
        shares[task.id] = seconds
        if task.id == "broken":
            raise RuntimeError("out of memory")

    place = JobPaths(runs=tmp_path, data=tmp_path, process="shared")
    tasks = [StandInTask(place=place, id=name, compiled=name == "late", work=work) for name in names]
    append(tasks[0].records, End(time=0.0))
    assert speed_study.run(tasks[::-1], 100) == 1
    assert list(shares) == ["broken", "early", "late"]
    assert [shares[name] for name in ("broken", "early", "late")] == pytest.approx([35, 70, 100])


def test_the_budget_ends_what_would_not_end_itself(tmp_path, capsys):
    slept = []
    place = JobPaths(runs=tmp_path, data=tmp_path, process="shared")
    sleeper = StandInTask(place=place, id="sleeper", work=lambda *_: slept.append(time.sleep(HANG)))
    assert speed_study.run([sleeper], 2) == 0
    assert not slept and "cut off after" in capsys.readouterr().out


def test_command_times_what_it_is_asked_for_and_the_report_says_what_was_not_reached(tmp_path, digits):
    (tmp_path / "m.yaml").write_text(TEXT.replace("compile: default", "fused: true"))
    where = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs")]
    asked = [*where, "--data", str(digits), "--methods", "Gaussian", "--seconds", str(HANG)]
    done = CliRunner().invoke(speed.app, asked)
    assert done.exit_code == 0 and "1 of 1 timing tasks are complete" in done.output, done.output
    told = CliRunner().invoke(reports.app, where)
    assert told.exit_code == 0, told.output
    for words in ("Not timed: 2 of 3 studies (cnn2c2f: Standard, SmoothMix)", "channels_last", "% of product"):
        assert words in told.output
    wrong = CliRunner().invoke(speed.app, [*where, "--methods", "Nothing"])
    assert wrong.exit_code == 2 and "not in the manifest" in wrong.output


def test_what_this_machine_cannot_do_is_left_out_and_said(tmp_path, capsys, manifest, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    tasks = list(
        speed_study._tasks(manifest, ["Gaussian"], None, JobPaths(runs=tmp_path, data=tmp_path, process="shared"))
    )
    assert [task.compiled for task in tasks] == [False, True]
    assert "no-such-compiler" in capsys.readouterr().err


def test_report_pairs_every_switch_with_the_plain_path_and_the_baseline(tmp_path, manifest):
    seconds = {("Standard", False, False): 1.0, ("Standard", True, False): 0.5, ("Standard", False, True): 0.25}
    seconds |= {("SmoothMix", False, False): 8.0, ("SmoothMix", True, False): 5.0, ("SmoothMix", False, True): 2.0}
    for study in (manifest.studies[2], manifest.studies[5]):
        file = tmp_path / study.id / "run0" / "time.jsonl"
        work = {a.id: 70.0 if a.method.name == "SmoothMix" else 10.0 for a in study.arms}
        append(file, start(flops=work, traffic=work, ceilings={"fp32": 1000.0, "copy": 2000.0}))
        for arm in study.arms:
            pace = seconds[arm.method.name, arm.recipe.channels_last, bool(arm.recipe.compile)]
            for turn in (0, 1, 2):
                # What a round has in common is no part of a paired ratio.
                append(file, epoch(arm.id, turn, pace * (1 + turn), 32, turn))
    found = frame(manifest, load(manifest, [tmp_path])).set_index("switches")
    assert list(found.index) == ["plain", "channels_last", "compile default, fold"]
    assert found["speedup"].tolist() == pytest.approx([1.0, 1.6, 4.0])
    assert found["slowdown"].tolist() == pytest.approx([8.0, 10.0, 8.0]) and found["ideal"].tolist() == [7.0] * 3
    assert found["efficiency"].tolist() == pytest.approx([7 / 8, 0.7, 7 / 8])
    assert found.loc["plain", "speedup_low":"speedup_high"].isna().all()
    assert found.loc["channels_last", "speedup_low"] == pytest.approx(1.6)
    # 70 operations an image at 32 images in 8 x (2 + 3) / 2 s, of 1000 a second.
    assert found.loc["plain", "of_product"] == pytest.approx(70 * 32 / 20 / 1000)
    assert found.loc["plain", "of_copy"] == pytest.approx(70 * 32 / 20 / 2000)


def test_certification_is_timed_in_rounds_and_reported(tmp_path, digits, manifest):
    asked, late = manifest.certifications
    assert late.compiled and late.id != asked.id and "engine, compile default" in engines(late)
    file = tmp_path / asked.id / "run0" / "time.jsonl"
    run_certification(asked, file, JobPaths(runs=tmp_path, data=digits, process="shared"), HANG)
    begun, *drawn, ended = read(file)
    assert isinstance(begun, Start) and isinstance(ended, End) and len(drawn) == 5 * 3
    assert all(isinstance(r, CertificationTiming) and r.draws == 200 for r in drawn)
    found = certification(manifest, load(manifest, [tmp_path])).set_index("way")
    mine, theirs = ([r.seconds for r in drawn if r.arm == arm and r.round] for arm in ("engine", PLAIN))
    ratio = math.exp(sum(math.log(b / a) for a, b in zip(mine, theirs, strict=True)) / 2)
    assert found.loc["engine", "speedup"] == pytest.approx(ratio) and found.loc[PLAIN, "speedup"] == 1
    assert found.loc["engine", "images_per_s"] == pytest.approx(2 / sum(mine))
    assert not any("studies" not in line for line in not_reached(manifest, load(manifest, [tmp_path])))


def test_the_plain_procedure_answers_as_the_engine_does():
    torch.manual_seed(0)
    body, width = find("crt.archs", "cnn2c2f")()
    model = Classifier(body, width, 10, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)).eval()
    smoothing = Smoothing(threat=Threat(sigma=1.0), n=250, n0=30, alpha=0.05, skip_wrong=False, batch=100)
    for index in range(4):
        x = torch.rand(3, 32, 32)
        ours, theirs = smoothing.judge(model, x, 0, (0, index)), bare_certify(smoothing, model, x, (0, index))
        assert ours.prediction == theirs.prediction and ours.radius == pytest.approx(theirs.radius)
        if ours.details["drawn"] == 250:
            assert ours.details["nA"] == theirs.details["nA"]


def test_ceilings_and_traffic(manifest):
    found = roofline([manifest.cells[0].recipe])
    assert set(found) == {"fp32", "copy"} and all(value > 1e8 for value in found.values())
    one, other = work(manifest.cells[0]), work(manifest.cells[1])
    # Every weight is read and its gradient written at least once a step of 16 images, every pixel read once.
    with torch.device("meta"):
        weights = sum(p.nbytes for p in networks.network(manifest.cells[0]).parameters())
    assert one == other and one.traffic > 2 * weights / 16 + 3 * 32 * 32 * 4
