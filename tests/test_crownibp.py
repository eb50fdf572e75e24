"""CROWN-IBP's bounds against closed forms, brute force, dense matrices in float64 and thousands of attacks."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from test_lipschitz import EPS, THREAT, attacks, dense, network
from test_lipschitz_methods import matrices, problem, two_layers
from test_methods import chain as student
from test_methods import classifier, make, toy
from test_passes import cell
from test_smoothing_methods import cross_entropy, gradient
from torch import nn

from bench.build.cost import forward_flops
from bench.build.counter import Counter
from crt.archs.convnet import cnn6c2f
from crt.evals.crown import CROWN
from crt.lipschitz.chain import chain
from crt.lipschitz.crown import margins
from crt.lipschitz.intervals import ball, boxes
from crt.methods.crownibp import CROWNIBP
from crt.models.classifier import Classifier
from crt.threat import Threat
from crt.training.method import Step


def linear_network() -> Classifier:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Flatten(), nn.Linear(48, 8))
    return Classifier(body, 8, 4, (0.1,), (0.5,)).double()


def test_bounds_of_a_linear_network_are_exact():
    model = linear_network()
    torch.manual_seed(1)
    x, y = torch.rand(6, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    found = margins(model, chain(model, (1, 4, 4)), ball(x, 0.3, "l2"), y)
    jacobian = torch.autograd.functional.jacobian(lambda z: model(z[None])[0], x[0]).flatten(1)
    z = model(x)
    for b, label in enumerate(y.tolist()):
        for k, other in enumerate([(label + i) % 4 for i in (1, 2, 3)]):
            exact = z[b, label] - z[b, other] - 0.3 * (jacobian[label] - jacobian[other]).norm()
            assert float(found[b, k].detach()) == pytest.approx(float(exact.detach()), abs=1e-12)
    # And the radius of the verdicts' turning point is that of the closed form.
    top = z.argmax(1)
    pairs = [[i for i in range(4) if i != top[b]] for b in range(6)]
    r = [
        min(float((z[b, top[b]] - z[b, i]).detach() / (jacobian[top[b]] - jacobian[i]).norm()) for i in row)
        for b, row in enumerate(pairs)
    ]
    questions = [(image, 0, (0, 0)) for image in x]
    for eps in r:
        verdicts = CROWN(threat=Threat(eps=eps * (1 + 1e-9))).judge_many(model, questions)
        assert [v.radius > 0 for v in verdicts] == [a > eps * (1 + 1e-9) for a in r]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("eps", [0.05, 0.3, 1.0])
def test_bounds_hold_on_a_grid_of_two_pixels(seed, eps):
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Flatten(), nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU())
    model = Classifier(body, 5, 3, (0.0,), (1.0,)).double().requires_grad_(False)
    x, y = torch.rand(1, 1, 1, 2, dtype=torch.float64), torch.tensor([1])
    layers = chain(model, (1, 1, 2))
    steps = torch.linspace(-1, 1, 201, dtype=torch.float64)
    grid = eps * torch.cartesian_prod(steps, steps)
    grid = grid[grid.norm(dim=1) <= eps].view(-1, 1, 1, 2)
    z = model(x + grid)
    least = torch.stack([(z[:, 1] - z[:, i]).min() for i in (2, 0)])
    backward, forward = (margins(model, layers, ball(x, eps, "l2"), y, beta)[0] for beta in (1.0, 0.0))
    assert len(grid) > 30000 and (backward <= least + 1e-12).all() and (forward <= least + 1e-12).all()
    torch.testing.assert_close(margins(model, layers, ball(x, eps, "l2"), y, 0.3)[0], 0.3 * backward + 0.7 * forward)
    # Where no neuron changes sides, the network is linear in the ball, and the bound is its least.
    inputs = zip(boxes(model, layers, ball(x, eps, "l2")), layers, strict=True)
    if all((box.ends[0] * box.ends[1] >= 0).all() for box, layer in inputs if isinstance(layer.module, nn.ReLU)):
        torch.testing.assert_close(backward, least, rtol=0, atol=0.02 * eps)
    assert (least - backward < 3 * eps).all()


def test_the_first_interval_is_that_of_the_rows():
    model = network()
    layers = chain(model, (3, 8, 8))
    x = toy(2)[0].double()
    box = boxes(model, layers, ball(x, EPS, "l2"))[1]
    rows = dense(layers[0]) / model.normalize.std.flatten().repeat_interleave(64)
    half = EPS * rows.norm(dim=1).view(8, 8, 8)
    torch.testing.assert_close((box.ends[1] - box.ends[0])[0].detach() / 2, half)
    torch.testing.assert_close((box.ends[1] + box.ends[0]) / 2, model.body[0][0](model.normalize(x)))


def restated(model, x, y, eps, beta):
    """The loss by matrices, image by image and row by row."""
    std = model.normalize.std.flatten().repeat_interleave(16)
    mean = model.normalize.mean.flatten().repeat_interleave(16)
    (first, b1, _), (second, b2, _) = matrices(model)
    w, head, found, crossing = model.head.weight, model.head.bias, [], 0
    for image, label in zip(x.flatten(1), y, strict=True):
        c1 = first @ ((image - mean) / std) + b1
        h1 = eps * (first / std).norm(dim=1)
        l1, u1 = c1 - h1, c1 + h1
        c2 = second @ ((l1.relu() + u1.relu()) / 2) + b2
        h2 = second.abs() @ ((u1.relu() - l1.relu()) / 2)
        l2, u2 = c2 - h2, c2 + h2
        row = []
        for i in range(3):
            if i == label:
                row.append(torch.zeros((), dtype=x.dtype))
                continue
            a, const = w[label] - w[i], head[label] - head[i]
            interval = a @ (l2.relu() + u2.relu()) / 2 - a.abs() @ (u2.relu() - l2.relu()) / 2 + const
            for matrix, bias, low, high in ((second, b2, l2, u2), (first, b1, l1, u1)):
                slopes = []
                for k in range(len(a)):
                    if high[k] <= 0:
                        slopes.append(torch.zeros((), dtype=x.dtype))
                    elif low[k] >= 0:
                        slopes.append(a[k])
                    elif a[k] >= 0:
                        slopes.append(a[k] if high[k] > -low[k] else 0 * a[k])
                    else:
                        line = high[k] / (high[k] - low[k])
                        slopes.append(a[k] * line)
                        const = const - a[k] * line * low[k]
                    crossing += bool(low[k] < 0 < high[k])
                a = torch.stack(slopes)
                const, a = const + a @ bias, a @ matrix
            linear = a @ ((image - mean) / std) + const - eps * (a / std).norm()
            row.append(-(beta * linear + (1 - beta) * interval))
        found.append(torch.stack(row))
    assert crossing > 50
    return cross_entropy(torch.stack(found), y)


@pytest.mark.parametrize("arguments", [{}, {"beta_final": 0.0}, {"beta_final": 0.5, "kappa_final": 0.2}])
@pytest.mark.parametrize(("epoch", "share"), [(1.0, None), (2.0, 0.0), (4.0, 0.5), (9.0, 1.0)])
def test_the_loss_equals_its_restatement(arguments, epoch, share):
    eps = 0.15
    method = CROWNIBP(threat=Threat(eps=eps), warmup=2, ramp=4, **arguments)
    model, (x, y) = two_layers(), problem()
    twin = copy.deepcopy(model)
    loss, expected = method.loss(model, x, y, Step(epoch, y)), cross_entropy(twin(x), y)
    if share:
        robust = restated(twin, x, y, share * eps, 1 - (1 - arguments.get("beta_final", 1.0)) * share)
        kappa = 1 - 0.8 * share if "kappa_final" in arguments else 0
        expected = kappa * expected + (1 - kappa) * robust
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    torch.testing.assert_close(gradient(loss, model), gradient(expected, twin), rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def trained():
    model, (x, y) = network(), toy(24)
    method, x = CROWNIBP(threat=THREAT, warmup=0, ramp=1), x.double()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for i in range(150):
        optimizer.zero_grad()
        method.loss(model, x, y, Step(min(i / 100, 1), y)).backward()
        optimizer.step()
    return model.requires_grad_(False), x, y


def test_no_attack_is_below_a_bound_or_breaks_a_verdict(trained):
    model, x, y = trained
    layers = chain(model, (3, 8, 8))
    bounds = torch.maximum(*(margins(model, layers, ball(x, EPS, "l2"), y, beta) for beta in (1.0, 0.0)))
    intervals = boxes(model, layers, ball(x, EPS, "l2"))
    questions = [(image, int(label), (0, 0)) for image, label in zip(x, y, strict=True)]
    found = list(CROWN(threat=THREAT).judge_many(model, questions))
    sure, classes = torch.tensor([v.radius == EPS for v in found]), torch.tensor([v.prediction for v in found])
    assert sure.sum() > len(x) / 4 and {v.radius for v in found} <= {0.0, EPS}
    others, tried, nearest = (y[:, None] + torch.tensor([1, 2])) % 3, 0, 0.0
    clean = model(x).gather(1, y[:, None]) - model(x).gather(1, others)
    for d in attacks(model, x, y):
        now = model.normalize(x + d)
        for layer, box in zip(layers, intervals, strict=True):
            assert (now >= box.ends[0] - 1e-9).all() and (now <= box.ends[1] + 1e-9).all(), layer.name
            now = layer.module(now)
        least = now.gather(1, y[:, None]) - now.gather(1, others)
        assert (least >= bounds - 1e-9).all() and (now.argmax(1) == classes)[sure].all()
        nearest, tried = max(nearest, float(((clean - least) / (clean - bounds)).detach().max())), tried + len(x)
    assert tried > 5000 and nearest > 0.3, "attacks must come near the bound"


def test_verdicts_hang_on_no_batch_and_networks_without_numbers_abstain(monkeypatch):
    model, (x, _) = network().float(), toy(7)
    questions, judge = [(image, 0, (0, i)) for i, image in enumerate(x)], CROWN(threat=Threat(eps=0.02))
    whole = list(judge.judge_many(model, questions))
    monkeypatch.setattr(CROWN, "batch_size", 2)
    assert list(judge.judge_many(model, iter(questions))) == whole
    assert 0 < sum(v.radius > 0 for v in whole) and all(p.dtype == torch.float32 for p in model.parameters())
    nn.init.constant_(model.head.bias, math.nan)
    assert {(v.prediction, v.radius) for v in judge.judge_many(model, questions)} == {(-1, 0.0)}


@pytest.mark.parametrize("act", [CROWN(threat=THREAT).fits, make("CROWNIBP").fits])
def test_other_layers_are_refused(act):
    act(student(0))
    for activation in ("relutheta", "maxmin"):
        with pytest.raises(ValueError, match=r"^body\.0\.1: (ReLUTheta|MaxMin) has no CROWN bound \(allowed: ReLU\)"):
            act(network(activation))
    with pytest.raises(ValueError, match=r"^body\.6: AdaptiveAvgPool2d.*allowed: .*BatchNorm"):
        act(classifier(0))


@pytest.mark.parametrize("kind", [CROWN, CROWNIBP])
@pytest.mark.parametrize("threat", [Threat(), Threat(norm="linf")])
def test_bounds_need_a_ball(kind, threat):
    with pytest.raises(ValidationError, match="allowed: norm: l2 or linf, eps above 0"):
        kind(threat=threat)


def test_defaults():
    method = CROWNIBP(threat=THREAT)
    assert (method.warmup, method.ramp, method.beta_final, method.kappa_final) == (10, 121, 1, None)
    assert method.steady_from_epoch == 131 and method.state() == {}


def test_bounds_are_in_full_precision_under_autocast():
    model, (x, y) = student(0), toy(12)
    plain = make("CROWNIBP").loss(model, x, y, Step(500.0, y))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(make("CROWNIBP").loss(model, x, y, Step(500.0, y)), plain)


def test_operations_of_a_step():
    # Two streams forwards and nine back.
    images = 16
    with torch.device("meta"):
        model = Classifier(*cnn6c2f(), 10, (0,) * 3, (1,) * 3)
        x, y = torch.empty(images, 3, 32, 32), torch.zeros(images, dtype=torch.long)
    with torch.no_grad(), Counter() as counter:
        make("CROWNIBP").loss(model, x, y, Step(500.0, y))
    units = counter.flops / forward_flops(cell("Standard", "cnn6c2f")) / images
    assert units == pytest.approx(2 + 9, rel=0.03)
