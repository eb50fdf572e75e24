"""Smoothed labels: the cross-entropy of every method that has one, by its formula, and attacks that keep the label."""

import sys

import pytest
import test_plain_eager
import torch
from test_methods import METHODS, classifier
from test_plain_eager import BALL, CASES, assert_equal, label, trained
from torch import Tensor
from torch.nn import functional as F

from bench.manifest import read_manifest
from crt.plugins import find
from crt.threat import Threat
from crt.training.method import Method

SHARE = 0.3
SMOOTHED = [case for case in CASES if find("crt.methods", case[0])(threat=case[1], **case[2]).has_cross_entropy]
OTHERS = {
    "FGSMRS": lambda **_: (1, 0),
    "NFGSM": lambda **_: (1, 0),
    "PGD7Fast": lambda K=7: (K, 0),
    "GradAlign": lambda **_: (1, 1),
}
"""Mean cross-entropies of a restatement before and after that of its loss; other attacks take sums, or each image's."""
MANIFEST = """
dataset: digits
threat: {{norm: {norm}, eps: 0.25, sigma: 0.25}}
arch: cnn2c2f
cells:
  - method: {method}
    recipe: {{epochs: 1, batch_size: 32, lr: 0.1, label_smoothing: {share}}}
    teacher: {teacher}
"""
TEACHER = "{arch: cnn2c2f, method: Standard, recipe: {epochs: 1, batch_size: 32, lr: 0.1}}"


class Smoothed:
    """torch's functions, where the cross-entropy of a loss is that against smoothed labels, from its formula."""

    def __init__(self, before: int = 0, after: int = 0):
        self.before, self.all, self.calls = before, before + 1 + after, 0

    def __getattr__(self, name: str):
        return getattr(F, name)

    def cross_entropy(self, logits: Tensor, y: Tensor, **options) -> Tensor:
        if not options:
            self.calls += 1
        if options or (self.calls - 1) % self.all != self.before:
            return F.cross_entropy(logits, y, **options)
        classes = logits.shape[1]
        target = (1 - SHARE) * F.one_hot(y, classes).to(logits) + SHARE / classes
        return -(target * logits.log_softmax(1)).sum(1).mean()


@pytest.mark.parametrize(("name", "threat", "arguments"), SMOOTHED, ids=label)
def test_the_loss_is_that_of_smoothed_labels(name, threat, arguments, monkeypatch):
    recipe = test_plain_eager.RECIPE.model_copy(update={"label_smoothing": SHARE})
    monkeypatch.setattr(test_plain_eager, "RECIPE", recipe)
    restated = sys.modules[find("bench.plain_eager", name).__module__]
    others = OTHERS.get(name, lambda **_: (0, 0))(**{key: arguments[key] for key in {"K"} & arguments.keys()})
    monkeypatch.setattr(restated, "F", Smoothed(*others))
    product, plain = trained(name, threat, arguments, classifier(0).train(), epoch=4)
    assert_equal(product, plain, 1e-6 if threat is BALL else 1e-9)


def built(name: str) -> Method:
    """The method with the arguments of its first case, or with its defaults."""
    threat, arguments = next(((case[1], case[2]) for case in CASES if case[0] == name), (BALL, {}))
    return find("crt.methods", name)(threat=threat, **arguments)


@pytest.mark.parametrize("name", METHODS)
def test_the_cross_entropy_is_the_recipes(name):
    logits, y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double(), torch.arange(6) % 3
    method = built(name)
    assert torch.equal(method.cross_entropy(logits, y), F.cross_entropy(logits, y))
    method.label_smoothing = SHARE
    torch.testing.assert_close(method.cross_entropy(logits, y), Smoothed().cross_entropy(logits, y))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_without_a_cross_entropy_is_refused_by_name(name, tmp_path):
    kind, path = find("crt.methods", name), tmp_path / "m.yaml"
    norm, teacher = built(name).threat.norm, TEACHER if kind.needs_teacher else "null"
    path.write_text(MANIFEST.format(method=name, share=0.1, teacher=teacher, norm=norm))
    if kind(threat=Threat(norm=norm, eps=0.25)).has_cross_entropy:
        assert read_manifest(path, networks=False).cells[0].recipe.label_smoothing == 0.1
        return
    with pytest.raises(ValueError, match=r"recipe\.label_smoothing: 0\.1") as refused:
        read_manifest(path, networks=False)
    why = " with these arguments" if kind.may_smooth() else ""
    assert f"and {name} has no cross-entropy on labels{why} (allowed: 0; or below 1 with " in str(refused.value)
    assert "SAT" in str(refused.value)


@pytest.mark.parametrize("share", ["1", "-0.1", "much"])
def test_shares_that_are_none(share, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text(MANIFEST.format(method="Standard", share=share, teacher="null", norm="l2"))
    with pytest.raises(ValueError, match=r"recipe\.label_smoothing"):
        read_manifest(path)
