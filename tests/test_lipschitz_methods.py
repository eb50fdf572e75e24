"""Losses and gradients of LMT, BCP, GloRo and EMMA against dense operators in float64; what they keep and compute."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from test_methods import INTERVALS, classifier, make, toy
from test_methods import chain as student
from test_passes import cell
from test_smoothing_methods import cross_entropy, gradient, kl, softmax
from torch import nn

from bench.build.cost import forward_flops
from bench.build.counter import Counter
from crt.archs.convnet import cnn6c2f
from crt.methods import emma
from crt.methods.bcp import BCP
from crt.methods.emma import EMMA
from crt.methods.gloro import GloRo
from crt.methods.lmt import LMT
from crt.models.classifier import Classifier
from crt.plugins import find
from crt.threat import Threat
from crt.training.loop import Training
from crt.training.method import Step
from crt.training.recipe import Recipe

METHODS = ("BCP", "EMMA", "GloRo", "LMT")
THREAT = Threat(eps=0.1)
SHORT = {"warmup": 2, "ramp": 4}
MANY = {"power_iterations": 3000}


def two_layers() -> Classifier:
    """A convolution and a hidden layer, for images (3, 4, 4)."""
    torch.manual_seed(1)
    body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6), nn.ReLU())
    return Classifier(body, 6, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)).double()


def problem():
    torch.manual_seed(2)
    return torch.rand(6, 3, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])


def matrices(model):
    """The two layers as matrices, differentiable in their weights, with the length of each output's kernel."""
    conv, hidden = model.body[0], model.body[3]
    matrix = torch.zeros(64, 48, dtype=torch.float64)
    for out in range(4):
        for i in range(4):
            for j in range(4):
                for c in range(3):
                    for a in range(max(0, i - 1), min(4, i + 2)):
                        for b in range(max(0, j - 1), min(4, j + 2)):
                            at = torch.zeros_like(matrix)
                            at[16 * out + 4 * i + j, 16 * c + 4 * a + b] = 1
                            matrix = matrix + at * conv.weight[out, c, a - i + 1, b - j + 1]
    rows = [conv.weight.square().sum((1, 2, 3)).sqrt().repeat_interleave(16), hidden.weight.square().sum(1).sqrt()]
    biases = [conv.bias.repeat_interleave(16), hidden.bias]
    return list(zip((matrix, hidden.weight), biases, rows, strict=True))


def propagated(model, x, eps):
    """Centre, radius and box of the features by matrices: the box of the box, and that of the ball, intersected."""
    std = model.normalize.std.flatten().repeat_interleave(16)
    scaled = lambda z: (z.flatten(1) - model.normalize.mean.flatten().repeat_interleave(16)) / std  # noqa: E731
    mu, low, high, rho = scaled(x), scaled(x - eps), scaled(x + eps), eps / float(std.min())
    for matrix, bias, row in matrices(model):
        up, down = matrix.clamp(min=0), matrix.clamp(max=0)
        low, high = low @ up.T + high @ down.T + bias, high @ up.T + low @ down.T + bias
        mu = mu @ matrix.T + bias
        low, high = torch.max(low, mu - rho * row), torch.min(high, mu + rho * row)
        rho = rho * torch.linalg.matrix_norm(matrix, 2)
        mu, low, high = mu.relu(), low.relu(), high.relu()
    return mu, rho, low, high


def translation(c, mu, rho, low, high):
    """One round for one pair: what is beyond the box goes to its ends, the rest is stretched to the ball again."""
    d = rho * c / c.norm()
    ends = torch.where(c > 0, high - mu, low - mu)
    beyond = d.abs() >= ends.abs()
    room = (rho**2 - (ends[beyond] ** 2).sum()).sqrt()
    return (c[beyond] * ends[beyond]).sum() + (c[~beyond] * d[~beyond]).sum() * room / d[~beyond].norm()


def worst_logits(model, x, y, eps, boxed):
    mu, rho, low, high = propagated(model, x, eps)
    w, z, held = model.head.weight, mu @ model.head.weight.T + model.head.bias, False
    found = []
    for b, label in enumerate(y):
        row = []
        for i in range(3):
            c = w[i] - w[label]
            t = c.norm() * rho
            if boxed and i != label:
                t, whole = translation(c, mu[b], rho, low[b], high[b]), t
                held |= float(t.detach()) < 0.95 * float(whole.detach())
            row.append(z[b, i] + (t if i != label else 0.0))
        found.append(torch.stack(row))
    assert held or not boxed, "the box must matter"
    return z, torch.stack(found), rho


def agree(method, epoch, restated):
    model, (x, y) = two_layers(), problem()
    twin = copy.deepcopy(model)
    loss, expected = method.loss(model, x, y, Step(epoch, y)), restated(twin, x, y)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    torch.testing.assert_close(gradient(loss, model), gradient(expected, twin), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("epoch", "share"), [(1.9, None), (3.0, 0.25), (6.0, 1.0), (50.0, 1.0)])
@pytest.mark.parametrize("kind", [LMT, BCP])
def test_lmt_and_bcp_equal_their_restatements(kind, epoch, share):
    method = kind(threat=THREAT, kappa_final=0.1, **SHORT, **MANY)

    def restated(model, x, y):
        if share is None:
            return cross_entropy(model(x), y)
        z, worst, _ = worst_logits(model, x, y, share * THREAT.eps, kind is BCP)
        kappa = 1 - 0.9 * share
        return kappa * cross_entropy(z, y) + (1 - kappa) * cross_entropy(worst, y)

    agree(method, epoch, restated)


def test_lmt_original_equals_its_restatement():
    shares = []

    def restated(model, x, y):
        z, worst, _ = worst_logits(model, x, y, 0.6 * eps, False)
        rows = []
        for b, label in enumerate(y):
            others = [i for i in range(3) if i != label]
            ratios = [float((z[b, label] - z[b, i]).detach() / (worst[b, i] - z[b, i]).detach()) for i in others]
            shares.append(min(1.0, max(0.0, min(ratios))))
            rows.append(z[b] + shares[-1] * (worst[b] - z[b]))
        return cross_entropy(torch.stack(rows), y)

    for eps in (0.1, 0.5):
        agree(LMT(threat=Threat(eps=eps), margin="original", warmup=0, ramp=5, **MANY), 3.0, restated)
    assert 0.0 in shares and 1.0 in shares and any(0 < share < 1 for share in shares), shares


@pytest.mark.parametrize("arguments", [{}, {"objective": "trades", "lbd": 1.5}])
@pytest.mark.parametrize(("epoch", "share"), [(1.0, None), (2.0, 0.0), (4.0, 0.5), (9.0, 1.0)])
def test_gloro_equals_its_restatement(arguments, epoch, share):
    method = GloRo(threat=THREAT, widening=1.2, **SHORT, **MANY, **arguments)

    def restated(model, x, y):
        if share is None:
            return cross_entropy(model(x), y)
        eps = 1.2 * THREAT.eps * math.log(math.exp(0.01) + (math.e - math.exp(0.01)) * share)
        found = model(x).argmax(1)
        z, worst, _ = worst_logits(model, x, found, eps, False)
        rows = []
        for b, top in enumerate(found):
            rows.append(torch.cat([z[b], max(worst[b, i] for i in range(3) if i != top)[None]]))
        if not arguments:
            return cross_entropy(rows, y)
        # The class that is not robust has no part in the clean distribution.
        apart = sum(kl(softmax(z[b]), softmax(row)) for b, row in enumerate(rows)) / len(y)
        return cross_entropy(z, y) + 1.5 * apart

    agree(method, epoch, restated)


@pytest.mark.parametrize(("epoch", "share"), [(1.0, None), (2.0, 0.0), (4.0, 0.5), (9.0, 1.0)])
def test_emma_equals_its_restatement(epoch, share):
    method, radii = EMMA(threat=THREAT, widening=2.0, **SHORT, **MANY), []

    def restated(model, x, y):
        if share is None:
            return cross_entropy(model(x), y)
        eps = THREAT.eps * (0.1 + 1.9 * share)
        z, worst, _ = worst_logits(model, x, y, 1.0, False)
        rows = []
        for b, label in enumerate(y):
            slopes = worst[b] - z[b]
            reach = [float(((z[b, label] - z[b, i]) / slopes[i]).detach()) if i != label else 0.0 for i in range(3)]
            radii.extend(min(max(r, eps / 100), eps) / eps for i, r in enumerate(reach) if i != label)
            rows.append(torch.stack([z[b, i] + min(max(r, eps / 100), eps) * slopes[i] for i, r in enumerate(reach)]))
        return cross_entropy(rows, y)

    agree(method, epoch, restated)
    assert not radii or {min(radii), max(radii)} == {0.01, 1.0}


def test_emma_leaves_a_class_that_reaches_no_further_than_the_images_own():
    logits = torch.tensor([[2.0, 1.0, 1.9, 2.5]])
    gains = torch.tensor([[0.0, 0.5, 0.5, 0.5]])
    raised = logits + emma._share(logits, gains, torch.tensor([0])) * gains
    # The second class gains all it can, the third as much as makes it equal, and the fourth, which has won, the least.
    torch.testing.assert_close(raised, torch.tensor([[2.0, 1.5, 2.0, 2.505]]))


def test_defaults_are_the_papers():
    bcp, lmt, gloro, margin = (kind(threat=THREAT) for kind in (BCP, LMT, GloRo, EMMA))
    assert (margin.warmup, margin.ramp, margin.widening, margin.power_iterations) == (0, 400, 3, 10)
    assert [margin.radius(epoch) for epoch in (0, 200, 400)] == pytest.approx([0.01, 0.155, 0.3])
    for method in (bcp, lmt):
        values = (method.warmup, method.ramp, method.kappa_final, method.power_iterations)
        assert values == (10, 121, 0, 1) and method.steady_from_epoch == 131
    values = (gloro.warmup, gloro.ramp, gloro.widening, gloro.power_iterations, gloro.lbd)
    assert values == (20, 400, 1.1, 5, 1.2) and gloro.steady_from_epoch == 420
    assert [gloro.radius(epoch) for epoch in (20, 420)] == pytest.approx([0.001 * 1.1, 0.1 * 1.1])
    assert (lmt.margin, gloro.objective) == ("full", "ce")
    assert all(set(kind.epochs_of) == {"warmup", "ramp"} for kind in (BCP, LMT, GloRo, EMMA))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "wrong",
    [
        {"threat": Threat()},
        {"threat": Threat(norm="linf", eps=0.1)},
        {"warmup": -1},
        {"ramp": 0},
        {"power_iterations": 0},
        {"vectors": {}},
    ],
)
def test_wrong_arguments_are_refused(name, wrong):
    with pytest.raises((ValidationError, TypeError)):
        find("crt.methods", name)(**({"threat": THREAT} | wrong))


@pytest.mark.parametrize("name", METHODS)
def test_a_network_that_is_no_chain_is_refused(name):
    make(name).fits(student(0))
    with pytest.raises(ValueError, match=r"^body\.1: BatchNorm2d.*allowed"):
        make(name).fits(classifier(0))


def trained(name, epochs, state=None):
    """The network after epochs on a toy problem in a float32 loop, and the method."""
    method, (x, y) = make(name, warmup=0, ramp=2), toy(12)
    model = student(0)
    if state:
        model.load_state_dict(state["model"])
        method.restore(state["method"])
    training = Training(method, model, Recipe(epochs=4, batch_size=12, lr=0.05, momentum=0))
    for epoch in epochs:
        training.epoch([(x, y, y)] * 3, epoch)
    return model, method


@pytest.mark.parametrize("name", METHODS)
def test_training_goes_on_from_its_state(name):
    whole, _ = trained(name, range(4))
    half, method = trained(name, range(2))
    state = method.state()
    assert set(state) == {"body.0", "body.2", "body.5"} and state["body.2"].shape == (1, 8, 8, 8)
    on, _ = trained(name, range(2, 4), state={"model": half.state_dict(), "method": state})
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), on.parameters(), strict=True))
    forgotten, _ = trained(name, range(2, 4), state={"model": half.state_dict(), "method": {}})
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), forgotten.parameters(), strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_warmup_is_cross_entropy_and_needs_no_norm(name):
    method, model, (x, y) = make(name, **({"warmup": 10} if name == "EMMA" else {})), student(0).double(), toy(12)
    x = x.double()
    loss = method.loss(model, x, y, Step(9.99, y))
    torch.testing.assert_close(loss, nn.functional.cross_entropy(model(x), y), rtol=1e-12, atol=0)
    assert method.state() == {}
    first = method.loss(model, x, y, Step(float(method.warmup), y))
    # GloRo has a class more from then on, and EMMA a tenth of its radius.
    assert float(first.detach()) == pytest.approx(float(loss.detach()), rel=1e-12) or name in {"GloRo", "EMMA"}
    assert set(method.state()) == {"body.0", "body.2", "body.5"}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("BCP", {"kappa_final": 0.3}),
        ("CROWNIBP", {}),
        ("CROWNIBP", {"beta_final": 0.0}),
        ("CROWNIBP", {"beta_final": 0.6, "kappa_final": 0.3}),
        ("Duet", {"rotation": "block"}),
        ("Duet", {"rotation": "rank_one"}),
        ("Duet", {"start": "teacher"}),
        ("EMMA", {}),
        ("ExpIBP", {"K": 2}),
        ("GloRo", {}),
        ("IBP", {}),
        ("LMT", {}),
        ("LocalBCP", {"stored": 12}),
        ("SABR", {"K": 2, "threat": Threat(norm="linf", eps=0.1)}),
    ],
    ids=str,
)
def test_a_clock_tells_amounts_and_what_is_remembered_stays_in_its_place(name, arguments):
    (x, y), index, found = toy(12), torch.arange(12), []
    for clocked in (False, True):
        method, model, losses, places = make(name, **SHORT, **arguments), student(0).double(), [], set()
        if method.teacher:
            method.teacher.double()
        for epoch in (1.0, 2.0, 3.5, 4.7, 6.0, 50.0):
            step = Step(epoch, index)
            if clocked:
                # A step that is repeated has the epoch of the one that was recorded, since the last turn.
                then = max((turn for turn in method.phase_boundaries if turn <= epoch), default=0.0)
                step = Step(then, index, clock=torch.tensor(epoch))
            torch.manual_seed(0)
            loss = method.loss(model, x.double(), y, step)
            loss.backward()
            losses.append(loss.detach())
            if epoch > 2:
                places.add(tuple(value.data_ptr() for value in method.state().values()))
        assert len(places) == 1 and (places != {()} or name in INTERVALS)
        found.append(losses)
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-6)
    assert len(set(map(float, found[1]))) > 3


def test_what_was_saved_is_not_written_in():
    for name in ("BCP", "LocalBCP", "Duet"):
        arguments = {"rotation": "rank_one"} if name == "Duet" else {}
        first, other, model, (x, y) = make(name, **arguments), make(name, **arguments), student(0), toy(12)
        first.loss(model, x, y, Step(500.0, y))
        saved = first.state()
        before = {key: value.clone() for key, value in saved.items()}
        other.restore(saved)
        other.loss(model, x, y, Step(500.0, y))
        assert before.keys() == other.state().keys() and all(torch.equal(saved[key], before[key]) for key in before)
        assert any(not torch.equal(other.state()[key], before[key]) for key in before)


@pytest.mark.parametrize("name", METHODS)
def test_bounds_do_not_hang_on_the_precision_of_training(name):
    method, model, (x, y) = make(name), student(0), toy(12)
    method.loss(model, x, y, Step(500.0, y))
    plain, method = method.state(), make(name)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(model, x, y, Step(500.0, y))
    assert loss.dtype == torch.float32
    assert all(torch.equal(plain[key], value) for key, value in method.state().items())


@pytest.mark.parametrize("name", METHODS)
def test_operations_of_a_step(name):
    # A clean pass and its backward; or three streams. One more image for the last product of the norms, forward and
    # back, and for each iteration two, which have no gradient.
    images = 64
    with torch.device("meta"):
        model, method = Classifier(*cnn6c2f(), 10, (0,) * 3, (1,) * 3), make(name)
        x, y = torch.empty(images, 3, 32, 32), torch.zeros(images, dtype=torch.long)
    with Counter() as counter:
        method.loss(model, x, y, Step(500.0, y)).backward()
    forward = forward_flops(cell("Standard", "cnn6c2f"))
    streams = 3 if name == "BCP" else 1
    expected = 3 * streams * images + 2 * method.power_iterations + 2
    assert counter.flops / forward == pytest.approx(expected, rel=0.03)
