"""Summaries of evaluated checkpoints: JSON and pages say what the table of images says, and what it proves."""

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, norm, sem, t
from torch import nn
from typer.testing import CliRunner

from bench import attack, certify, records
from bench.commands import smoothing_tsv
from bench.commands.curve import draw, svg
from bench.commands.summary import share_at
from bench.results.statistics import wilson
from crt.data.sources import digits as load_digits
from crt.models.classifier import Classifier
from crt.plugins import find

FILE = "<b>model&\x1b.pt"
"""A name that a page must escape."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Weights of a convnet trained a little under noise, which is right on some digits and not on all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(*find("crt.archs", "cnn2c2f")(), 10, (0.3055,) * 3, (0.3759,) * 3)
        x, y = (torch.from_numpy(part) for part in load_digits("train"))
        x = x.permute(0, 3, 1, 2).float().div(255)
        steps = torch.optim.Adam(model.parameters(), 0.003)
        for _ in range(20):
            some = torch.randint(len(x), (64,))
            loss = nn.functional.cross_entropy(model(x[some] + 0.25 * torch.randn_like(x[some])), y[some])
            steps.zero_grad()
            loss.backward()
            steps.step()
    path = tmp_path_factory.mktemp("weights") / FILE
    torch.save(model.state_dict(), path)
    return path


def run(command: str, checkpoint: Path, digits: Path, folder: Path, *options: str):
    words = {
        "certify": ["--sigma", "0.25", "--n", "500", "--n0", "20", "--alpha", "0.01", "--out", str(folder / "t.tsv")],
        "attack": ["--eps", "2/255", "--attack", "PGD", "--steps", "3", "--out", str(folder / "t.jsonl")],
    }[command]
    place = ["--arch", "cnn2c2f", "--dataset", "digits", "--data", str(digits), "--every", "7", "--images", "30"]
    app = {"certify": certify.app, "attack": attack.app}[command]
    return CliRunner().invoke(app, [str(checkpoint), *place, *words, *options])


def files(folder: Path) -> list[str]:
    return ["--json", str(folder / "summary.json"), "--html", str(folder / "page.html")]


def summary(folder: Path) -> dict:
    def refuse(name: str):
        raise AssertionError(f"{name} is no JSON")

    return json.loads((folder / "summary.json").read_text(), parse_constant=refuse)


def rows(command: str, folder: Path) -> list[tuple[bool, float]]:
    """Correctness and radius of each image."""
    if command == "certify":
        return [(row.correct, row.radius) for row in smoothing_tsv.read(folder / "t.tsv")]
    return [(row.prediction == row.label, row.radius) for row in records.read(folder / "t.jsonl")]


def proportion(count: int, total: int) -> dict:
    ends = binomtest(count, total).proportion_ci(method="wilson")
    near = lambda value: pytest.approx(value, abs=1e-9)  # noqa: E731
    shares = {"estimate": near(count / total), "low": near(ends.low), "high": near(ends.high)}
    return shares | {"level": 0.95, "interval": "Wilson"}


@pytest.mark.parametrize("command", ["certify", "attack"])
def test_json_says_what_the_table_says(command, checkpoint, digits, tmp_path):
    result = run(command, checkpoint, digits, tmp_path, *files(tmp_path))
    assert result.exit_code == 0, result.output
    found, images = summary(tmp_path), rows(command, tmp_path)
    assert (found["command"], found["seed"], found["images"]["evaluated"], found["images"]["available"]) == (
        command, 0, 30, 360)  # fmt: skip
    assert found["network"] | {"file": FILE} == found["network"] | {
        "file": FILE, "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(), "arch": "cnn2c2f",
        "dataset": "digits"}  # fmt: skip
    assert found["machine"]["torch"] == torch.__version__ and found["seconds"] > 0
    correct = sum(right for right, _ in images)
    assert 0 < correct < 30, "else nothing is tried"
    assert found["clean_accuracy"] == proportion(correct, 30)
    at = lambda r: sum(right and radius >= r for right, radius in images)  # noqa: E731
    if command == "attack":
        assert found["threat"] == {"norm": "linf", "eps": 2 / 255} and found["evaluation"] == "PGD"
        assert found["arguments"]["steps"] == 3 and found["arguments"]["every"] == 7
        robust = sum(right and radius > 0 for right, radius in images)
        assert found["robust_accuracy"] == [proportion(robust, 30) | {"radius": 2 / 255}]
        assert found["images_broken"] == correct - robust
        assert found["certified_accuracy"] == [] and found["average_certified_radius"] is None
        return
    assert found["threat"] == {"norm": "l2", "sigma": 0.25} and found["arguments"]["alpha"] == 0.01
    largest = 0.25 * norm.ppf(0.01 ** (1 / 500))
    radii = np.arange(0, largest, 0.25)
    assert len(radii) > 2 and found["certified_accuracy"] == [proportion(at(r), 30) | {"radius": r} for r in radii]
    values = [right * radius for right, radius in images]
    half = t.ppf(0.975, 29) * sem(values)
    acr = {"estimate": np.mean(values), "low": np.mean(values) - half, "high": np.mean(values) + half}
    assert {key: found["average_certified_radius"][key] for key in acr} == pytest.approx(acr)
    assert found["average_certified_radius"]["interval"] == "Student's t" and found["robust_accuracy"] == []


@pytest.mark.parametrize(
    ("command", "proof", "words"),
    [
        ("certify", True, ["Guarantee: with a probability of 1 - alpha = 0.99 or more for each image", "L2 norm"]),
        ("attack", False, ["No guarantee: the robust accuracy is an upper bound", "proves nothing"]),
    ],
)
def test_each_form_states_the_guarantee_or_its_absence(command, proof, words, checkpoint, digits, tmp_path):
    result = run(command, checkpoint, digits, tmp_path, *files(tmp_path))
    found = summary(tmp_path)
    assert found["proof"] is proof and all(part in found["guarantee"] for part in words)
    assert result.output.count(found["guarantee"]) == 1
    page = (tmp_path / "page.html").read_text()
    assert page.index(found["guarantee"]) < page.index("<table")


def test_the_same_command_writes_the_same_summary_again(checkpoint, digits, tmp_path):
    assert run("certify", checkpoint, digits, tmp_path, *files(tmp_path)).exit_code == 0
    before = summary(tmp_path)
    assert run("certify", checkpoint, digits, tmp_path, *files(tmp_path)).exit_code == 0
    after = summary(tmp_path)
    assert after.pop("machine").keys() == before.pop("machine").keys()
    # The table holds microseconds.
    assert after.pop("seconds") == pytest.approx(before.pop("seconds"), abs=1e-4) and after == before


def test_one_image_has_no_mean_with_an_interval(checkpoint, digits, tmp_path):
    result = run("certify", checkpoint, digits, tmp_path, *files(tmp_path), "--images", "1")
    assert result.exit_code == 0, result.output
    acr = summary(tmp_path)["average_certified_radius"]
    assert acr["low"] is None and acr["high"] is None


class Page(HTMLParser):
    """Tags and text of a page; AssertionError where tags do not nest."""

    VOID = ("meta", "link")

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.words, self.addresses = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(" ".join(data.split()))


@pytest.mark.parametrize("command", ["certify", "attack"])
def test_a_page_is_self_contained_and_escapes_names(command, checkpoint, digits, tmp_path):
    assert run(command, checkpoint, digits, tmp_path, *files(tmp_path)).exit_code == 0
    text = (tmp_path / "page.html").read_text()
    page, found = Page(text), summary(tmp_path)
    assert page.addresses == ["data:,"] and not {"script", "b", "img", "iframe"} & set(page.tags)
    assert "\x1b" not in text and any(r"<b>model&\x1b.pt" in words for words in page.words)
    assert page.tags.count("svg") == (command == "certify")
    shown = page.words
    for figure in [found["clean_accuracy"], *found["certified_accuracy"], *found["robust_accuracy"]]:
        low, high = 100 * figure["low"], 100 * figure["high"]
        place = shown.index(f"{low:.1f} to {high:.1f}")
        assert "Wilson" in shown[place:] and f"{100 * figure['estimate']:.1f}" in shown
    assert found["network"]["sha256"] in shown and torch.__version__ in shown


def test_the_curve_and_its_band_are_drawn_at_their_values():
    points = [(0.0, 30), (0.5, 21), (1.0, 6), (2.0, 0)]
    (axes,) = draw([share_at(radius, wilson(count, 40)) for radius, count in points], "L2").axes
    ends = [binomtest(count, 40).proportion_ci(method="wilson") for _, count in points]
    assert axes.lines[0].get_xydata().tolist() == [[radius, pytest.approx(100 * n / 40)] for radius, n in points]
    drawn = {tuple(np.round(point, 6)) for point in axes.collections[0].get_paths()[0].vertices}
    for (radius, _), end in zip(points, ends, strict=True):
        assert {(radius, round(100 * value, 6)) for value in (end.low, end.high)} <= drawn
    assert axes.get_xlim() == (0, 2) and axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 100 * ends[0].high


def test_the_curve_takes_the_colours_of_its_page_and_has_a_title():
    element = svg([share_at(radius, wilson(count, 40)) for radius, count in [(0.0, 30), (1.0, 6)]], "L2", "A & B")
    assert element.startswith('<svg role="img" aria-labelledby="curve-title"')
    assert '<title id="curve-title">A &amp; B</title>' in element and "metadata" not in element
    assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", element)) == {
        "none", "var(--accent)", "var(--muted)", "var(--line)"
    }  # fmt: skip


@pytest.mark.parametrize("command", ["certify", "attack"])
@pytest.mark.parametrize(
    ("option", "file", "words"),
    [
        ("--json", "t.json", "holds the table's settings (allowed: another file)"),
        ("--html", "TABLE", "holds the table (allowed: another file)"),
        ("--json", "CHECKPOINT", "holds the network (allowed: another file)"),
        ("--html", "summary.json", "holds what --json writes (allowed: another file)"),
        ("--html", "none/page.html", "none/page.html: no folder "),
        ("--json", ".", "is a folder (allowed: a file)"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_first(command, option, file, words, checkpoint, digits, tmp_path):
    named = {"TABLE": tmp_path / ("t.tsv" if command == "certify" else "t.jsonl"), "CHECKPOINT": checkpoint}
    other = ["--json", str(tmp_path / "summary.json")] if option == "--html" else []
    result = run(command, checkpoint, digits, tmp_path, *other, option, str(named.get(file, tmp_path / file)))
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1, result.output
    assert not list(tmp_path.iterdir())
