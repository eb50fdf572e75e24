"""Evaluations under each switch against the plain path, what they compute in, and how seldom they wait."""

import copy
from dataclasses import fields

import pytest
import torch
from test_attack_evals import LINF, judge, questions, split
from test_switches import COMPILED
from torch import nn
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from bench.manifest.plugin_spec import spec
from crt.archs.convnet import cnn2c2f
from crt.attacks.robust_images import robustify
from crt.evals import execution
from crt.evals.autoattack import AutoAttack
from crt.evals.autopgd import AutoPGD
from crt.evals.base import judge_each
from crt.evals.clean import Clean
from crt.evals.execution import Switches
from crt.evals.noisy import Noisy
from crt.evals.pgd import PGD
from crt.evals.smoothing import Smoothing
from crt.judgement import Judgement
from crt.models.classifier import Classifier
from crt.plugins import plugins
from crt.threat import Threat

SIGMA = 0.5
PARTS = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
EXACT = [{"channels_last": True}, {"fold": True}, {"channels_last": True, "fold": True}]


@pytest.fixture(scope="module")
def doubled(digits):
    """cnn2c2f, with BatchNorm behind its convolutions, trained a little under noise; and test images with labels.

    In float64: rounding turns no sign of a gradient there and no verdict, on any processor.
    """
    x, y = split(digits, "train")
    x = x.double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body, width = cnn2c2f()
        layers: list[nn.Module] = []
        for layer in body:
            layers += [layer, nn.BatchNorm2d(layer.out_channels)] if isinstance(layer, nn.Conv2d) else [layer]
        model = Classifier(nn.Sequential(*layers), width, 10, (0.5,) * 3, (0.5,) * 3).double()
        steps = torch.optim.Adam(model.parameters(), 0.003)
        for part in torch.randperm(len(x)).split(64)[:18]:
            steps.zero_grad()
            nn.functional.cross_entropy(model(x[part] + SIGMA * torch.randn_like(x[part])), y[part]).backward()
            steps.step()
    x, y = split(digits, "test")
    return model.eval(), x.double(), y


@pytest.fixture(scope="module")
def trained(doubled):
    """The same in float32."""
    model, x, y = doubled
    return copy.deepcopy(model).float(), x.float(), y


def smoothing(**changes) -> Smoothing:
    return Smoothing(**({"threat": Threat(sigma=SIGMA), "n": 450, "n0": 130, "skip_wrong": False} | changes))


@COMPILED
def test_compiled_certificates_are_the_plain_ones(doubled):
    model, x, y = doubled
    x, y = x[:5], y[:5]
    counters.clear()
    found = judge(smoothing(batch=200, compile="default", channels_last=True), model, x, y)
    # A pass of 130 draws to select, and one of 50 that is left, are filled up.
    assert counters["stats"]["unique_graphs"] == 1
    plain = judge(smoothing(batch=200), model, x, y)
    assert [f.prediction for f in found] == [p.prediction for p in plain] and len({p.radius for p in plain}) > 2
    assert [f.radius for f in found] == [p.radius for p in plain]


@COMPILED
def test_a_compiled_attack_breaks_what_the_plain_one_breaks(doubled):
    model, x, y = doubled
    x, y = x[:20], y[:20]
    settings = {"threat": LINF.model_copy(update={"eps": 0.1}), "steps": 5, "batch": 20}
    counters.clear()
    alike(judge(PGD(**settings, compile="default", fold=True), model, x, y), judge(PGD(**settings), model, x, y))
    assert 1 < counters["stats"]["unique_graphs"] <= 8


def alike(found: list[Judgement], plain: list[Judgement]) -> None:
    """The same verdicts, their numbers but for rounding, of which some images stand and some are broken."""
    assert {bool(p.radius) for p in plain} == {True, False}
    for ours, theirs in zip(found, plain, strict=True):
        assert (ours.prediction, ours.radius, ours.skipped) == (theirs.prediction, theirs.radius, theirs.skipped)
        assert ours.details == pytest.approx(theirs.details, abs=1e-9)


@pytest.mark.parametrize("switches", EXACT, ids=lambda given: "+".join(given))
@pytest.mark.parametrize("kind", [PGD, AutoPGD])
def test_exact_switches_leave_attacks_what_they_find(doubled, kind, switches):
    model, x, y = doubled
    settings = {"threat": LINF, "eps": 0.1, "steps": 8, "restarts": 2}
    alike(judge(kind(**settings, **switches), model, x[:40], y[:40]), judge(kind(**settings), model, x[:40], y[:40]))


@pytest.mark.parametrize("kind", [PGD, AutoPGD])
def test_bf16_attacks_the_network_in_bf16(trained, kind):
    model, x, y = trained
    x, y = x[:120], y[:120]
    settings = {"threat": LINF, "eps": 0.1, "steps": 8, "restarts": 2}
    low, plain = (judge(kind(**settings, **given), model, x, y) for given in ({"precision": "bf16"}, {}))
    stand = [sum(found.radius > 0 for found in found) for found in (low, plain)]
    assert 10 < stand[1] < 110 and abs(stand[0] - stand[1]) <= 6
    network = kind(**settings, precision="bf16").target(model, 500)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            theirs = model(x)
        assert theirs.dtype == torch.bfloat16 and torch.equal(network(x), theirs.float())
        assert float((network(x) - model(x)).abs().max() / model(x).abs().max()) < 0.02
    assert model.head.weight.dtype == torch.float32


def test_certificates_in_bf16_are_near_those_in_float32(trained):
    model, x, y = trained
    low, plain = (judge(smoothing(**given), model, x[:16], y[:16]) for given in ({"precision": "bf16"}, {}))
    both = [(a, b) for a, b in zip(low, plain, strict=True) if -1 not in (a.prediction, b.prediction)]
    assert len(both) > 10 and all(a.prediction == b.prediction for a, b in both)
    # Of 450 draws a twentieth at most lie so near a border that 8 bits put them on its other side.
    assert all(abs(a.details["nA"] - b.details["nA"]) <= 22 for a, b in both)


class Kept(list):
    """A list that a network and its copies have in common."""

    def __deepcopy__(self, _):
        return self


class Sizes(nn.Module):
    """A network that keeps how many images it is asked of at once."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.body, self.asked = network, Kept()

    def forward(self, x):
        self.asked.append(len(x))
        return self.body(x)


def test_what_is_compiled_is_asked_in_few_sizes_and_answers_stay(doubled, monkeypatch):
    made = []
    monkeypatch.setattr(execution, "compile_body", lambda body, mode: made.append(mode))
    model, x, y = doubled
    settings = {"threat": LINF, "eps": 0.1, "steps": 8, "batch": 50}
    asked, watched = Sizes(model), Sizes(model)
    plain = judge(AutoPGD(**settings), watched, x[:77], y[:77])
    alike(judge(AutoPGD(**settings, compile="default"), asked, x[:77], y[:77]), plain)
    assert made == ["default"] and set(asked.asked) <= {13, 26, 39, 52} and len(set(watched.asked)) > 4
    assert all(filled - size < 13 for filled, size in zip(asked.asked, watched.asked, strict=True))
    asked = Sizes(model)
    judge(AutoPGD(**settings, form="art17", compile="default"), asked, x[:50], y[:50])
    assert set(asked.asked) <= {13, 26, 39, 52}
    asked = Sizes(Classifier(*cnn2c2f(), 10, (0.5,) * 3, (0.5,) * 3).double())
    judge(smoothing(n0=100, batch=300, compile="default"), asked, x[:7], y[:7])
    assert set(asked.asked) == {300}


def test_autoattack_takes_the_switches(trained):
    model, x, y = trained
    settings = {"threat": LINF, "eps": 0.5}
    found = judge(AutoAttack(**settings, precision="bf16", channels_last=True, fold=True), model, x[:2], y[:2])
    assert [f.details["adversarial"] != label for f, label in zip(found, y[:2].tolist(), strict=True)] == [True, True]


class Tells(nn.Module):
    """A network that keeps how products were computed when it was asked."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.seen = network, Kept()

    def forward(self, x):
        self.seen.append(products())
        return self.network(x)

    features = forward


def products() -> tuple:
    return *(part.fp32_precision for part in PARTS), torch.backends.cudnn.benchmark


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_products_have_all_their_bits_unless_asked_for_less(trained, precision, monkeypatch):
    monkeypatch.setattr(execution, "able", lambda *_: None)
    model, x, y = trained
    given = {} if precision == "fp32" else {"precision": precision}
    bits, before = {"fp32": "ieee", "tf32": "tf32"}[precision], products()
    attacks = PGD(threat=LINF, **given), AutoPGD(threat=LINF, steps=3, restarts=1, **given)
    for evaluation in (smoothing(**given), *attacks):
        told = Tells(model)
        for found in judge_each(evaluation, told, questions(x[:2], y[:2])):
            assert isinstance(found, Judgement) and products() == before
        assert {words[:2] for words in told.seen} == {(bits, bits)}
    for evaluation in (Clean(threat=LINF), Noisy(threat=Threat(sigma=SIGMA))):
        told = Tells(model)
        list(judge_each(evaluation, told, questions(x[:2], y[:2])))
        assert set(told.seen) == {("ieee", "ieee", False)} and products() == before


def test_robust_images_are_made_in_float32(trained):
    told = Tells(trained[0])
    robustify(told, *trained[1][:4].split(2), steps=1)
    assert set(told.seen) == {("ieee", "ieee", True)} and products()[0] != "ieee"


@pytest.mark.skipif(torch.cuda.is_available(), reason="is of a machine without a GPU")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"precision": "tf32"}, r"Smoothing\.precision: 'tf32' needs a GPU that has it \(allowed here: fp32, bf16\)"),
        ({"compile": "reduce-overhead"}, r"Smoothing\.compile: 'reduce-overhead' needs a GPU"),
        ({"compile": "default"}, r"Smoothing\.compile: 'default' needs a C\+\+ compiler"),
    ],
)
def test_what_there_is_not_is_refused(trained, given, words, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=words):
        judge(smoothing(**given), *(part[:1] if torch.is_tensor(part) else part for part in trained))


def test_switches_that_are_off_are_no_part_of_an_identity():
    threat = Threat(norm="l2", eps=0.5, sigma=0.25)
    for name, kind in plugins("crt.evals").items():
        if issubclass(kind, Switches):
            plain = spec("crt.evals", name, threat, "e")
            off = {field.name: field.default for field in fields(kind) if field.name in kind.unsaid - {"precision"}}
            assert spec("crt.evals", {name: off}, threat, "e") == plain and not kind.unsaid & set(plain.args)
            on = spec("crt.evals", {name: {"compile": "default"}}, threat, "e")
            assert on.id != plain.id and on.args["compile"] == "default" and "compile=default" in on.label
    assert spec("crt.evals", "Smoothing", threat, "e").args["precision"] == "fp32"


class Waits(TorchDispatchMode):
    """Counts what would wait for a GPU: numbers read from it, and shapes that hang on numbers."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        words = ("_local_scalar_dense", "bincount", "nonzero", "unique", "masked_select")
        self.count += any(word in str(func) for word in words)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("n", [1000, 5000])
def test_the_engine_waits_at_most_three_times_an_image(trained, n):
    model, x, _ = trained
    with torch.no_grad():
        y = model(x[:4]).argmax(1)
    asked = questions(x[:4], y)
    with Waits() as waits:
        found = list(smoothing(n=n, n0=100, threat=Threat(sigma=0.1)).judge_many(model, asked))
    assert all(f.radius > 0 and f.details["drawn"] == n for f in found)
    # In the middle, where the estimation could end first, perhaps near the end, and at the end.
    assert 2 * len(found) <= waits.count <= 3 * len(found)
