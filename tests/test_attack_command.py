"""Attacks on a checkpoint from the command line: equal to the evaluation, gone on with, refused in one line."""

import importlib.util
import json

import pytest
import torch
from scipy.stats import binomtest
from torch import nn
from typer.testing import CliRunner

from bench import records
from bench.attack import app
from bench.jobs.evaluate import image
from bench.jobs.progress import Progress
from crt.data import DATASETS
from crt.data.beton_file import Beton, ensure
from crt.data.sources import digits as load_digits
from crt.evals.base import judge_each
from crt.models.classifier import Classifier
from crt.plugins import find
from crt.threat import Threat

SEED = 2


@pytest.fixture(scope="module")
def model() -> Classifier:
    """A convnet trained a little, so that an attack breaks some images and not all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(*find("crt.archs", "cnn2c2f")(), 10, (0.3055,) * 3, (0.3759,) * 3)
        x, y = (torch.from_numpy(part) for part in load_digits("train"))
        x = x.permute(0, 3, 1, 2).float().div(255)
        steps = torch.optim.Adam(model.parameters(), 0.003)
        for _ in range(20):
            some = torch.randint(len(x), (64,))
            loss = nn.functional.cross_entropy(model(x[some]), y[some])
            steps.zero_grad()
            loss.backward()
            steps.step()
    return model.eval()


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(model.state_dict(), path)
    return path


def attack(checkpoint, digits, out, *options: str, few: bool = True):
    command = [str(checkpoint), "--arch", "cnn2c2f", "--dataset", "digits", "--data", str(digits), "--out", str(out)]
    given = ["--attack", "PGD", "--eps", "8/255", "--steps", "4", "--every", "15", "--seed", str(SEED)] if few else []
    return CliRunner().invoke(app, [*command, *given, *options])


def verdicts(path) -> list[tuple]:
    return [(v.index, v.label, v.prediction, v.radius, v.skipped, v.details) for v in records.read(path)]


@pytest.mark.parametrize(
    ("name", "threat", "options", "arguments"),
    [
        ("PGD", {"norm": "linf", "eps": 8 / 255}, ["--eps", "8/255", "--steps", "4"], {"steps": 4}),
        ("PGD", {"norm": "l2", "eps": 2.5}, ["--eps", "2.5", "--norm", "l2", "--restarts", "2"], {"restarts": 2}),
        ("PGD", {"norm": "linf", "eps": 0.1}, ["--eps", "1e-1", "--precision", "bf16"], {"precision": "bf16"}),
        ("AutoPGD", {"norm": "linf", "eps": 16 / 255}, ["--eps", "16/255", "--steps", "5", "--restarts", "2"],
         {"steps": 5, "restarts": 2}),
        ("AutoPGD", {"norm": "l2", "eps": 2.0}, ["--eps", "2", "--norm", "l2", "--steps", "5", "--restarts", "1",
         "--loss", "dlr"], {"steps": 5, "restarts": 1, "loss": "dlr"}),
    ],
)  # fmt: skip
def test_the_command_finds_what_the_evaluation_finds(
    model, checkpoint, digits, tmp_path, name, threat, options, arguments
):
    out = tmp_path / "t.jsonl"
    common = ["--attack", name, "--images", "20", "--every", "17", "--seed", str(SEED)]
    result = attack(checkpoint, digits, out, *common, *options, few=False)
    assert result.exit_code == 0, result.output
    test = Beton(ensure(DATASETS["digits"], "test", digits))
    chosen = range(0, len(test), 17)[:20]
    evaluation = find("crt.evals", name)(threat=Threat(**threat), **arguments)
    questions = ((image(test, index), int(test.labels[index]), (SEED, index)) for index in chosen)
    found = list(judge_each(evaluation, model, questions))
    assert [(i, p, r, s) for i, _, p, r, s, _ in verdicts(out)] == [
        (index, f.prediction, pytest.approx(f.radius), f.skipped) for index, f in zip(chosen, found, strict=True)
    ]
    right = sum(f.prediction == test.labels[i] for i, f in zip(chosen, found, strict=True))
    robust = sum(f.radius > 0 for f in found)
    assert 0 < right and robust < 20, "else nothing is tried"
    for count in (right, robust):
        ends = binomtest(count, 20).proportion_ci(method="wilson")
        assert f"{100 * count / 20:.1f}" in result.output
        assert f"[{100 * ends.low:.1f}, {100 * ends.high:.1f}]" in result.output
    assert "20 of 360 images: 0, 17, …, 323" in result.output
    assert result.output.count("proves nothing") == 1


def test_an_attack_cut_off_at_any_image_goes_on(checkpoint, digits, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert attack(checkpoint, digits, whole).exit_code == 0
    assert len(verdicts(whole)) == 24
    step = Progress.step

    def dies(self, note):
        step(self, note)
        if self.done % 7 == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "step", dies)
    for done in (3, 10):
        result = attack(checkpoint, digits, cut)
        assert result.exit_code == 130 and "the same command goes on" in result.stderr
        assert len(verdicts(cut)) == done
    monkeypatch.undo()
    kept = cut.read_text()
    cut.write_text(kept[:-9])
    assert attack(checkpoint, digits, cut, "--batch", "5").exit_code == 0
    assert verdicts(cut) == verdicts(whole) and cut.read_text().startswith(kept.rpartition('{"kind"')[0])
    untouched = cut.read_bytes()
    assert attack(checkpoint, digits, cut).exit_code == 0 and cut.read_bytes() == untouched


def test_a_table_has_a_place_of_its_own(checkpoint, digits, tmp_path):
    for eps in ("8/255", "4/255"):
        command = [str(checkpoint), "--arch", "cnn2c2f", "--dataset", "digits", "--data", str(digits), "--eps", eps]
        command += ["--attack", "PGD", "--steps", "1", "--images", "2", "--runs", str(tmp_path)]
        assert CliRunner().invoke(app, command).exit_code == 0
    tables = sorted((tmp_path / "attack").glob("cnn2c2f-digits-*.jsonl"))
    assert len(tables) == 2
    made = [json.loads(table.with_suffix(".json").read_text()) for table in tables]
    assert sorted(one["eps"] for one in made) == [4 / 255, 8 / 255]
    assert all(one["attack"] == "PGD" and one["norm"] == "linf" and one["steps"] == 1 for one in made)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--eps", "0"], "--eps 0: an attack needs eps > 0"),
        (["--eps", "0/255"], "--eps 0/255: an attack needs eps > 0"),
        (["--eps=-0.1"], "--eps: '-0.1': Input should be greater than or equal to 0"),
        (["--eps", "8"], "--eps 8: eps 8 in linf (allowed: at most 1, for pixels are in [0, 1]; write 8/255"),
        (["--eps", "eight"], "--eps: 'eight': a number is needed, such as 0.25, 1e-4 or 8/255"),
        (["--eps", "8/0"], "--eps: '8/0': division by zero"),
        (["--eps", "nan"], "--eps: 'nan': a number is needed"),
        (["--attack", "FGSM"], "--attack FGSM: unknown (allowed: AutoAttack, AutoPGD, MultiTargeted, PGD, Square)"),
        (
            ["--attack", "Smoothing"],
            "--attack Smoothing: unknown (allowed: AutoAttack, AutoPGD, MultiTargeted, PGD, Square)",
        ),
        (["--attack", "pgd"], "--attack pgd: unknown (allowed: AutoAttack, AutoPGD, MultiTargeted, PGD, Square)"),
        (["--steps", "0"], "--steps: 0: Input should be greater than or equal to 1"),
        (["--restarts", "0"], "--restarts: 0: Input should be greater than or equal to 1"),
        (["--batch", "0"], "--batch: 0: Input should be greater than or equal to 1"),
        (["--images", "0"], "--images: 0: Input should be greater than or equal to 1"),
        (["--every", "0"], "--every: 0: Input should be greater than or equal to 1"),
        (["--loss", "ce"], "--loss ce: PGD has no such argument (allowed with: AutoPGD)"),
        (
            ["--attack", "AutoAttack"],
            "--steps 4: AutoAttack has no such argument (allowed with: AutoPGD, MultiTargeted, PGD, Square)",
        ),
        (["--attack", "AutoPGD", "--loss", "mse"], "--loss: 'mse': Input should be 'ce' or 'dlr'"),
        (["--precision", "tf32"], "--precision: 'tf32' needs a GPU that has it"),
        (["--arch", "resnet21"], "--arch resnet21: unknown (allowed: cnn2c2f"),
        (["--dataset", "mnist"], "--dataset mnist: unknown (allowed: cifar10"),
        (["--eps", "4/255"], f"made with eps {8 / 255!r}, not {4 / 255!r} (allowed: another --out)"),
        (["--norm", "l2"], "made with norm 'linf', not 'l2'"),
        (["--steps", "5"], "made with steps 4, not 5"),
        (["--seed", "3"], "made with seed 2, not 3"),
        (["--out", "t.json"], "--out t.json: .json and .claim are files next to a table (allowed: another suffix)"),
        (["--out", "/proc/t.jsonl"], "/proc/t"),
    ],
)
def test_refused_in_one_line(checkpoint, digits, tmp_path, options, words):
    table = tmp_path / "t.jsonl"
    assert attack(checkpoint, digits, table, "--images", "1").exit_code == 0
    kept = table.read_bytes()
    result = attack(checkpoint, digits, table, *options)
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1, result.output
    assert table.read_bytes() == kept


def test_autoattack_that_is_not_installed_is_refused(checkpoint, digits, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    absent = lambda name, *more: None if name == "pyautoattack" else found(name, *more)  # noqa: E731
    monkeypatch.setattr("crt.evals.autoattack.find_spec", absent)
    result = attack(checkpoint, digits, tmp_path / "t.jsonl", "--attack", "AutoAttack", "--eps", "0.1", few=False)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert "error: AutoAttack needs a package that is not installed (pip install pyautoattack)" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_autoattack_that_is_installed(checkpoint, digits, tmp_path):
    pytest.importorskip("pyautoattack")
    out = tmp_path / "t.jsonl"
    result = attack(checkpoint, digits, out, "--attack", "AutoAttack", "--eps", "0.5", "--images", "3", few=False)
    assert result.exit_code == 0, result.output
    assert len(verdicts(out)) == 3 and "% robust accuracy, at most" in result.output


@pytest.mark.parametrize("content", ["", "[]", "[1]", "null", "no JSON"])
def test_a_table_of_unknown_settings_is_refused(checkpoint, digits, tmp_path, content):
    (tmp_path / "t.jsonl").write_text("")
    if content:
        (tmp_path / "t.json").write_text(content)
    result = attack(checkpoint, digits, tmp_path / "t.jsonl")
    assert result.exit_code == 2 and "t.json, which holds its settings, is missing" in result.stderr, result.output


def test_files_that_are_no_weights_are_refused(checkpoint, digits, tmp_path):
    assert "none.pt: missing" in attack(tmp_path / "none.pt", digits, tmp_path / "t.jsonl").stderr
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    result = attack(tmp_path / "bad.pt", digits, tmp_path / "t.jsonl")
    assert result.exit_code == 2 and "bad.pt: " in result.stderr
