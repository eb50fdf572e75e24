"""Methods that learn from a robust teacher, against their formulas, re-stated in float64."""

import copy

import pytest
import torch
from test_adversarial_methods import RECIPE, epoch_of, problem
from test_methods import classifier, late, make, same, state, toy
from test_smoothing_methods import agree, cross_entropy, kl, length, softmax
from torch import nn

from crt.training.loop import Training


def apart(distance, s, t):
    if distance == "cosine":
        return -(s * t).sum() / (length(s) * length(t))
    return length(s - t) / (length(t) if distance == "relative" else 1)


@pytest.mark.parametrize(("distance", "lbd"), [("cosine", 5e-3), ("l2", 1e-3), ("relative", 0.1)])
def test_rrm_equals_its_restatement(distance, lbd):
    method, (x, y) = make("RRM", distance=distance, lbd=lbd), problem()
    method.teacher.double()

    def restated(model, distance=distance):
        s, t = model.body(model.normalize(x)), method.teacher.body(method.teacher.normalize(x))
        matched = sum(apart(distance, a, b) for a, b in zip(s, t, strict=True)) / len(x)
        return lbd * cross_entropy(model.head(s), y) + matched

    # The restatement runs the network once, so BatchNorm has seen one pass: logits and features are of the same one.
    other = "l2" if distance != "l2" else "relative"
    agree(method, x, y, 0.0, restated, 1, [lambda model: restated(model, other)])


def test_rrm_has_no_gradient_along_the_features():
    method, model, (x, y) = make("RRM", lbd=1e-12), classifier(3).double(), problem()
    method.teacher.double()
    seen = []
    model.body.register_forward_hook(lambda _, __, out: seen.append(out))
    loss = method.loss(model, x, y, late(9))
    (g,) = torch.autograd.grad(loss, seen[0])
    assert g.norm(dim=1).min() > 1e-4
    assert ((g * seen[0]).sum(1) / (g.norm(dim=1) * seen[0].norm(dim=1))).abs().max() < 1e-8


def test_rrm_asks_its_teacher_once_for_all_replays():
    method, model, (x, y) = make("RRM", replays=3), classifier(0), toy(12)
    bodies, heads = [], []
    method.teacher.body.register_forward_hook(lambda _, inputs, __: bodies.append(len(inputs[0])))
    method.teacher.head.register_forward_hook(lambda *_: heads.append(1))
    before, again = state(method.teacher), copy.deepcopy(model)
    Training(method, model, RECIPE).epoch(epoch_of(x, y), 0)
    assert bodies == [6, 6] and heads == [] and same(before, state(method.teacher))
    # The same as asking it each time.
    once = make("RRM")
    thrice = [batch for batch in epoch_of(x, y) for _ in range(3)]
    Training(once, again, RECIPE).epoch(thrice, 0)
    assert same(state(model), state(again))


def test_rrm_refuses_what_cannot_learn():
    for lbd in (0, -1e-3):
        with pytest.raises(ValueError, match=rf"lbd={lbd:g} \(allowed: above 0, else nothing trains the last layer\)"):
            make("RRM", lbd=lbd)
    method, wide = make("RRM"), classifier(0)
    method.fits(wide)
    wide.head = nn.Linear(24, 3)
    with pytest.raises(ValueError, match="the student has 24 features, its teacher 8"):
        method.fits(wide)


@pytest.mark.parametrize("form", ["textbook", "paper"])
@pytest.mark.parametrize(("alpha", "t"), [(1.0, 30.0), (0.4, 3.0)])
def test_kd_equals_its_restatement(form, alpha, t):
    method, (x, y) = make("KD", form=form, alpha=alpha, t=t), problem()
    method.teacher.double()

    def restated(model, form=form):
        # The paper's networks end in a division by t, and its losses divide again; its mean is over classes too.
        inner, classes = (t, 3) if form == "paper" else (1, 1)
        student, taught = model(x) / inner, method.teacher(x) / inner
        pairs = zip(student, taught, strict=True)
        transfer = sum(kl(softmax(b / t), softmax(a / t)) for a, b in pairs) / len(x) / classes
        return alpha * t * t * transfer + (1 - alpha) * cross_entropy(student / inner, y)

    other = "paper" if form == "textbook" else "textbook"
    agree(method, x, y if alpha < 1 else None, 0.0, restated, 1, [lambda model: restated(model, other)])


def test_kd_of_the_paper_is_three_hundred_times_weaker():
    """On raw logits that give the same outputs, which in the paper's networks are those divided by 30."""

    class Logits(nn.Module):
        def __init__(self, z):
            super().__init__()
            self.z = nn.Parameter(z)

        def forward(self, x):
            return self.z

    outputs = torch.randn(2, 5, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = {}
    for form, scale in (("textbook", 1), ("paper", 30)):
        method, model = make("KD", form=form), Logits(scale * outputs[0])
        method.teacher = Logits(scale * outputs[1])
        (found[form],) = gradient_of(method, model)
    torch.testing.assert_close(found["textbook"], 300 * found["paper"], rtol=1e-10, atol=0)


def gradient_of(method, model):
    return torch.autograd.grad(method.loss(model, torch.zeros(5, 3, 2, 2), None, late(5)), list(model.parameters()))


def test_rdt_is_cross_entropy_on_what_it_is_given():
    method, (x, y) = make("RDT"), problem()
    agree(method, x, y, 0.0, lambda model: cross_entropy(model(x), y), 1)


@pytest.mark.parametrize("name", ["RRM", "KD", "RDT"])
def test_training_leaves_the_teacher_bit_identical(name):
    method, model, (x, y) = make(name), classifier(0), toy(12)
    before, start = state(method.teacher), state(model)
    Training(method, model, RECIPE).epoch(epoch_of(x, y), 0)
    assert same(before, state(method.teacher)) and not same(start, state(model))
