"""Every method on a toy problem; formulas re-stated in float64; passes counted against the papers' table."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from crt import attacks
from crt.classifier import Classifier
from crt.method import Objective, Step
from crt.methods.crt import CRT
from crt.methods.gaussian import Gaussian
from crt.methods.smoothmix import SmoothMix, divergence
from crt.methods.standard import Standard
from crt.plugins import find, plugins
from crt.recipe import Recipe
from crt.threat import Threat
from crt.train import train_epoch

THREAT = Threat(sigma=0.25, eps=0.25)
METHODS = sorted(plugins("crt.methods"))


def classifier(seed: int) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        conv = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        down = [nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        body = nn.Sequential(*conv, *down, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Classifier(body, 8, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def toy(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of 8x8 whose class is their brightest channel."""
    y = torch.arange(n) % 3
    dim = 0.4 * torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return dim + 0.6 * nn.functional.one_hot(y, 3)[:, :, None, None], y


def make(name: str, threat: Threat = THREAT, **arguments):
    kind = find("crt.methods", name)
    teacher = classifier(5).eval().requires_grad_(False) if kind.needs_teacher else None
    return kind(threat=threat, teacher=teacher, **arguments)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def late(n: int) -> Step:
    return Step(100.0, torch.arange(n))


@pytest.mark.parametrize("name", METHODS)
def test_loss_is_a_finite_scalar_and_reaches_every_parameter(name):
    method, model, (x, y) = make(name), classifier(0).train(), toy(12)
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
    method, model, (x, y) = make(name), classifier(0).train(), toy(24)
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
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", METHODS)
def test_runs_on_meta(name):
    with torch.device("meta"):
        model = classifier(0)
        objective = Objective(make(name), model).train()
        x, y = torch.empty(4, 3, 8, 8), torch.zeros(4, dtype=torch.long)
    loss = objective(x, y, Step(100.0, y))
    loss.backward()
    assert loss.device.type == "meta" and loss.shape == ()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_runs_under_autocast(name):
    method, model, (x, y) = make(name), classifier(0).train(), toy(12)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(model, x, y, late(12))
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("Standard", {}, (1, 0, 1, 0, 1)),
        ("Gaussian", {}, (1, 0, 1, 0, 1)),
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
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    optimizer.register_step_post_hook(lambda *_: count("steps", len(x)))
    recipe = Recipe(epochs=1, batch_size=12, lr=0.01)
    train_epoch(Objective(method, model), method, optimizer, [(x, y, torch.arange(12))], recipe, 0)
    assert tuple(n / len(x) for n in passes.values()) == expected


def softmax(z):
    return (z - z.max()).exp() / (z - z.max()).exp().sum()


def cross_entropy(logits, y):
    return sum(-softmax(z)[label].log() for z, label in zip(logits, y, strict=True)) / len(y)


def restated(model, x, y, noise, share, method, epoch, detach=False):
    """SmoothMix image by image and noise by noise; the attack on an eval-mode copy. Also which images counted."""
    weight = min(1, (int(epoch) + 1) / method.warmup)
    frozen, classes = copy.deepcopy(model).eval(), 3
    start, end = [], []
    for i in range(len(x)):
        now, first = x[i], None
        for _ in range(method.T):
            now = now.detach().requires_grad_()
            p = sum(softmax(frozen((now + noise[j, i])[None])[0]) for j in range(method.m)) / method.m
            (g,) = torch.autograd.grad(-torch.log(p[y[i]]), now)
            g = g / (g.square().sum().sqrt() + 1e-8)
            now = torch.minimum(torch.maximum(now + method.alpha * g, torch.zeros(())), torch.ones(())).detach()
            first = now if first is None else first
        length = float((first - x[i]).square().sum().sqrt())
        shrunk = x[i] + (first - x[i]) * min(1.0, weight * method.alpha / length)
        start.append(shrunk.clamp(0, 1) if method.mix_step else x[i])
        end.append(now)
    mixes = [(1 - lam) * a + lam * b for lam, a, b in zip(share, start, end, strict=True)]
    clean = model(torch.stack([start[i] + noise[j, i] for j in range(method.m) for i in range(len(x))]))
    mixed = model(torch.stack([mixes[i] + noise[j, i] for j in range(method.m) for i in range(len(x))]))
    total, counted = cross_entropy(clean, list(y) * method.m), []
    for i in range(len(x)):
        mean = sum(softmax(clean[j * len(x) + i]) for j in range(method.m)) / method.m
        counted.append(bool(mean.argmax() == y[i]))
        target = (1 - share[i]) * (mean.detach() if detach else mean) + share[i] / classes
        for j in range(method.m):
            q = softmax(mixed[j * len(x) + i])
            kl = sum(target[k] * (target[k].log() - q[k].log()) for k in range(classes))
            total = total + method.eta * weight * counted[i] * kl / (method.m * len(x))
    return total, counted


@pytest.mark.parametrize(
    ("arguments", "epoch"),
    [({}, 0.9), ({}, 40.0), ({"mix_step": 1}, 2.7), ({"mix_step": 1, "m": 3}, 40.0), ({"T": 1, "m": 1, "eta": 1}, 3.0)],
)
def test_smoothmix_equals_its_restatement(arguments, epoch):
    method, model, (x, y) = make("SmoothMix", **arguments), classifier(3).double().train(), toy(9)
    x, twin, detached = x.double(), copy.deepcopy(model), copy.deepcopy(model)
    y = y.roll(4)
    y[:3] = torch.tensor([0, 1, 2])
    torch.manual_seed(7)
    noise = 0.25 * torch.randn((method.m, *x.shape), dtype=x.dtype)
    share = 0.5 * torch.rand((9, 1, 1, 1), dtype=x.dtype).flatten()
    torch.manual_seed(7)
    loss = method.loss(model, x, y, Step(epoch, torch.arange(9)))
    expected, counted = restated(twin, x, y, noise, share, method, epoch)
    assert {True, False} == set(counted), "the mask must matter"
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-11)
    loss.backward()
    expected.backward()
    restated(detached, x, y, noise, share, method, epoch, detach=True)[0].backward()
    apart = 0.0
    for a, b, c in zip(model.parameters(), twin.parameters(), detached.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-11)
        apart = max(apart, float((b.grad - c.grad).abs().max()))
    assert apart > 1e-5, "the gradient through the smoothed target must matter"
    # Running statistics: two train-mode forwards, and none of the attack.
    for (name, a), b in zip(model.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        assert int(a) == 2 if name.endswith("num_batches_tracked") else True


def test_warmup_is_by_whole_epochs():
    method, (x, y) = make("SmoothMix"), toy(9)
    found = []
    for epoch in (0.0, 0.99, 1.0, 9.0, 50.0):
        torch.manual_seed(0)
        found.append(float(method.loss(classifier(3).train(), x, y, Step(epoch, y)).detach()))
    assert found[0] == found[1] != found[2] and found[3] == found[4]
    assert found[2] - found[0] == pytest.approx((found[3] - found[0]) / 9, rel=1e-3)


def test_divergence_is_finite_at_zero():
    target = torch.tensor([[0.0, 0.25, 0.75]], requires_grad=True)
    logits = torch.zeros(1, 3, requires_grad=True)
    divergence(target, logits).sum().backward()
    assert torch.isfinite(target.grad).all() and torch.isfinite(logits.grad).all()
    expected = 0.25 * math.log(0.75) + 0.75 * math.log(2.25)
    assert float(divergence(target, logits).detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("target", ["logits", "softmax"])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_crt_equals_its_formula(target, alpha):
    method, (x, y) = make("CRT", alpha=alpha, target=target), toy(6)
    model, x, teacher = classifier(0).double().train(), x.double(), method.teacher.double()
    torch.manual_seed(3)
    noisy = x + 0.25 * torch.randn_like(x)
    student = copy.deepcopy(model)
    z, t = student(noisy), teacher(noisy)
    if target == "softmax":
        s, t = [softmax(row) for row in z], [softmax(row) for row in t]
    else:
        s = list(z)
    distance = sum((a - b).square().sum().sqrt() for a, b in zip(s, t, strict=True)) / 6
    expected = alpha * distance + (1 - alpha) * cross_entropy(z, y)
    expected.backward()
    torch.manual_seed(3)
    loss = method.loss(model, x, y if alpha < 1 else None, late(6))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)
    for a, b in zip(model.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12)


def test_crt_has_no_gradient_where_student_is_teacher():
    method, (x, y) = make("CRT"), toy(6)
    model = copy.deepcopy(method.teacher).requires_grad_()
    loss = method.loss(model, x, y, late(6))
    loss.backward()
    assert float(loss.detach()) == 0 and all((p.grad == 0).all() for p in model.parameters())


@pytest.mark.parametrize(("kind", "sigma"), [(Standard, 0.0), (Gaussian, 0.5)])
def test_cross_entropy_at_one_noisy_copy(kind, sigma):
    (x, y), model = toy(6), classifier(0).double().train()
    x, twin = x.double(), copy.deepcopy(model)
    torch.manual_seed(3)
    expected = cross_entropy(twin(x + sigma * torch.randn_like(x)), y)
    torch.manual_seed(3)
    # Standard ignores the noise that the threat names.
    found = kind(threat=Threat(sigma=0.5)).loss(model, x, y, late(6))
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-12)


def test_frozen_restores_what_was():
    model = classifier(0).train()
    model.body[1].eval()
    model.head.bias.requires_grad_(False)
    before = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    with pytest.raises(KeyError), attacks.frozen(model):
        assert not any(m.training for m in model.modules()) and not any(p.requires_grad for p in model.parameters())
        raise KeyError
    assert before == ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()])


def test_ascent_ascends_in_the_box_and_leaves_the_model():
    model, (x, y) = classifier(0).train(), toy(6)
    before = state(model)
    noise = 0.25 * torch.randn((2, *x.shape), generator=torch.Generator().manual_seed(2))
    iterates = attacks.smooth_ascent(model, x, y, noise, 4, 0.5)
    assert same(before, state(model)) and all(p.grad is None for p in model.parameters())
    with attacks.frozen(model):
        right = [attacks.noisy_logits(model, z, noise).softmax(-1).mean(0).gather(1, y[:, None]) for z in iterates]
    assert len(right) == 4 and (right[-1] < right[0]).all()
    assert all(z.min() >= 0 and z.max() <= 1 and not z.requires_grad for z in iterates)
    assert (attacks.l2(iterates[0] - x) <= 0.5 + 1e-5).all() and (attacks.l2(iterates[-1] - x) > 0.5).any()


def test_within_a_ball():
    d = torch.stack([torch.zeros(3, 2, 2), torch.full((3, 2, 2), 0.01), torch.ones(3, 2, 2)])
    found = attacks.within(d, 0.5)
    assert torch.equal(found[:2], d[:2])
    torch.testing.assert_close(found[2], d[2] * 0.5 / math.sqrt(12))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Standard, {"sigma": 1}),
        (Gaussian, {"threat": {"sigma": -1}}),
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


def test_smoothmix_has_the_papers_defaults():
    method = SmoothMix(threat=THREAT)
    found = (method.T, method.m, method.eta, method.alpha, method.mix_step, method.warmup, method.chunks)
    assert found == (4, 2, 5.0, 0.5, 0, 10, 2) and SmoothMix(threat=THREAT, m=3).chunks == 3
