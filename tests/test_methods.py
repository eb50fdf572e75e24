"""Every method on a toy problem; attacks; passes counted with hooks against the papers' table."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from crt.attacks import common
from crt.methods.consistency import Consistency
from crt.methods.crt import CRT
from crt.methods.gaussian import Gaussian
from crt.methods.macer import MACER
from crt.methods.smoothadv import SmoothAdv
from crt.methods.smoothmix import SmoothMix
from crt.methods.standard import Standard
from crt.models.classifier import Classifier
from crt.plugins import find, plugins
from crt.threat import Threat
from crt.training.loop import Training
from crt.training.method import Objective, Step
from crt.training.recipe import Recipe

THREAT = Threat(sigma=0.25, eps=0.25)
METHODS = sorted(plugins("crt.methods"))
INTERVALS = {"CCIBP", "CROWNIBP", "ExpIBP", "IBP", "MTLIBP", "SABR"}
"""Methods that bound margins by intervals."""
CHAINS = {"BCP", "Duet", "EMMA", "GloRo", "LMT", "LocalBCP", *INTERVALS}
"""Methods that train chains of layers alone."""


def classifier(seed: int) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        conv = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        down = [nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        body = nn.Sequential(*conv, *down, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Classifier(body, 8, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def chain(seed: int) -> Classifier:
    """A network of layers that have Lipschitz bounds."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        convs = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 4, stride=2, padding=1), nn.ReLU()]
        body = nn.Sequential(*convs, nn.Flatten(), nn.Linear(128, 16), nn.ReLU())
        return Classifier(body, 16, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def student(name: str) -> Classifier:
    """A network that the method can train."""
    return (chain if name in CHAINS else classifier)(0)


def toy(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of 8x8 whose class is their brightest channel."""
    y = torch.arange(n) % 3
    dim = 0.4 * torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return dim + 0.6 * nn.functional.one_hot(y, 3)[:, :, None, None], y


def make(name: str, threat: Threat = THREAT, **arguments):
    kind = find("crt.methods", name)
    teacher = (chain if name in CHAINS else classifier)(5).eval().requires_grad_(False) if kind.needs_teacher else None
    return kind(threat=threat, teacher=teacher, **arguments)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def late(n: int) -> Step:
    return Step(100.0, torch.arange(n))


@pytest.mark.parametrize("name", METHODS)
def test_loss_is_a_finite_scalar_and_reaches_every_parameter(name):
    method, model, (x, y) = make(name), student(name).train(), toy(12)
    before = state(method.teacher) if method.teacher else {}
    torch.manual_seed(0)
    loss = method.loss(model, x, y, late(12))
    assert loss.shape == () and torch.isfinite(loss)
    loss.backward()
    for parameter in model.parameters():
        assert parameter.requires_grad and torch.isfinite(parameter.grad).all() and parameter.grad.abs().sum() > 0
    assert all(module.training for module in model.modules())
    if method.teacher:
        assert same(before, state(method.teacher))
        assert not any(module.training for module in method.teacher.modules())
        assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_loss_falls_on_an_easy_problem(name):
    method, model, (x, y) = make(name), student(name).train(), toy(24)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for i in range(30):
        torch.manual_seed(i % 29)
        optimizer.zero_grad()
        loss = method.loss(model, x, y, late(24))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    # The first and the last loss have the same noise.
    assert losses[0] - losses[-1] > 0.2 * abs(losses[0])


@pytest.mark.parametrize("name", METHODS)
def test_runs_on_meta(name):
    with torch.device("meta"):
        model = student(name)
        objective = Objective(make(name), model).train()
        x, y = torch.empty(4, 3, 8, 8), torch.zeros(4, dtype=torch.long)
    loss = objective(x, y, Step(100.0, y))
    loss.backward()
    assert loss.device.type == "meta" and loss.shape == ()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_runs_under_autocast(name):
    method, model, (x, y) = make(name), student(name).train(), toy(12)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(model, x, y, late(12))
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("Standard", {}, (1, 0, 1, 0, 1)),
        ("Gaussian", {}, (1, 0, 1, 0, 1)),
        ("SmoothAdv", {"m": 3, "T": 2}, (9, 6, 3, 0, 3)),
        ("SmoothAdv", {"m": 3, "T": 2, "update": "single-noise"}, (7, 6, 1, 0, 1)),
        ("SmoothAdv", {"m": 1, "T": 1}, (2, 1, 1, 0, 1)),
        ("MACER", {}, (16, 0, 16, 0, 1)),
        ("Consistency", {}, (2, 0, 2, 0, 2)),
        ("SmoothMix", {}, (12, 8, 4, 0, 2)),
        ("SmoothMix", {"mix_step": 1}, (12, 8, 4, 0, 2)),
        ("SmoothMix", {"m": 1, "T": 1}, (3, 1, 2, 0, 1)),
        ("CRT", {}, (1, 0, 1, 1, 1)),
    ],
)
def test_passes_of_a_loaded_batch(name, arguments, expected):
    method, model, (x, y) = make(name, **arguments), classifier(0), toy(12)
    passes = {"forward": 0, "input": 0, "full": 0, "teacher": 0, "steps": 0}

    def count(key, n):
        passes[key] += n

    def forward(_, inputs, output):
        count("forward", len(inputs[0]))
        wanted = {parameter.requires_grad for parameter in model.parameters()}
        assert len(wanted) == 1
        output.register_hook(lambda g: count("full" if wanted == {True} else "input", len(g)))

    model.register_forward_hook(forward)
    if method.teacher:
        method.teacher.register_forward_hook(lambda _, inputs, __: count("teacher", len(inputs[0])))
    training = Training(method, model, Recipe(epochs=1, batch_size=12, lr=0.01))
    training.optimizer.register_step_post_hook(lambda *_: count("steps", len(x)))
    training.epoch([(x, y, torch.arange(12))], 0)
    assert tuple(n / len(x) for n in passes.values()) == expected


def test_frozen_restores_what_was():
    model = classifier(0).train()
    model.body[1].eval()
    model.head.bias.requires_grad_(False)
    before = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    with pytest.raises(KeyError), common.frozen(model):
        assert not any(m.training for m in model.modules()) and not any(p.requires_grad for p in model.parameters())
        raise KeyError
    assert before == ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()])


def unlikely():
    """A network, an image and a label whose probability is e^-100, with a gradient that is 100 everywhere."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double().requires_grad_(False)
    model[1].weight.copy_(torch.tensor([[100.0], [0.0]]).expand(2, 12))
    model[1].bias.copy_(torch.tensor([-500.0, 0.0]))
    return model, torch.full((1, 3, 2, 2), 0.5, dtype=torch.float64), torch.tensor([1])


def test_smooth_pgd_takes_a_random_direction_without_a_gradient(monkeypatch):
    model, x, y = unlikely()
    monkeypatch.setattr(torch, "randn_like", lambda g: torch.full_like(g, -0.01))
    found = common.smooth_pgd(model, x, y, torch.zeros(2, *x.shape), 1, 0.5)
    torch.testing.assert_close(found, x - 0.01, rtol=0, atol=1e-14)
    # A single noise vector has no floor: one normalized step of twice the radius, put back on the ball.
    found = common.smooth_pgd(model, x, y, torch.zeros(1, *x.shape), 1, 0.5)
    torch.testing.assert_close(found, x + 0.5 / math.sqrt(12), rtol=0, atol=1e-14)


def test_smooth_ascent_stays_without_a_gradient():
    model, x, y = unlikely()
    assert torch.equal(common.smooth_ascent(model, x, y, torch.zeros(1, *x.shape), 1, 0.5)[0], x)


def test_ascent_ascends_in_the_box_and_leaves_the_model():
    model, (x, y) = classifier(0).double().train(), toy(6)
    x, before = x.double(), state(model)
    noise = 0.25 * torch.randn((2, *x.shape), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    iterates = common.smooth_ascent(model, x, y, noise, 4, 0.5)
    assert same(before, state(model)) and all(p.grad is None for p in model.parameters())
    with common.frozen(model):
        right = [common.noisy_logits(model, z, noise).softmax(-1).mean(0).gather(1, y[:, None]) for z in iterates]
    assert len(right) == 4 and (right[-1] < right[0]).all()
    assert all(z.min() >= 0 and z.max() <= 1 and not z.requires_grad for z in iterates)
    assert (common.l2(iterates[0] - x) <= 0.5 + 1e-12).all() and (common.l2(iterates[-1] - x) > 0.5).any()


def test_within_a_ball():
    d = torch.stack([torch.zeros(3, 2, 2), torch.full((3, 2, 2), 0.01), torch.ones(3, 2, 2)])
    found = common.within(d, 0.5)
    assert torch.equal(found[:2], d[:2])
    torch.testing.assert_close(found[2], d[2] * 0.5 / math.sqrt(12))


def test_divergence_is_finite_at_zero():
    target = torch.tensor([[0.0, 0.25, 0.75]], dtype=torch.float64, requires_grad=True)
    logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    common.divergence(target, logits).sum().backward()
    assert torch.isfinite(target.grad).all() and torch.isfinite(logits.grad).all()
    expected = 0.25 * math.log(0.75) + 0.75 * math.log(2.25)
    assert float(common.divergence(target, logits).detach()) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SmoothAdv", {"T": 10, "m": 8, "eps": 1.0, "warmup": 10, "update": "multi-noise", "chunks": 8}),
        ("MACER", {"k": 16, "lbd": 12.0, "gamma": 8.0, "beta": 16.0, "chunks": 1}),
        ("Consistency", {"m": 2, "lbd": 20.0, "eta": 0.5, "chunks": 2}),
        ("SmoothMix", {"T": 4, "m": 2, "eta": 5.0, "alpha": 0.5, "mix_step": 0, "warmup": 10, "chunks": 2}),
        ("CRT", {"alpha": 1.0, "target": "logits", "chunks": 1}),
    ],
)
def test_defaults_are_the_papers(name, expected):
    method = make(name)
    assert {key: getattr(method, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Standard, {"sigma": 1}),
        (Gaussian, {"threat": {"sigma": -1}}),
        (SmoothAdv, {"eps": 0}),
        (SmoothAdv, {"warmup": 0}),
        (SmoothAdv, {"update": "multi"}),
        (MACER, {"k": 0}),
        (MACER, {"beta": 0}),
        (MACER, {"lbd": -1}),
        (MACER, {"lambda": 12}),
        (Consistency, {"m": 0}),
        (Consistency, {"lbd": -1}),
        (Consistency, {"eta": "inf"}),
        (SmoothMix, {"T": 0}),
        (SmoothMix, {"m": 1.5}),
        (SmoothMix, {"eta": -1}),
        (SmoothMix, {"alpha": "nan"}),
        (SmoothMix, {"mix_step": 2}),
        (SmoothMix, {"chunks": 2}),
        (CRT, {"alpha": 1.1}),
        (CRT, {"target": "features"}),
        (CRT, {"teacher": nn.Linear(1, 1)}),
    ],
)
def test_wrong_arguments_are_refused(kind, wrong):
    with pytest.raises(ValidationError):
        kind(**({"threat": THREAT} | wrong))
