"""Intervals and linear bounds in linf against closed forms, corners, folded networks and attacks; methods on them."""

import copy
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from test_crownibp import linear_network
from test_lipschitz import network
from test_methods import make, toy
from test_passes import cell
from test_plain_eager import RECIPE, assert_equal, seeded
from test_smoothing_methods import gradient
from torch import nn
from torch.nn import functional as F

from bench.build.cost import forward_flops
from bench.build.counter import Counter
from bench.build.networks import restatement
from bench.manifest.plugin_spec import spec
from crt.archs.convnet import cnn6c2f, cnn7
from crt.attacks.pgd import pgd, start
from crt.evals.crown import CROWN
from crt.evals.ibp import IBP as IntervalCertificate
from crt.evals.pgd import PGD
from crt.lipschitz.chain import Layer
from crt.lipschitz.crown import margins
from crt.lipschitz.intervals import Box, ball, boxes, worst_losses
from crt.lipschitz.margin_training import small_ball
from crt.lipschitz.regularizers import instability
from crt.lipschitz.statistics import fixed
from crt.methods.ccibp import CCIBP
from crt.methods.crownibp import CROWNIBP
from crt.methods.expibp import ExpIBP
from crt.methods.ibp import IBP
from crt.methods.mtlibp import MTLIBP
from crt.methods.sabr import SABR
from crt.models.activations import MaxMin, ReLUTheta
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import plain
from crt.plugins import find
from crt.threat import Threat
from crt.training.loop import Training
from crt.training.method import Step
from crt.training.recipe import Recipe

EPS = 0.05
CUBE = Threat(norm="linf", eps=EPS)
EXPRESSIVE = (MTLIBP, CCIBP, ExpIBP)
CERTIFICATES = (IntervalCertificate, CROWN)


def questions(x: torch.Tensor, y: torch.Tensor) -> list:
    return [(image, int(label), (0, i)) for i, (image, label) in enumerate(zip(x, y, strict=True))]


def with_norms(seed: int = 0) -> Classifier:
    """A network with BatchNorm behind a convolution and a hidden layer, and statistics as training leaves them."""
    torch.manual_seed(seed)
    convs = [nn.Conv2d(3, 8, 4, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)]
    body = nn.Sequential(*convs, nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())
    model = Classifier(body, 16, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)).double()
    for norm in (body[1], body[7]):
        for values, low, high in ((norm.running_mean, -1, 1), (norm.running_var, 0.3, 2)):
            nn.init.uniform_(values, low, high)
        nn.init.uniform_(norm.weight, -1.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    return model


def tiny(hidden: int = 6) -> Classifier:
    """Six pixels, a hidden layer and three classes."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(6, hidden), nn.ReLU())
    return Classifier(body, hidden, 3, (0.3, 0.5, 0.6), (0.5, 0.8, 1.2)).double().requires_grad_(False)


def corners(x: torch.Tensor, eps: float) -> torch.Tensor:
    """All corners of the box around one image (1, 3, 1, 2) within [0, 1]."""
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=x.numel())), dtype=x.dtype)
    return (x + eps * signs.view(-1, *x.shape[1:])).clamp(0, 1)


def test_bounds_of_a_linear_network_are_exact():
    model = linear_network()
    torch.manual_seed(1)
    x, y, eps = torch.rand(6, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1]), 0.3
    x[0] = x[0].round()  # black and white pixels can move in one direction only
    found = margins(model, fixed(model, x).layers, ball(x, eps, "linf"), y)
    jacobian = torch.autograd.functional.jacobian(lambda z: model(z[None])[0], x[0]).flatten(1)
    low, high = (-x.flatten(1)).clamp_min(-eps), (1 - x.flatten(1)).clamp_max(eps)
    z = model(x)
    for b, label in enumerate(y.tolist()):
        for k, other in enumerate([(label + i) % 4 for i in (1, 2, 3)]):
            slope = jacobian[label] - jacobian[other]
            exact = z[b, label] - z[b, other] + (slope.clamp_min(0) * low[b] + slope.clamp_max(0) * high[b]).sum()
            assert float(found[b, k].detach()) == pytest.approx(float(exact.detach()), abs=1e-12)


def test_intervals_of_one_layer_are_exact():
    torch.manual_seed(2)
    body = nn.Sequential(nn.Flatten())
    model, x = Classifier(body, 6, 3, (0.3, 0.5, 0.6), (0.5, 0.8, 1.2)).double(), torch.rand(1, 3, 1, 2).double()
    y = torch.tensor([2])
    z = model(corners(x, 0.2))
    least = torch.stack([(z[:, 2] - z[:, i]).min() for i in (0, 1)])
    for beta in (0.0, 1.0, 0.4):
        torch.testing.assert_close(margins(model, fixed(model, x).layers, ball(x, 0.2, "linf"), y, beta)[0], least)


@pytest.mark.parametrize("eps", [0.02, 0.2, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_at_the_corners_and_within(seed, eps):
    torch.manual_seed(seed)
    model, x, y = tiny(), torch.rand(1, 3, 1, 2, dtype=torch.float64), torch.tensor([1])
    layers, images = fixed(model, x).layers, ball(x, eps, "linf")
    inside = images.centre + images.half * (2 * torch.rand(20_000, *x.shape[1:], dtype=torch.float64) - 1)
    points = torch.cat([corners(x, eps), inside])
    hidden = model.body[1](model.body[0](model.normalize(points)))
    box = boxes(model, layers, images)[2]
    torch.testing.assert_close(box.ends[0], hidden.amin(0)[None])
    torch.testing.assert_close(box.ends[1], hidden.amax(0)[None])
    z = model(points)
    least = torch.stack([(z[:, 1] - z[:, i]).min() for i in (2, 0)])
    backward, forward = (margins(model, layers, images, y, beta)[0] for beta in (1.0, 0.0))
    assert (backward <= least + 1e-12).all() and (forward <= least + 1e-12).all()
    if (box.ends[0] * box.ends[1] >= 0).all():
        torch.testing.assert_close(backward, least)


def test_a_network_of_two_layers_meets_its_intervals():
    # Each hidden neuron sees pixels of its own, so that all intervals are met at one corner.
    model = tiny(hidden=3)
    nn.init.zeros_(model.body[1].weight)
    for neuron in range(3):
        model.body[1].weight[neuron, 2 * neuron : 2 * neuron + 2] = torch.tensor([1.0, -0.5])
    torch.manual_seed(3)
    x, y = torch.rand(1, 3, 1, 2, dtype=torch.float64), torch.tensor([0])
    z = model(corners(x, 0.3))
    least = torch.stack([(z[:, 0] - z[:, i]).min() for i in (1, 2)])
    torch.testing.assert_close(margins(model, fixed(model, x).layers, ball(x, 0.3, "linf"), y, 0.0)[0], least)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_batchnorm_is_that_of_the_folded_network(norm):
    model = with_norms().eval().requires_grad_(False)
    (x, y), folded = toy(6), plain(model)
    images = ball(x.double(), EPS, norm)
    for beta in (0.0, 1.0):
        found, expected = (margins(m, fixed(m, x.double()).layers, images, y, beta) for m in (model, folded))
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert all(len(fixed(m, x).layers) == n for m, n in ((model, 10), (folded, 8)))


def test_batchnorm_in_training_has_the_statistics_of_the_images_that_pass():
    model, (x, y) = with_norms().train(), toy(12)
    x, before = x.double(), copy.deepcopy(model)
    layers, logits = fixed(model, x)
    torch.testing.assert_close(logits, before(x), rtol=1e-12, atol=1e-12)
    for name, value in before.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)
    # A network whose running statistics are this batch's.
    twin = with_norms().train()
    for norm in (twin.body[1], twin.body[7]):
        norm.momentum = 1.0
    twin(x)
    for norm, n in ((twin.body[1], 12 * 16), (twin.body[7], 12)):
        norm.running_var *= (n - 1) / n
    images = ball(x, EPS, "linf")
    found = margins(model, layers, images, y)
    torch.testing.assert_close(found, margins(twin, fixed(twin.eval(), x).layers, images, y), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["IBP", "CROWNIBP", "MTLIBP", "SABR"])
def test_a_restatement_with_batchnorm_trains_as_its_method_does(name):
    arguments = {"warmup": 0, "ramp": 4} | ({"K": 2} if name in ("MTLIBP", "SABR") else {"kappa_final": 0.4})
    method, model = find("crt.methods", name)(threat=CUBE, **arguments), with_norms().train()
    other = copy.deepcopy(model)
    of = SimpleNamespace(recipe=RECIPE, method=SimpleNamespace(name=name))
    plain_way = restatement(of, method, other, torch.optim.SGD(other.parameters(), RECIPE.lr, 0.9, weight_decay=1e-3))
    training = Training(method, model, RECIPE, ranks=1)
    training.objective.forward, plain_way.loss = seeded(training.objective.forward), seeded(plain_way.loss)
    x, y = toy(24)
    batches = [(x[:12].double(), y[:12], y[:12]), (x[12:].double(), y[12:], y[12:])]
    product, restated = (training.epoch(batches, 3), model), (plain_way.epoch(batches, 3), other)
    assert_equal(product, restated, 1e-8)


@pytest.fixture(scope="module")
def trained():
    model, (x, y) = network(), toy(24)
    method, x = IBP(threat=CUBE, warmup=0, ramp=1, kappa_final=None), x.double()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for i in range(120):
        optimizer.zero_grad()
        method.loss(model, x, y, Step(min(i / 80, 1), y)).backward()
        optimizer.step()
    return model.requires_grad_(False), x, y


def test_no_attack_breaks_a_certified_image(trained):
    model, x, y = trained
    intervals, linear = (
        list(kind(threat=CUBE, eps=2 * EPS).judge_many(model, questions(x, y))) for kind in CERTIFICATES
    )
    attacked = list(PGD(threat=CUBE, eps=2 * EPS, steps=40, restarts=3).judge_many(model, questions(x, y)))
    sure = [v.radius > 0 for v in linear]
    assert 0.1 < sum(sure) / len(sure) and not all(v.radius for v in intervals)
    for loose, tight, under in zip(intervals, linear, attacked, strict=True):
        assert loose.radius <= tight.radius and loose.prediction == tight.prediction
        assert {loose.radius, tight.radius} <= {0.0, 2 * EPS}
        # An attack tries images of the right class alone.
        assert tight.radius <= under.radius or under.skipped
        assert tight.details["loss"] <= tight.details["worst_loss"] <= loose.details["worst_loss"] + 1e-6


def test_no_attack_is_below_a_bound(trained):
    model, x, y = trained
    images, layers = ball(x, EPS, "linf"), fixed(model, x).layers
    bounds = torch.maximum(*(margins(model, layers, images, y, beta) for beta in (1.0, 0.0)))
    inputs, others = boxes(model, layers, images), (y[:, None] + torch.tensor([1, 2])) % 3
    torch.manual_seed(0)
    points = [pgd(model, x, y, start(x, EPS, "linf"), CUBE, EPS / 4, K) for K in range(1, 20)]
    points += [(x + EPS * torch.randn_like(x).sign()).clamp(0, 1) for _ in range(50)]
    for point in points:
        now = model.normalize(point)
        for layer, box in zip(layers, inputs, strict=True):
            assert (now >= box.ends[0] - 1e-9).all() and (now <= box.ends[1] + 1e-9).all(), layer.name
            now = layer.module(now)
        assert (now.gather(1, y[:, None]) - now.gather(1, others) >= bounds - 1e-9).all()


@pytest.mark.parametrize("kind", CERTIFICATES)
def test_verdicts_hang_on_no_batch_and_networks_without_numbers_abstain(kind, monkeypatch):
    model, (x, y) = network().float(), toy(7)
    judge = kind(threat=Threat(norm="linf", eps=0.003))
    whole = list(judge.judge_many(model, questions(x, y)))
    monkeypatch.setattr(kind, "batch_size", 2)
    assert list(judge.judge_many(model, iter(questions(x, y)))) == whole
    assert any(v.radius > 0 for v in whole) and all(p.dtype == torch.float32 for p in model.parameters())
    nn.init.constant_(model.head.bias, math.nan)
    assert {(v.prediction, v.radius) for v in judge.judge_many(model, questions(x, y))} == {(-1, 0.0)}


def test_intervals_hold_for_other_monotone_activations():
    for activation in (ReLUTheta((16,), 0.5), MaxMin((16,), 0.2, -0.2)):
        model, (x, y) = network(), toy(6)
        model.body[-1] = activation.double()
        IntervalCertificate(threat=CUBE).fits(model)
        least = margins(model, fixed(model, x.double()).layers, ball(x.double(), EPS, "linf"), y, 0.0)
        others = (y[:, None] + torch.tensor([1, 2])) % 3
        for _ in range(30):
            z = model((x.double() + EPS * torch.randn_like(x).sign()).clamp(0, 1))
            assert (z.gather(1, y[:, None]) - z.gather(1, others) >= least - 1e-9).all()
        with pytest.raises(ValueError, match="has no CROWN bound"):
            CROWN(threat=CUBE).fits(model)


def losses(kind, alpha: float, **arguments) -> torch.Tensor:
    model, (x, y) = network(), toy(12)
    torch.manual_seed(4)
    method = kind(threat=CUBE, alpha=alpha, K=3, warmup=0, ramp=1, **arguments)
    return method.loss(model, x.double(), y, Step(5.0, y))


@pytest.mark.parametrize("kind", EXPRESSIVE)
def test_an_expressive_loss_lies_between_an_attack_and_intervals(kind):
    model, (x, y) = network(), toy(12)
    intervals = IBP(threat=CUBE, kappa_final=None, warmup=0, ramp=1).loss(model, x.double(), y, Step(5.0, y))
    torch.testing.assert_close(losses(kind, 1.0), intervals)
    attacked = losses(kind, 0.0)
    assert F.cross_entropy(model(x.double()), y) < attacked < intervals
    between = [losses(kind, alpha) for alpha in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert all(a < b for a, b in itertools.pairwise(between))
    # By the inequality of means, and as the cross-entropy is convex.
    assert losses(kind, 0.3) <= losses(MTLIBP, 0.3) + 1e-12


def test_the_formulas_of_expressive_losses():
    attacked, least = (
        torch.tensor([[2.0, 1.0], [-1.0, 0.5]]).double(),
        torch.tensor([[-1.0, 0.0], [-3.0, 0.2]]).double(),
    )

    def cross_entropy(row):
        return math.log1p(sum(math.exp(-value) for value in row))

    pairs = list(zip(attacked.tolist(), least.tolist(), strict=True))
    expected = {
        MTLIBP: [0.7 * cross_entropy(a) + 0.3 * cross_entropy(b) for a, b in pairs],
        CCIBP: [cross_entropy([0.7 * s + 0.3 * t for s, t in zip(a, b, strict=True)]) for a, b in pairs],
        ExpIBP: [cross_entropy(a) ** 0.7 * cross_entropy(b) ** 0.3 for a, b in pairs],
    }
    for kind, values in expected.items():
        assert kind(threat=CUBE, alpha=0.3).between(attacked, least).tolist() == pytest.approx(values, rel=1e-12)


def test_exp_ibp_is_finite_where_a_loss_is_rounded_to_zero():
    attacked, least = torch.tensor([[500.0], [3.0]], requires_grad=True), torch.tensor([[-2.0], [200.0]])
    found = ExpIBP(threat=CUBE).between(attacked, least.requires_grad_())
    found.sum().backward()
    assert found.isfinite().all() and attacked.grad.isfinite().all() and least.grad.isfinite().all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_small_ball_lies_in_the_ball_and_holds_the_image_if_it_can(norm):
    torch.manual_seed(0)
    x = torch.rand(8, 3, 4, 4, dtype=torch.float64)
    adversarial = start(x, EPS, norm)
    small = small_ball(adversarial, x, EPS, 0.3, norm)
    if norm == "linf":
        ends = [small.centre - small.half, small.centre + small.half]
        assert all(((end - x).abs() <= EPS + 1e-12).all() and (0 <= end).all() and (end <= 1).all() for end in ends)
        assert ((adversarial - small.centre).abs() <= small.half + 1e-12).all()
        assert small.half.max() == pytest.approx(0.3 * EPS)
    else:
        assert ((small.centre - x).flatten(1).norm(dim=1) + small.eps <= EPS + 1e-12).all()
    near = small_ball(x, x, EPS, 0.3, norm)
    assert float(near.eps) == pytest.approx(0.3 * EPS) and (norm == "linf" or torch.equal(near.centre, x))


def test_sabr_of_the_whole_ball_is_ibp_and_of_a_point_an_attack():
    model, (x, y) = network(), toy(12)
    found = [SABR(threat=CUBE, lbd=lbd, K=3, warmup=0, ramp=1) for lbd in (1.0, 0.0)]
    whole = found[0].loss(model, x.double(), y, Step(5.0, y))
    intervals = IBP(threat=CUBE, kappa_final=None, warmup=0, ramp=1).loss(model, x.double(), y, Step(5.0, y))
    torch.testing.assert_close(whole, intervals, rtol=1e-9, atol=0)
    torch.manual_seed(4)
    point = found[1].loss(model, x.double(), y, Step(5.0, y))
    torch.testing.assert_close(point, losses(MTLIBP, 0.0), rtol=1e-9, atol=0)


def test_the_l1_norm_is_of_convolutions_and_linear_layers():
    model, (x, y) = with_norms().eval(), toy(6)
    torch.manual_seed(4)
    alone = SABR(threat=CUBE, warmup=2, K=1).loss(model, x.double(), y, Step(0.0, y))
    weighed = SABR(threat=CUBE, warmup=2, K=1, l1=0.5).loss(model, x.double(), y, Step(0.0, y))
    parts = [model.body[0], model.body[3], model.body[6], model.head]
    expected = 0.5 * sum(float(part.weight.abs().sum().detach()) for part in parts)
    assert float((weighed - alone).detach()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", [IBP, *EXPRESSIVE, SABR, CROWNIBP])
def test_a_warm_up_is_cross_entropy_and_a_radius_of_zero_as_well(kind):
    model, (x, y) = network(), toy(12)
    expected = F.cross_entropy(model(x.double()), y)
    slopes = gradient(expected, model)
    method = kind(threat=CUBE, warmup=3, ramp=2)
    for epoch in (0.0, 2.9, 3.0):
        found = method.loss(model, x.double(), y, Step(epoch, y))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
        torch.testing.assert_close(gradient(found, model), slopes, rtol=1e-7, atol=1e-10)


def test_crown_ibp_ends_with_intervals():
    model, (x, y) = network(), toy(12)
    step = Step(9.0, y)
    arguments = {"threat": CUBE, "warmup": 1, "ramp": 2, "kappa_final": 0.5}
    ends = [kind.loss(model, x.double(), y, step) for kind in (CROWNIBP(**arguments, beta_final=0), IBP(**arguments))]
    assert torch.equal(*ends)
    least = margins(model, fixed(model, x.double()).layers, ball(x.double(), EPS, "linf"), y)
    linear = CROWNIBP(**(arguments | {"kappa_final": None})).loss(model, x.double(), y, step)
    torch.testing.assert_close(linear, worst_losses(least).mean())


def test_defaults_are_the_papers():
    assert [kind(threat=CUBE).alpha for kind in EXPRESSIVE] == [4e-3, 1e-2, 9.5e-2]
    for kind in (*EXPRESSIVE, SABR):
        method = kind(threat=CUBE)
        assert (method.warmup, method.ramp, method.K, method.step_size) == (1, 80, 8, 0.25)
        assert (method.widening, method.l1) == (1, 0) and method.steady_from_epoch == 81
    method = IBP(threat=CUBE)
    assert (method.warmup, method.ramp, method.kappa_final) == (1, 80, 0.5)
    assert SABR(threat=CUBE).lbd == 0.1


@pytest.mark.parametrize("name", ["CCIBP", "ExpIBP", "IBP", "MTLIBP", "SABR"])
@pytest.mark.parametrize(
    "wrong", [{"threat": Threat()}, {"warmup": -1}, {"ramp": 0}, {"K": 0}, {"alpha": 2}, {"lbd": -1}]
)
def test_wrong_arguments_are_refused(name, wrong):
    with pytest.raises(ValidationError):
        find("crt.methods", name)(**({"threat": CUBE} | wrong))


def test_a_network_that_is_no_chain_is_refused():
    for name in ("IBP", "SABR"):
        make(name).fits(with_norms())
        pooled = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 3, 3, (0,) * 3, (1,) * 3)
        with pytest.raises(ValueError, match=r"^body\.0: AdaptiveAvgPool2d.*interval bound \(allowed: .*BatchNorm"):
            make(name).fits(pooled)
    with pytest.raises(ValueError, match=r"^body\.1: BatchNorm2d.*no Lipschitz bound"):
        make("BCP").fits(with_norms())


@pytest.mark.parametrize("name", ["IBP", "CROWNIBP", "MTLIBP", "SABR"])
def test_exact_switches_train_the_same_network_with_batchnorm(name):
    results, (x, y) = [], toy(12)
    for on in (False, True):
        arguments = {"warmup": 0, "ramp": 4} | ({"K": 2} if name in ("MTLIBP", "SABR") else {})
        model = with_norms().train()
        recipe = Recipe(epochs=4, batch_size=12, lr=0.05, channels_last=on, fused=on, fold=on)
        training = Training(find("crt.methods", name)(threat=CUBE, **arguments), model, recipe)
        torch.manual_seed(7)
        training.epoch([(x.double(), y, y)] * 2, 2)
        results.append(model.state_dict())
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=1e-8, atol=1e-9)
    assert int(results[0]["body.1.num_batches_tracked"]) == 2


@pytest.mark.parametrize(
    ("name", "arguments", "passes"),
    [
        # A clean pass and two streams of intervals, each with its backward.
        ("IBP", {}, 3 * 3),
        ("IBP", {"kappa_final": None}, 3 * 2),
        # The attack's passes forward and back to the images, one of the adversarial image, and two streams.
        ("MTLIBP", {"K": 2}, 3 + 2 + 3 * 3),
        ("CCIBP", {"K": 1}, 1 + 1 + 3 * 3),
        ("SABR", {"K": 2}, 3 + 2 + 3 * 2),
    ],
)
def test_operations_of_a_step(name, arguments, passes):
    images = 16
    with torch.device("meta"):
        model = Classifier(*cnn6c2f(), 10, (0,) * 3, (1,) * 3)
        x, y = torch.empty(images, 3, 32, 32), torch.zeros(images, dtype=torch.long)
    with Counter() as counter:
        make(name, **arguments).loss(model, x, y, Step(500.0, y)).backward()
    units = counter.flops / forward_flops(cell("Standard", "cnn6c2f")) / images
    assert units == pytest.approx(passes, rel=0.03)


def test_intervals_of_a_new_cnn7_neither_widen_nor_narrow():
    torch.manual_seed(0)
    with torch.no_grad():
        model, x = Classifier(*cnn7(), 10, (0.5,) * 3, (0.25,) * 3), torch.rand(2, 3, 32, 32)
        layers, images = fixed(model, x).layers, ball(x, 0.01, "linf")
        widths = [float((box.ends[1] - box.ends[0]).mean()) for box in boxes(model, layers, images)[::2]]
    # Zeros of the padding narrow them, and pixels of the first layer have no ReLU before them, which halves them.
    assert all(0.4 * widths[0] < width < 2.5 * widths[0] for width in widths)


def test_regularizers_of_known_intervals():
    modules = {"body.0": nn.Flatten(), "body.1": nn.ReLU(), "head": nn.Linear(4, 2)}
    layers = tuple(Layer(name, module, (4,)) for name, module in modules.items())

    def penalty(low, high):
        box = Box(torch.tensor([low, high]).double())
        unit = Box(torch.tensor([[0.0] * 4, [1.0] * 4]).double())
        return float(instability(layers, [unit, box, unit]))

    # Active neurons sum to 3, inactive ones to -2; around the mean 0.25, their squares sum to 7.5625 and 5.0625.
    assert penalty([2.5, -2.5, -0.5, -0.5], [3.5, -1.5, 0.5, 0.5]) == pytest.approx(0, abs=1e-12)
    # Four times as wide as the input: a quarter is missing of the half that is asked, which is half.
    assert penalty([1.0, -5.0, -2.0, -2.0], [5.0, -1.0, 2.0, 2.0]) == pytest.approx(0.5)
    # Active 8, inactive -1: an eighth of the sums, and of the squares about 1.75.
    squares = (-1 - 1.75) ** 2 / (8 - 1.75) ** 2
    expected = (0.5 - 1 / 8) / 0.5 + (0.5 - squares) / 0.5
    assert penalty([7.5, -1.5, -0.5, -0.5], [8.5, -0.5, 0.5, 0.5]) == pytest.approx(expected)
    # No inactive neuron: both ratios are 0.
    assert penalty([1.0, 1.0, 2.0, 1.0], [2.0, 2.0, 3.0, 2.0]) == pytest.approx(2)


def test_regularizers_fade_over_the_ramp_and_older_results_keep_their_names():
    model, (x, y) = network(), toy(12)
    found = []
    for epoch in (1.0, 2.0, 3.0, 9.0):
        losses = [
            IBP(threat=CUBE, warmup=1, ramp=2, regularize=weight).loss(model, x.double(), y, Step(epoch, y))
            for weight in (0.0, 0.5)
        ]
        found.append(float((losses[1] - losses[0]).detach()))
    assert found[0] > 0 and found[1] > 0 and found[2] == found[3] == 0
    loss = IBP(threat=CUBE, warmup=1, ramp=2, regularize=0.5).loss(model, x.double(), y, Step(1.0, y))
    assert gradient(loss, model).isfinite().all()
    assert spec("crt.methods", {"CROWNIBP": {"beta_final": 0}}, CUBE, "here").args.keys().isdisjoint({"regularize"})
