"""Robust distillation: what RSLAD, ARD and AdaAD attack, what they leave alone, and that each is what it says."""

import pytest
import torch
from test_adversarial_methods import L2, LINF, RECIPE, epoch_of, problem
from test_methods import classifier, late, make, same, state, toy
from torch.nn import functional as F

from crt.attacks import distillation
from crt.attacks.common import divergence, frozen
from crt.attacks.distillation import farthest
from crt.training.loop import Training

METHODS = ("RSLAD", "ARD", "AdaAD")


def pair():
    """A student and a teacher in float64, with images in their classes."""
    student, teacher = classifier(0).double(), classifier(5).double().eval().requires_grad_(False)
    return student, teacher, *problem()


@pytest.mark.parametrize("threat", [LINF, L2])
def test_the_attack_separates_the_networks_within_the_threat(threat):
    student, teacher, x, _ = pair()
    target = teacher(x).softmax(1)
    torch.manual_seed(0)
    with frozen(student) as network:
        fixed = farthest(lambda now: divergence(target, network(now)), x, threat, None, 10)
        both = farthest(lambda now: divergence(teacher(now).softmax(1), network(now)), x, threat, None, 10)
        clean, reached = divergence(target, network(x)), divergence(target, network(fixed))
        joint = divergence(teacher(both).softmax(1), network(both))
        # The teacher's part of AdaAD's gradient matters: its images separate the networks more than RSLAD's do.
        beside = divergence(teacher(fixed).softmax(1), network(fixed))
    assert (reached > clean).all() and joint.mean() > beside.mean() and joint.mean() > clean.mean()
    for found in (fixed, both):
        moved = (found - x).flatten(1)
        length = moved.norm(dim=1) if threat is L2 else moved.abs().amax(1)
        assert length.max() <= threat.eps * (1 + 1e-6) and found.min() >= 0 and found.max() <= 1


def test_the_attack_starts_near_the_image_and_takes_the_authors_steps(monkeypatch):
    x, lengths = torch.full((2, 3, 4, 4), 0.5, dtype=torch.float64), []
    monkeypatch.setattr(distillation, "ascend", lambda g, norm: lengths.append(g) or torch.ones_like(g))
    torch.manual_seed(0)
    found = farthest(lambda now: now.flatten(1).sum(1), x, LINF, None, 2)
    # Two steps of a quarter of eps, from a start of deviation 0.001.
    rest = found - x - LINF.eps / 2
    assert len(lengths) == 2 and 5e-4 < rest.std() < 2e-3 and rest.abs().max() < 6e-3
    length = farthest(lambda now: now.flatten(1).sum(1), x, LINF, 0.01, 1) - x
    assert float(length.mean()) == pytest.approx(0.01, abs=1e-3)


def test_a_student_that_equals_its_teacher_has_no_loss():
    for name in METHODS:
        method, (x, y) = make(name, LINF), problem()
        # In eval mode throughout, since batch statistics differ from running ones.
        model = classifier(5).double().eval()
        method.teacher.double()
        # At a radius of next to nothing, adversarial images are the clean ones.
        method.threat = LINF.model_copy(update={"eps": 1e-12})
        assert abs(float(method.loss(model, x, y, late(9)).detach())) < 1e-6, name


@pytest.mark.parametrize(("name", "alpha"), [("RSLAD", 0.0), ("ARD", 0.0), ("AdaAD", 0.0)])
def test_without_weight_on_adversarial_images_clean_ones_remain(name, alpha):
    method, (x, y) = make(name, LINF, alpha=alpha, K=1), problem()
    method.teacher.double()
    model = classifier(0).double().eval()
    target = method.teacher(x).softmax(1)
    expected = F.cross_entropy(model(x), y) if name == "ARD" else divergence(target, model(x)).mean()
    assert float(method.loss(model, x, y, late(9)).detach()) == pytest.approx(float(expected.detach()), rel=1e-9)


@pytest.mark.parametrize("name", ["RSLAD", "AdaAD"])
def test_labels_are_not_used(name):
    method, (x, _) = make(name, LINF, K=1), problem()
    method.teacher.double()
    assert torch.isfinite(method.loss(classifier(0).double(), x, None, late(9)))


@pytest.mark.parametrize("name", METHODS)
def test_training_leaves_the_teacher_bit_identical(name):
    method, model, (x, y) = make(name, LINF, K=2), classifier(0), toy(12)
    before, start = state(method.teacher), state(model)
    Training(method, model, RECIPE).epoch(epoch_of(x, y), 0)
    assert same(before, state(method.teacher)) and not same(start, state(model))
    assert not any(parameter.requires_grad for parameter in method.teacher.parameters())


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", METHODS)
def test_losses_are_float32_under_autocast(name, low):
    method, model, (x, y) = make(name, LINF, K=2), classifier(0).train(), toy(12)
    with torch.autocast("cpu", low):
        loss = method.loss(model, x, y, late(12))
    assert loss.dtype == torch.float32 and torch.isfinite(loss)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RSLAD", {"alpha": 5 / 6, "K": 10, "step_size": None}),
        ("ARD", {"alpha": 1.0, "t": 30.0, "K": 10, "step_size": None}),
        ("AdaAD", {"alpha": 1.0, "K": 10, "step_size": None}),
    ],
)
def test_defaults_are_the_papers(name, expected):
    method = make(name)
    assert {key: getattr(method, key) for key in expected} == expected


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("wrong", [{"K": 0}, {"alpha": 1.5}, {"step_size": 0}, {"beta": 1}])
def test_wrong_arguments_are_refused(name, wrong):
    with pytest.raises((ValueError, TypeError)):
        make(name, **wrong)


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("{RSLAD: {K: 7}}", "RSLAD(K=7)"),
        ("{ARD: {t: 5}}", "ARD(alpha=1, t=5)"),
        ("{AdaAD: {alpha: 0.5}}", "AdaAD(alpha=0.5)"),
    ],
)
def test_in_a_manifest(tiny, method, label):
    teacher = "{arch: cnn2c2f, method: Standard, recipe: {epochs: 1, batch_size: 8, lr: 0.1}}"
    cells = tiny(method=method, threat="{norm: linf, eps: 8/255}", teacher=teacher).cells
    assert cells[0].method.label == label


@pytest.mark.parametrize("method", METHODS)
def test_a_threat_without_a_radius_is_refused(tiny, method):
    teacher = "{arch: cnn2c2f, method: Standard, recipe: {epochs: 1, batch_size: 8, lr: 0.1}}"
    with pytest.raises(ValueError, match="eps"):
        tiny(method=method, threat="{norm: linf}", teacher=teacher)
