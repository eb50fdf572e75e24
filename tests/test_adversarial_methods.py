"""Adversarial training against the methods' formulas, re-stated in float64."""

import copy
import math

import pytest
import torch
from test_methods import classifier, late, make, same, state, toy
from test_smoothing_methods import agree, cross_entropy, gradient, length, softmax

from crt.attacks.pgd import confine
from crt.methods.freeat import FreeAT
from crt.methods.mart import _boosted
from crt.threat import Threat
from crt.training.loop import Training
from crt.training.method import Step
from crt.training.recipe import Recipe

LINF, L2 = Threat(norm="linf", eps=0.1), Threat(norm="l2", eps=0.8)


def size(d, threat):
    d = d.double().flatten(1)
    return d.abs().amax(1) if threat.norm == "linf" else d.norm(dim=1)


def problem(n=9):
    """Images, some of them under a wrong label."""
    x, y = toy(n)
    y = y.roll(4)
    y[:3] = torch.tensor([0, 1, 2])[:n]
    return x.double(), y


def noise_of(x, threat):
    """The noise that a method draws from seed 7 for its random start."""
    torch.manual_seed(7)
    if threat.norm == "linf":
        return 2 * threat.eps * torch.rand(x.shape, dtype=x.dtype) - threat.eps
    noise = torch.randn(x.shape, dtype=x.dtype)
    return torch.stack([threat.eps * n / length(n) for n in noise])


def inside(z, image, threat, held=None):
    """The nearest point of the ball to `z` and then of the box; `held` learns which of them mattered."""
    free = d = z - image
    if threat.norm == "linf":
        d = torch.where(d.abs() > threat.eps, threat.eps * torch.sgn(d), d)
    elif length(d) > threat.eps:
        d = d * threat.eps / length(d)
    boxed = torch.min(torch.max(image + d, torch.tensor(0.0)), torch.tensor(1.0))
    if held is not None:
        held |= {"ball"} if (d - free).abs().max() > 1e-6 else set()
        held |= {"box"} if (boxed - image - d).abs().max() > 1e-6 else set()
    return boxed


def steepest(g, threat):
    return torch.sgn(g) if threat.norm == "linf" else g / (length(g) + 1e-10)


def attacked(model, x, y, threat, alpha, K, best_of):
    """PGD of one image after the other on a copy in eval mode."""
    model, found, held, which = copy.deepcopy(model).eval(), [], set(), set()
    for image, label, noise in zip(x, y, noise_of(x, threat), strict=True):
        iterates, scores = [inside(image + noise, image, threat)], []
        for _ in range(K):
            now = iterates[-1].detach().requires_grad_()
            score = -softmax(model(now[None])[0])[label].log()
            scores.append(float(score.detach()))
            (g,) = torch.autograd.grad(score, now)
            iterates.append(inside(now.detach() + alpha * steepest(g, threat), image, threat, held))
        scores.append(-float(softmax(model(iterates[-1][None])[0])[label].log().detach()))
        which.add(scores.index(max(scores)))
        found.append(iterates[scores.index(max(scores)) if best_of else -1])
    assert held == {"ball", "box"}, "both must matter"
    # Short steps ascend all the way; long ones do not.
    assert (len(which) > 1) == (alpha > threat.eps)
    return torch.stack(found)


@pytest.mark.parametrize(
    ("threat", "arguments", "alpha"),
    [
        (LINF, {}, 0.025),
        (LINF, {"K": 3, "alpha": 0.15, "best_of": False}, 0.15),
        (L2, {}, 0.16),
        (L2, {"K": 4, "alpha": 0.9}, 0.9),
    ],
)
def test_sat_equals_its_restatement(threat, arguments, alpha):
    method, (x, y) = make("SAT", threat, **arguments), problem()

    def restated(model, best_of=method.best_of):
        return cross_entropy(model(attacked(model, x, y, threat, alpha, method.K, best_of)), y)

    others = [lambda model: restated(model, not method.best_of)] if alpha > threat.eps else []
    # One forward pass alone is seen by BatchNorm: the attack is in eval mode.
    agree(method, x, y, 0.0, restated, 1, others)


def in_train_mode(model, x, y, threat, now, alpha, K):
    """Sign or normalized ascents of the whole batch through a model in train mode, whose statistics move."""
    for _ in range(K):
        now = now.detach().requires_grad_()
        (g,) = torch.autograd.grad(len(x) * cross_entropy(model(now), y), now)
        moved = [now[i].detach() + alpha * steepest(g[i], threat) for i in range(len(x))]
        now = torch.stack([inside(z, image, threat) for z, image in zip(moved, x, strict=True)])
    return now


def begun(x, threat):
    return torch.stack([inside(i + n, i, threat) for i, n in zip(x, noise_of(x, threat), strict=True)])


@pytest.mark.parametrize(
    ("threat", "arguments", "alpha"),
    [(LINF, {}, 0.025), (LINF, {"K": 2, "alpha": 0.07}, 0.07), (L2, {"K": 3}, 0.2)],
)
def test_pgd7fast_equals_its_restatement(threat, arguments, alpha):
    method, (x, y) = make("PGD7Fast", threat, **arguments), problem()

    def restated(model, mode=True):
        attack = model if mode else copy.deepcopy(model).eval()
        return cross_entropy(model(in_train_mode(attack, x, y, threat, begun(x, threat), alpha, method.K)), y)

    agree(method, x, y, 0.0, restated, method.K + 1, [lambda model: restated(model, mode=False)])


@pytest.mark.parametrize("threat", [LINF, L2])
@pytest.mark.parametrize(("init", "alpha"), [("random", None), ("zero", None), ("random", 0.05), ("previous", None)])
def test_fgsmrs_equals_its_restatement(threat, init, alpha):
    method, (x, y) = make("FGSMRS", threat, init=init, alpha=alpha), problem()
    torch.manual_seed(3)
    carried = noise_of(x, threat).flip(0)
    method.delta = torch.cat([carried, torch.zeros_like(x)]) if init == "previous" else None
    first = {"random": begun(x, threat), "zero": x, "previous": x + carried}
    boxed = x + carried.clamp(-x, 1 - x)

    def restated(model, begin=first[init]):
        alpha = method.alpha or 1.25 * threat.eps
        return cross_entropy(model(in_train_mode(model, x, y, threat, begin, alpha, 1)), y)

    # To put what is carried over into the new image's box before the step, too, is another method.
    others = [first["zero" if init != "zero" else "random"], *([boxed] if init == "previous" else [])]
    agree(method, x, y, 0.0, restated, 2, [lambda model, begin=begin: restated(model, begin) for begin in others])


def test_fgsmrs_carries_what_it_found():
    seen = []

    class Watched(type(classifier(0))):
        def forward(self, x):
            seen.append(x.detach().clone())
            return super().forward(x)

    method, model, (x, y) = make("FGSMRS", LINF, init="previous"), classifier(0), toy(12)
    model.__class__ = Watched
    assert method.state() == {}
    found = []
    for rows in (slice(0, 6), slice(6, 10), slice(3, 9)):
        method.loss(model, x[rows], y[rows], late(len(x[rows])))
        found.append(method.delta.clone())
    first, short, third = found
    assert torch.equal(seen[0], x[:6]) and first.abs().max() == torch.tensor(0.1)
    assert torch.equal(seen[1], x[:6] + first) and torch.equal(seen[2], x[6:10] + first[:4])
    assert torch.equal(short[4:], first[4:]) and not torch.equal(short[:4], first[:4])
    assert torch.equal(seen[4], x[3:9] + short) and torch.equal(seen[5], x[3:9] + third)
    other = make("FGSMRS", LINF, init="previous")
    other.restore(method.state())
    assert torch.equal(other.delta, third)


class Pushed(torch.nn.Module):
    """Logits of two classes, whose loss under the label 0 has at each pixel the gradient's sign that it is told."""

    def __init__(self, signs):
        super().__init__()
        self.signs, self.scale = signs, torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        push = self.scale * (self.signs.to(x.dtype) * x).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(push), push], 1)


EIGHT = Threat(norm="linf", eps="8/255")


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ((1, -1), 0.0),  # there and back
        ((-1, 1), 0.0),
        ((-1, 1, -1, 1), 0.0),
        ((1, 0), 1.0),  # and no further where there is no gradient
        ((1, 1, 1), 1.0),
        ((0, 0), 0.0),
        ((-1, -1, 1), 0.0),
    ],
)
def test_freeat_carries_exactly_what_the_paper_has(signs, expected):
    # Pixels away from 0 and 1: whole steps of eps, cut off at eps, which float32 adds without an error.
    torch.manual_seed(0)
    x, y = 0.1 + 0.8 * torch.rand(5, 3, 4, 4), torch.zeros(5, dtype=torch.long)
    method = FreeAT(threat=EIGHT, m=len(signs))
    for replay, sign in enumerate(signs):
        model = Pushed(torch.full((3, 4, 4), sign))
        method.loss(model, x, y, Step(0.0, y, replay)).backward()
        with torch.no_grad():
            method.after(model)
    assert torch.equal(method.delta.abs(), torch.full_like(x, expected * EIGHT.eps))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_perturbations_end_exactly_at_the_box(norm, edge):
    x = torch.tensor([0.0, 1e-9, 0.01, 0.3, 0.5, 0.7, 0.999, 1.0]).view(1, 1, 2, 4)
    out = torch.full_like(x, 2 * edge - 1)
    exact = (edge - x.double()).float()
    found = confine(out, x, 2.0 if norm == "linf" else 100.0, norm)
    assert torch.equal(found, exact) and torch.equal(x + found, torch.full_like(x, edge))
    assert torch.equal(confine(torch.zeros_like(x), x, 0.1, norm), torch.zeros_like(x))
    inside = torch.full_like(x, 0.1)
    held = confine(inside, x, 0.05, norm)
    oracle = inside.double() * (0.05 / inside.double().norm()) if norm == "l2" else torch.full_like(x, 0.05).double()
    torch.testing.assert_close(held.double(), torch.minimum(oracle, 1 - x.double()), rtol=1e-6, atol=0)


RECIPE = Recipe(epochs=2, batch_size=6, lr=0.05, weight_decay=1e-2)


def epoch_of(x, y, size=6):
    return [(x[i : i + size], y[i : i + size], torch.arange(i, min(i + size, len(x)))) for i in range(0, len(x), size)]


def free(model, method, batches, threat):
    """Free adversarial training by hand: clipped sums, their gradient, SGD with momentum and weight decay."""
    parameters, delta = list(model.parameters()), torch.zeros_like(batches[0][0])
    velocity, outside, losses = [torch.zeros_like(p) for p in parameters], 0, []
    for x, y, _ in batches:
        if method.reset:
            delta = torch.zeros_like(delta)
        for _ in range(method.m):
            now = x + delta[: len(x)]
            seen = torch.min(torch.max(now, torch.tensor(0.0)), torch.tensor(1.0)).requires_grad_()
            loss = cross_entropy(model(seen), y)
            g, *gs = torch.autograd.grad(loss, [seen, *parameters])
            beyond = (now < 0) | (now > 1)
            outside, losses = outside + int(beyond.sum()), [*losses, float(loss.detach())]
            g = torch.where(beyond, 0.0, g)
            moved = [now[i] + threat.eps * steepest(g[i], threat) for i in range(len(x))]
            delta[: len(x)] = torch.stack([inside(z, i, threat) for z, i in zip(moved, x, strict=True)]) - x
            with torch.no_grad():
                for p, v, grad in zip(parameters, velocity, gs, strict=True):
                    v.mul_(0.9).add_(grad + 1e-2 * p)
                    p.sub_(0.05 * v)
    return delta, outside, losses


@pytest.mark.parametrize("threat", [LINF, L2])
@pytest.mark.parametrize("arguments", [{"m": 3}, {"m": 2, "reset": True}])
def test_freeat_equals_its_restatement(threat, arguments):
    method, (x, y) = make("FreeAT", threat, **arguments), problem(16)
    model = classifier(3).double().train()
    first, batches, taken = copy.deepcopy(model), epoch_of(x, y), []
    training = Training(method, model, RECIPE)
    training.optimizer.register_step_post_hook(lambda *_: taken.append(1))
    loss = training.epoch(batches, 0)
    delta, outside, losses = free(first, method, batches, threat)
    assert len(taken) == 3 * method.m and bool(outside) != method.reset
    assert float(loss) == pytest.approx(sum(losses) / len(losses), abs=1e-11)
    # Of those that are not carried over, only the last batch's count.
    rows = len(batches[-1][0]) if method.reset else len(method.delta)
    torch.testing.assert_close(method.delta[:rows], delta[:rows], rtol=0, atol=1e-11)
    for (name, a), b in zip(model.state_dict().items(), first.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize("threat", [LINF, L2])
def test_freeat_stays_in_ball_and_box_and_carries_over(threat):
    method, model, (x, y) = make("FreeAT", threat, m=3), classifier(0), toy(12)
    training = Training(method, model, RECIPE)
    training.epoch(epoch_of(x, y), 0)
    carried = method.delta.clone()
    assert size(carried, threat).max() <= threat.eps * (1 + 1e-6) and size(carried, threat).min() > 0
    assert (x[6:] + carried).min() >= -1e-7 and (x[6:] + carried).max() <= 1 + 1e-7
    training.epoch([(x[:4], y[:4], y[:4])], 1)
    assert torch.equal(method.delta[4:], carried[4:]) and not torch.equal(method.delta[:4], carried[:4])


def test_freeat_goes_on_from_its_state():
    def train(restart):
        method, model, (x, y) = make("FreeAT", LINF, m=2), classifier(0), toy(12)
        training = Training(method, model, RECIPE)
        for epoch in range(2):
            training.epoch(epoch_of(x, y), epoch)
            if restart:
                saved = {name: tensor.clone() for name, tensor in method.state().items()}
                momentum = training.optimizer.state_dict()
                method = make("FreeAT", LINF, m=2)
                assert method.state() == {}
                method.restore(saved)
                training = Training(method, model, RECIPE)
                training.optimizer.load_state_dict(momentum)
        return state(model) | method.state()

    assert same(train(False), train(True))


@pytest.mark.parametrize("threat", [LINF, L2])
def test_freeat_gets_over_a_gradient_that_overflowed(threat):
    method, model, (x, y) = make("FreeAT", threat), classifier(0), toy(4)
    (method.loss(model, x, y, late(4)) * math.inf).backward()
    with torch.no_grad():
        method.after(model)
    assert torch.isfinite(method.delta).all() and size(method.delta, threat).max() <= threat.eps * (1 + 1e-6)


@pytest.mark.parametrize(
    ("norm", "eps", "sat", "fast", "fgsm"),
    [
        ("linf", "8/255", 2 / 255, 2 / 255, 10 / 255),
        ("l2", 1.0, 0.2, 0.25, 1.25),
        ("l2", 3.0, 0.6, 0.75, 3.75),
    ],
)
def test_step_sizes_are_the_papers(monkeypatch, norm, eps, sat, fast, fgsm):
    for name, expected in (("sat", sat), ("pgd7fast", fast), ("fgsmrs", fgsm)):
        found = []
        monkeypatch.setattr(
            f"crt.methods.{name}.pgd",
            lambda m, x, y, now, threat, alpha, *_, found=found, **__: found.append(alpha) or x,
        )
        kind = {"sat": "SAT", "pgd7fast": "PGD7Fast", "fgsmrs": "FGSMRS"}[name]
        x, y = toy(3)
        make(kind, Threat(norm=norm, eps=eps)).loss(classifier(0), x, y, late(3))
        assert found == [pytest.approx(expected, rel=1e-12)]


@pytest.mark.parametrize("name", ["MART", "TRADES"])
@pytest.mark.parametrize(("norm", "eps", "expected"), [("linf", 0.031, 0.007), ("l2", 0.5, 0.25)])
def test_default_step_sizes_are_those_of_trades(name, norm, eps, expected):
    """Steps of length alpha by default end where those of the paper's length end."""
    found, (x, y) = [], problem(6)
    for alpha in (None, expected):
        torch.manual_seed(0)
        method = make(name, Threat(norm=norm, eps=eps), K=4, alpha=alpha)
        found.append(float(method.loss(classifier(0).double().train(), x, y, late(6)).detach()))
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def seen_by(method, x, y):
    """The images of each pass."""
    model, seen = classifier(0).train(), []
    model.normalize.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    torch.manual_seed(0)
    method.loss(model, x, y, late(len(x)))
    return seen


@pytest.mark.parametrize("threat", [LINF, L2])
def test_nfgsm_leaves_the_ball_and_not_the_box(threat):
    x, y = toy(12)
    noisy, adversarial = seen_by(make("NFGSM", threat), x, y)
    assert threat.eps < size(noisy - x, threat).max() <= 2 * threat.eps * (1 + 1e-6)
    assert 2 * threat.eps < size(adversarial - x, threat).max() <= 3 * threat.eps * (1 + 1e-6)
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    # Without noise it is FGSM.
    plain, adversarial = seen_by(make("NFGSM", threat, k=0), x, y)
    torch.testing.assert_close(plain, x)
    assert size(adversarial - x, threat).max() <= threat.eps * (1 + 1e-6)


@pytest.mark.parametrize("threat", [LINF, L2])
@pytest.mark.parametrize("name", ["TRADES", "MART", "GradAlign"])
def test_what_is_trained_on_stays_in_ball_and_box(threat, name):
    x, y = toy(12)
    *_, one, two = seen_by(make(name, threat), x, y)
    for images in (one, two):
        assert size(images - x, threat).max() <= threat.eps * (1 + 1e-6)
        assert images.min() >= 0 and images.max() <= 1
    assert max(size(images - x, threat).max() for images in (one, two)) > 0.9 * threat.eps


def test_trades_without_its_divergence_is_standard_training():
    model, (x, y) = classifier(0).double().train(), problem(12)
    loss = make("TRADES", LINF, beta=0).loss(copy.deepcopy(model), x, y, late(12))
    assert float(loss.detach()) == pytest.approx(float(cross_entropy(model(x), y).detach()), rel=1e-12)


def test_the_attack_of_trades_raises_what_it_weighs():
    x, y = problem(12)
    gaps = []
    for K in (1, 10):
        torch.manual_seed(0)
        one, two = (make("TRADES", LINF, K=K, beta=beta) for beta in (1.0, 0.0))
        losses = [float(each.loss(classifier(0).double().train(), x, y, late(12)).detach()) for each in (one, two)]
        gaps.append(losses[0] - losses[1])
    assert 0 < gaps[0] < gaps[1]


def test_mart_is_finite_where_a_rival_is_certain():
    logits = torch.tensor([[0.0, 200.0, -200.0], [3.0, 3.0, 0.0]], requires_grad=True)
    found = _boosted(logits, torch.tensor([0, 0]))
    # -log p_y is 200 and -log(1 - p) is 200, too, by the logits' differences; the second image's rival is equal to it.
    p = torch.tensor([3.0, 3.0, 0.0], dtype=torch.float64).softmax(0)
    assert found.tolist() == pytest.approx([400.0, float(-p[0].log() - (1 - p[1]).log())], rel=1e-5)
    found.sum().backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().max() <= 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SAT", {"K": 7, "alpha": None, "best_of": True, "replays": 1, "awp": None}),
        ("TRADES", {"K": 10, "alpha": None, "beta": 6.0, "awp": None}),
        ("MART", {"K": 10, "alpha": None, "beta": 5.0}),
        ("NFGSM", {"k": 2.0, "alpha": None}),
        ("GradAlign", {"lbd": 0.2}),
        ("PGD7Fast", {"K": 7, "alpha": None}),
        ("FGSMRS", {"alpha": None, "init": "random"}),
        ("FreeAT", {"m": 8, "reset": False, "replays": 8, "chunks": 1}),
        ("RRM", {"lbd": 5e-3, "distance": "cosine", "replays": 1}),
        ("KD", {"alpha": 1.0, "t": 30.0, "form": "textbook"}),
        ("RDT", {"steps": 1000, "step": 0.1}),
    ],
)
def test_defaults_are_the_papers(name, expected):
    method = make(name)
    assert {key: getattr(method, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("SAT", {"K": 0}),
        ("SAT", {"alpha": 0}),
        ("SAT", {"awp": 0}),
        ("TRADES", {"beta": -1}),
        ("TRADES", {"ranks": 2}),
        ("MART", {"awp": 0.005}),
        ("NFGSM", {"k": -1}),
        ("GradAlign", {"lbd": -1}),
        ("PGD7Fast", {"best_of": True}),
        ("FGSMRS", {"init": "last"}),
        ("FGSMRS", {"delta": None}),
        ("FreeAT", {"m": 0}),
        ("FreeAT", {"replays": 2}),
        ("RRM", {"distance": "dot"}),
        ("RRM", {"replays": 0}),
        ("RRM", {"target": None}),
        ("KD", {"t": 0}),
        ("KD", {"alpha": 1.5}),
        ("KD", {"form": "code"}),
        ("RDT", {"steps": 0}),
    ],
)
def test_wrong_arguments_are_refused(name, wrong):
    with pytest.raises((ValueError, TypeError)):
        make(name, **wrong)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "name", ["SAT", "TRADES", "MART", "PGD7Fast", "NFGSM", "GradAlign", "FGSMRS", "FreeAT", "RRM", "KD", "RDT"]
)
def test_losses_are_float32_under_autocast(name, low):
    method, model, (x, y) = make(name, LINF), classifier(0).train(), toy(12)
    torch.manual_seed(0)
    exact = method.loss(copy.deepcopy(model), x, y, late(12))
    torch.manual_seed(0)
    with torch.autocast("cpu", low):
        loss = method.loss(model, x, y, late(12))
    assert loss.dtype == torch.float32 and float(loss.detach()) == pytest.approx(float(exact.detach()), rel=0.05)
    found = gradient(loss, model)
    assert torch.isfinite(found).all() and found.abs().sum() > 0


def test_replays_are_steps_of_their_own():
    seen = []

    class Watched(FreeAT):
        def loss(self, model, x, y, step: Step):
            seen.append(step.replay)
            return super().loss(model, x, y, step)

    method, model, (x, y) = Watched(threat=LINF, m=3), classifier(0), toy(12)
    Training(method, model, RECIPE).epoch(epoch_of(x, y), 0)
    assert seen == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("{SAT: {alpha: 2/255}}", "SAT(alpha=0.00784314)"),
        ("{FGSMRS: {init: previous}}", "FGSMRS(init=previous)"),
        ("FreeAT", "FreeAT(reset=False)"),
        ("{FreeAT: {m: 4, reset: true}}", "FreeAT(m=4, reset=True)"),
    ],
)
def test_in_a_manifest(tiny, method, label):
    assert tiny(method=method, threat="{norm: linf, eps: 8/255}").cells[0].method.label == label


@pytest.mark.parametrize("method", ["SAT", "TRADES", "MART", "PGD7Fast", "NFGSM", "GradAlign", "FGSMRS", "FreeAT"])
def test_a_radius_of_zero_is_refused(tiny, method):
    with pytest.raises(ValueError, match=f"eps: 0, and {method} attacks within it"):
        tiny(method=method)
