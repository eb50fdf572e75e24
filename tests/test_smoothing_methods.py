"""The loss and gradients of every method of randomized smoothing against its formulas, re-stated in float64."""

import copy
import math

import pytest
import torch
from test_methods import classifier, late, make, toy
from torch import nn

from crt.methods import smoothadv
from crt.methods.gaussian import Gaussian
from crt.methods.standard import Standard
from crt.threat import Threat
from crt.training.method import Step


def softmax(z):
    return (z - z.max()).exp() / (z - z.max()).exp().sum()


def cross_entropy(logits, y):
    return sum(-softmax(z)[label].log() for z, label in zip(logits, y, strict=True)) / len(y)


def kl(p, q):
    return sum(p[k] * (p[k].log() - q[k].log()) for k in range(len(p)))


def length(d):
    return d.square().sum().sqrt()


def probabilities(model, images, noise):
    """Of each image and noise vector, in one call with the copies of an image side by side."""
    copies = torch.stack([image + n for i, image in enumerate(images) for n in noise[:, i]])
    return [[softmax(z) for z in part] for part in model(copies).split(len(noise))]


def problem(m):
    """Images, some of them under a wrong label, and the noise that a method draws of the seed 7."""
    x, y = toy(9)
    y = y.roll(4)
    y[:3] = torch.tensor([0, 1, 2])
    torch.manual_seed(7)
    return x.double(), y, 0.25 * torch.randn((m, *x.shape), dtype=torch.float64)


def gradient(loss, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def agree(method, x, y, epoch, restated, forwards, others=()):
    """The loss, its gradients and the running statistics are those of `restated`; the gradients of `others` are not."""
    model = classifier(3).double().train()
    first, twins = copy.deepcopy(model), [copy.deepcopy(model) for _ in others]
    torch.manual_seed(7)
    loss, expected = method.loss(model, x, y, Step(epoch, torch.arange(len(x)))), restated(first)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-11)
    found = gradient(loss, model)
    torch.testing.assert_close(found, gradient(expected, first), rtol=1e-8, atol=1e-11)
    for (name, a), b in zip(model.named_buffers(), first.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        assert int(a) == forwards if name.endswith("num_batches_tracked") else True
    for twin, other in zip(twins, others, strict=True):
        assert (gradient(other(twin), twin) - found).abs().max() > 1e-5


@pytest.mark.parametrize(("kind", "sigma"), [(Standard, 0.0), (Gaussian, 0.5)])
def test_cross_entropy_at_one_noisy_copy(kind, sigma):
    x, y, noise = problem(1)
    # Standard ignores the noise that the threat names.
    restated = lambda model: cross_entropy(model(x + sigma / 0.25 * noise[0]), y)  # noqa: E731
    agree(kind(threat=Threat(sigma=0.5)), x, y, 0.0, restated, 1)


def attacked(model, x, y, noise, steps, eps, ball_first=False):
    """SmoothAdv's attack on one image after the other; and whether the box and the ball both held any of them."""
    box = lambda d, image: (image + d).clamp(0, 1) - image  # noqa: E731
    ball = lambda d, image: d * min(1.0, eps / float(length(d)))  # noqa: E731
    model, found, held = copy.deepcopy(model).eval(), [], set()
    for i, image in enumerate(x):
        delta = torch.zeros_like(image)
        for _ in range(steps):
            delta.requires_grad_()
            p = sum(softmax(model((image + delta + n)[None])[0]) for n in noise[:, i]) / len(noise)
            (g,) = torch.autograd.grad(-torch.log(p[y[i]]), delta)
            delta = delta.detach() + 2 * eps / steps * g / length(g)
            for hold in (ball, box) if ball_first else (box, ball):
                free, delta = delta, hold(delta, image)
                held |= {hold} if (delta - free).abs().max() > 1e-6 else set()
        found.append(image + delta)
    return torch.stack(found), held == {box, ball}


@pytest.mark.parametrize(
    ("arguments", "epoch"),
    [({"m": 3}, 2.7), ({"m": 2, "T": 3, "eps": 0.5}, 40.0), ({"m": 1, "T": 1}, 40.0), ({"m": 2, "warmup": 1}, 0.0)],
)
@pytest.mark.parametrize("update", ["multi-noise", "single-noise"])
def test_smoothadv_equals_its_restatement(arguments, epoch, update):
    method = make("SmoothAdv", update=update, **arguments)
    x, y, noise = problem(method.m)
    eps = min(method.eps, (int(epoch) + 1) * method.eps / method.warmup)

    def restated(model, ball_first=False):
        images, held = attacked(model, x, y, noise, method.T, eps, ball_first)
        assert held, "box and ball must matter"
        p = probabilities(model, images, noise if update == "multi-noise" else noise[:1])
        return sum(-q[y[i]].log() for i, row in enumerate(p) for q in row) / len(p) / len(p[0])

    agree(method, x, y, epoch, restated, 1, [lambda model: restated(model, ball_first=True)])


def test_smoothadv_warms_its_radius_up_by_whole_epochs(monkeypatch):
    found, (x, y) = [], toy(4)
    monkeypatch.setattr(smoothadv, "smooth_pgd", lambda model, x, y, noise, steps, eps: found.append(eps) or x)
    method = make("SmoothAdv", eps="255/256")
    for epoch in (0.0, 0.99, 1.0, 8.5, 9.0, 50.0):
        method.loss(classifier(0), x, y, Step(epoch, y))
    assert found == pytest.approx([255 / 256 * share for share in (0.1, 0.1, 0.2, 0.9, 1, 1)])


@pytest.mark.parametrize(("update", "images"), [("multi-noise", 2), ("single-noise", 8)])
def test_smoothadv_calls_hold_no_more_than_a_loaded_batch(update, images):
    method, model, calls, (x, y) = make("SmoothAdv", m=4, T=2, update=update), classifier(0), [], toy(images)
    model.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    method.loss(model, x, y, late(images))
    assert calls == ([8, 8, 8] if update == "multi-noise" else [8] * 8 + [8])


def test_smoothadv_in_a_manifest(tiny):
    label = lambda method: tiny(method=method).cells[0].method.label  # noqa: E731
    assert label("SmoothAdv") == "SmoothAdv(eps=1, update=multi-noise)"
    single = "SmoothAdv(m=33, eps=0.996094, update=single-noise)"
    assert label("{SmoothAdv: {m: 33, eps: 255/256, update: single-noise}}") == single
    with pytest.raises(ValueError, match=r"cells\[0\].method: .*33 parts"):
        tiny(method="{SmoothAdv: {m: 33}}")


def macer(method, y, p, sharp, detach=False):
    """MACER's loss from probabilities at inverse temperatures 1 and beta; which images counted and why not."""
    error, robust, why = 0.0, 0.0, []
    for i, label in enumerate(y):
        error = error - torch.log(sum(q[label] for q in p[i]) / method.k + 1e-10)
        mean = sum(sharp[i]) / method.k
        first, second = sorted(range(len(mean)), key=lambda c: -float(mean[c].detach()))[:2]
        q2 = mean[second].detach() if detach else mean[second]
        margin = math.sqrt(2) * (torch.erfinv(2 * mean[first] - 1) - torch.erfinv(2 * q2 - 1))
        why.append("wrong" if first != label else "kept" if abs(float(margin.detach())) <= method.gamma else "beyond")
        if why[-1] == "kept":
            robust = robust + method.threat.sigma / 2 * (method.gamma - margin)
    return (error + method.lbd * robust) / len(y), set(why)


@pytest.mark.parametrize("arguments", [{}, {"k": 2, "lbd": 3, "gamma": 0.5, "beta": 4}, {"k": 1, "gamma": 3}])
def test_macer_equals_its_restatement(arguments):
    method = make("MACER", **arguments)
    x, y, noise = problem(method.k)
    seen = set()

    def restated(model, detach=False):
        copies = torch.stack([image + n for i, image in enumerate(x) for n in noise[:, i]])
        z = model(copies).split(method.k)
        p, sharp = ([[softmax(t * row) for row in part] for part in z] for t in (1, method.beta))
        loss, why = macer(method, y, p, sharp, detach)
        seen.update(why)
        return loss

    agree(method, x, y, 0.0, restated, 1, [lambda model: restated(model, detach=True)])
    assert seen == ({"kept", "wrong", "beyond"} if "gamma" in arguments else {"kept", "wrong"})


class Fixed(nn.Module):
    """Logits that do not depend on the images."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x):
        return self.logits.repeat(len(x) // len(self.logits), 1)


@pytest.mark.parametrize("gap", [0.9, 1.05, 20.0])
def test_macer_is_finite_where_the_radius_is_not(gap):
    # At 0.9 the larger of the two stays just below 1, at 1.05 it rounds to 1; at 20 the smaller is 0.
    model, y = Fixed([[gap, 0.0], [0.1, 0.0]]), torch.tensor([0, 0])
    method = make("MACER", gamma=1000)
    loss = method.loss(model, torch.zeros(2, 3, 2, 2), y, late(2))
    (g,) = torch.autograd.grad(loss, model.logits)
    assert torch.isfinite(loss) and torch.isfinite(g).all() and (g[1] != 0).all()
    plain = make("MACER", lbd=0).loss(model, torch.zeros(2, 3, 2, 2), y, late(2))
    (without,) = torch.autograd.grad(plain, model.logits)
    assert torch.equal(g[0], without[0]) == (gap > 1)


def test_macer_takes_the_radius_in_float32_under_autocast(monkeypatch):
    seen, real, (x, y) = [], torch.special.ndtri, toy(4)
    monkeypatch.setattr(torch.special, "ndtri", lambda q: seen.append(q.dtype) or real(q))
    with torch.autocast("cpu", torch.bfloat16):
        assert classifier(0)(x).dtype == torch.bfloat16
        make("MACER").loss(classifier(0), x, y, late(4))
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("arguments", [{}, {"m": 3, "lbd": 5, "eta": 0.1}])
def test_consistency_equals_its_restatement(arguments):
    method = make("Consistency", **arguments)
    x, y, noise = problem(method.m)

    def restated(model, detach=False):
        total, p = 0.0, probabilities(model, x, noise)
        for row, label in zip(p, y, strict=True):
            mean = sum(row) / method.m
            target = mean.detach() if detach else mean
            total = total + sum(-q[label].log() for q in row) / method.m
            total = total + method.lbd * sum(kl(target, q) for q in row) / method.m
            total = total + method.eta * sum(-c * torch.log(torch.clamp(c, min=1e-20)) for c in mean)
        return total / len(x)

    agree(method, x, y, 0.0, restated, 1, [lambda model: restated(model, detach=True)])


def test_consistency_is_finite_where_a_probability_is_zero():
    model = Fixed([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]])
    loss = make("Consistency").loss(model, torch.zeros(2, 3, 2, 2), torch.tensor([0, 0]), late(2))
    (g,) = torch.autograd.grad(loss, model.logits)
    assert float(loss.detach()) == pytest.approx(100) and torch.isfinite(g).all()


def smoothmix(method, model, x, y, noise, share, epoch, detach=False):
    """SmoothMix image by image and noise by noise; the attack on an eval-mode copy. Also which images counted."""
    weight = min(1, (int(epoch) + 1) / method.warmup)
    frozen, classes = copy.deepcopy(model).eval(), 3
    start, end = [], []
    for i, image in enumerate(x):
        now, first = image, image
        for step in range(method.T):
            # The one-step adversary is where the second step begins; without one, nothing but the image is.
            first = now if step == 1 else first
            now = now.detach().requires_grad_()
            p = sum(softmax(frozen((now + n)[None])[0]) for n in noise[:, i]) / method.m
            (g,) = torch.autograd.grad(-torch.log(p[y[i]]), now)
            now = (now + method.alpha * g / (length(g) + 1e-8)).clamp(0, 1).detach()
        far = max(float(length(first - image)), 1e-30)
        shrunk = image + (first - image) * min(1.0, weight * method.alpha / far)
        start.append(shrunk.clamp(0, 1) if method.mix_step else image)
        end.append(now)
    mixes = [(1 - lam) * a + lam * b for lam, a, b in zip(share, start, end, strict=True)]
    clean, mixed = probabilities(model, start, noise), probabilities(model, mixes, noise)
    total, counted = 0.0, []
    for i, label in enumerate(y):
        mean = sum(clean[i]) / method.m
        counted.append(bool(mean.argmax() == label))
        target = (1 - share[i]) * (mean.detach() if detach else mean) + share[i] / classes
        total = total + sum(-q[label].log() for q in clean[i]) / method.m
        total = total + method.eta * weight * counted[i] * sum(kl(target, q) for q in mixed[i]) / method.m
    return total / len(x), counted


@pytest.mark.parametrize(
    ("arguments", "epoch"),
    [
        ({}, 0.9),
        ({}, 40.0),
        ({"mix_step": 1}, 2.7),
        ({"mix_step": 1, "m": 3}, 40.0),
        ({"mix_step": 1, "T": 2}, 0.0),
        ({"T": 1, "m": 1, "eta": 1}, 3.0),
        ({"T": 1, "m": 1, "eta": 1, "mix_step": 1}, 0.0),
        ({"T": 1, "mix_step": 1}, 3.0),
        ({"T": 1, "m": 1, "eta": 1, "alpha": 8.0, "mix_step": 1}, 40.0),
    ],
)
def test_smoothmix_equals_its_restatement(arguments, epoch):
    method = make("SmoothMix", **arguments)
    x, y, noise = problem(method.m)
    share = 0.5 * torch.rand(len(x), dtype=torch.float64)

    def restated(model, detach=False):
        loss, counted = smoothmix(method, model, x, y, noise, share, epoch, detach)
        assert {True, False} == set(counted), "the mask must matter"
        return loss

    agree(method, x, y, epoch, restated, 2, [lambda model: restated(model, detach=True)])


def test_smoothmix_warms_up_by_whole_epochs():
    method, (x, y) = make("SmoothMix"), toy(9)
    x, found = x.double(), []
    for epoch in (0.0, 0.99, 1.0, 9.0, 50.0):
        torch.manual_seed(0)
        found.append(float(method.loss(classifier(3).double().train(), x, y, Step(epoch, y)).detach()))
    assert found[0] == found[1] != found[2] and found[3] == found[4]
    assert found[2] - found[0] == pytest.approx((found[3] - found[0]) / 9, rel=1e-9)


@pytest.mark.parametrize("target", ["logits", "softmax"])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_crt_equals_its_restatement(target, alpha):
    method, (x, y, noise) = make("CRT", alpha=alpha, target=target), problem(1)
    method.teacher.double()

    def restated(model):
        student, taught = model(x + noise[0]), method.teacher(x + noise[0])
        scores = softmax if target == "softmax" else lambda z: z
        apart = sum(length(scores(a) - scores(b)) for a, b in zip(student, taught, strict=True)) / len(x)
        return alpha * apart + (1 - alpha) * cross_entropy(student, y)

    agree(method, x, y if alpha < 1 else None, 0.0, restated, 1)


def test_crt_has_no_gradient_where_student_is_teacher():
    method, (x, y) = make("CRT"), toy(6)
    model = copy.deepcopy(method.teacher).requires_grad_()
    loss = method.loss(model, x, y, late(6))
    loss.backward()
    assert float(loss.detach()) == 0 and all((p.grad == 0).all() for p in model.parameters())
