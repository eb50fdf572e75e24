"""Local norms and LocalBCP against dense operators in float64 and thousands of perturbations."""

import copy
import math

import pytest
import torch
from test_lipschitz import ACTIVATIONS, EPS, THREAT, attacks, dense, network
from test_lipschitz_methods import matrices, problem, translation, two_layers
from test_methods import chain as student
from test_methods import make, toy
from test_passes import cell
from test_smoothing_methods import cross_entropy, gradient
from torch import nn

from bench.build.cost import forward_flops
from bench.build.counter import Counter
from crt.archs.convnet import cnn6c2f
from crt.evals.lipschitz import Lipschitz
from crt.lipschitz import local
from crt.lipschitz.boxes import regions
from crt.lipschitz.chain import Layer, chain
from crt.lipschitz.local import Part, local_converged, local_estimate, local_region, local_upper, parts, uncertain
from crt.lipschitz.norms import final_norms
from crt.methods.localbcp import LocalBCP
from crt.models.activations import ReLUTheta
from crt.models.classifier import Classifier
from crt.training.loop import Training
from crt.training.method import Step
from crt.training.recipe import Recipe

CONTRAST = {"relu": 0.15, "relutheta": 0.15, "maxmin": 0.25}
"""Of images in which some neurons are constant in the ball and others are not."""


@pytest.fixture(scope="module", params=list(ACTIVATIONS))
def trained(request):
    """A network that LocalBCP trained for some steps, images with labels, its chain, norms, regions and parts."""
    model, (x, y) = network(request.param), toy(24)
    method, x = LocalBCP(threat=THREAT, warmup=0, ramp=1), 0.5 + CONTRAST[request.param] * (x.double() - 0.5)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for i in range(100):
        optimizer.zero_grad()
        method.loss(model, x, y, Step(min(i / 100, 1), y)).backward()
        optimizer.step()
        with torch.no_grad():
            method.after(model)
    layers = chain(model.requires_grad_(False), (3, 8, 8))
    norms = final_norms(layers, "fft_upper")
    found = regions(model, layers, x, EPS, norms)
    return model, x, y, layers, norms, found, parts(layers, found)


def start(part: Part) -> torch.Tensor:
    return torch.randn(part.inner.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def masked_norms(part: Part) -> torch.Tensor:
    """The norm of each image's matrix without the rows and columns that are left out."""
    matrix, found = dense(part.layer), []
    for b, inner in enumerate(part.inner):
        rows = torch.ones(len(matrix)) if part.outer is None else part.outer[b].flatten()
        found.append(torch.linalg.matrix_norm(matrix[rows > 0][:, inner.flatten() > 0], 2))
    return torch.stack(found)


def test_what_is_left_out_never_varies(trained):
    model, x, y, layers, _, found, _ = trained
    constant = [region.low >= region.high for region in found]
    assert sum(int(still.sum()) for still in constant[1:]) > 100 and not constant[0].any()
    clean, tried = [], 0
    for d in [torch.zeros_like(x), *attacks(model, x, y)]:
        now, values = model.normalize(x + d), []
        for layer, still in zip(layers, constant, strict=True):
            values.append(now[still])
            now = layer.module(now)
        clean = clean or values
        for layer, before, after in zip(layers, clean, values, strict=True):
            assert torch.equal(before, after) or (before - after).abs().max() < 1e-12, layer.name
        tried += len(d)
    assert tried > 5000


def test_local_norms_are_those_of_masked_matrices(trained):
    *_, norms, _, pieces = trained
    assert len(pieces) == 3
    less = False
    for part in pieces:
        exact, norm = masked_norms(part), norms[part.layer.name]
        low, high = local_converged(part, start(part)), local_upper(part, start(part), norm)
        assert (low <= exact * (1 + 1e-9)).all() and (low >= 0.995 * exact).all()
        assert (exact <= high * (1 + 1e-12)).all() and (high <= norm).all()
        # The first layer's inputs all vary.
        assert (high <= 1.05 * exact).all() and (exact <= norm * (1 + 1e-12)).all()
        less |= bool((exact < 0.9 * norm).any())
        estimate, v = local_estimate(part, start(part), 500)
        torch.testing.assert_close(estimate, exact, rtol=5e-3, atol=0)
        assert (v * (1 - part.inner) == 0).all()
    assert less, "what is left out must matter"


@pytest.mark.parametrize("spectrum", ["even", "edge", "lone"])
def test_the_bound_fails_as_seldom_as_it_says(spectrum, monkeypatch):
    n, starts = 100, 4000
    values = {
        "even": torch.linspace(0, 1, n),
        "edge": torch.cos(math.pi * torch.arange(n) / n) / 2 + 0.5,
        "lone": torch.cat([torch.linspace(0, 0.9, n - 1), torch.ones(1)]),
    }[spectrum].double()
    layer = Layer("head", nn.Linear(n, n).double(), (n,))
    with torch.no_grad():
        layer.module.weight.copy_(values.sqrt().diag())
    part = Part(layer, torch.ones(starts, n, dtype=torch.float64), 1.0)
    v = torch.randn(starts, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    monkeypatch.setattr(local, "LANCZOS", 8)
    monkeypatch.setattr(local, "FAILURE", 0.2)
    found, above = local_upper(part, v, torch.tensor(100.0)), uncertain(n, 8, 0.2)
    assert 0.05 < above < 0.2 and (found < 1).double().mean() <= 0.2
    # Without what the bound adds, all would be too small.
    assert (found * (1 - above) ** 0.5 < 1 - 1e-6).all()


def test_uncertainty_is_that_of_the_theorem():
    for n, k in [(32768, 200), (512, 30)]:
        eps = uncertain(n, k, 1e-9)
        assert 1.648 * math.sqrt(n) * math.exp(-math.sqrt(eps) * (2 * k - 1)) == pytest.approx(1e-9)
    assert math.sqrt(1 / (1 - uncertain(32768, local.LANCZOS, local.FAILURE))) == pytest.approx(1.0022, abs=1e-4)
    assert uncertain(10**6, 1, 1e-9) < 1


def test_no_attack_leaves_the_local_ball(trained):
    model, x, y, layers, norms, found, _ = trained
    region = local_region(model, layers, x, EPS, norms, "fft_upper", list(range(len(x))))
    assert (region.rho <= found[-1].rho * (1 + 1e-12)).all() and (region.rho < 0.9 * found[-1].rho).any()
    clean, nearest = model.features(x), 0.0
    for d in attacks(model, x, y):
        distance = (model.features(x + d) - clean).norm(dim=1)
        assert (distance <= region.rho + 1e-9).all()
        nearest = max(nearest, float((distance / region.rho.clamp_min(1e-6)).detach().max()))
    assert nearest > 0.15, "attacks must come near the bound"


def questions(x, y):
    return [(image, int(label), (0, i)) for i, (image, label) in enumerate(zip(x, y, strict=True))]


def test_no_attack_breaks_a_local_verdict(trained):
    model, x, y, *_ = trained
    asked = questions(x, y)
    found = list(Lipschitz(threat=THREAT, bounds="local").judge_many(model, asked))
    sure = torch.tensor([verdict.radius == EPS for verdict in found])
    classes = torch.tensor([verdict.prediction for verdict in found])
    assert sure.sum() > len(x) / 4 and torch.equal(classes, model(x).argmax(1))
    tried = 0
    for d in attacks(model, x, y):
        assert (model(x + d).argmax(1) == classes)[sure].all()
        tried += int(sure.sum())
    assert tried > 1500
    boxed = [v.radius for v in Lipschitz(threat=THREAT, bounds="box").judge_many(model, asked)]
    published = Lipschitz(threat=THREAT, bounds="local", norms="power_iteration")
    optimistic = [v.radius for v in published.judge_many(model, asked)]
    assert all(a <= v.radius <= b for a, v, b in zip(boxed, found, optimistic, strict=True))
    # With thresholds, boxes alone prove as much here.
    assert sum(map(bool, boxed)) < sure.sum() or not isinstance(trained[3][1].module, nn.ReLU)


@pytest.mark.parametrize("norms", ["fft_upper", "power_iteration"])
def test_local_verdicts_hang_on_no_batch(norms, monkeypatch):
    model, (x, y) = network().float(), toy(6)
    radii = []
    monkeypatch.setattr(
        "crt.evals.lipschitz.local_region",
        lambda *arguments: radii.append(local_region(*arguments)) or radii[-1],
    )
    judge = Lipschitz(threat=THREAT, bounds="local", norms=norms)
    whole = list(judge.judge_many(model, questions(x, y)))
    assert [next(judge.judge_many(model, [question])) for question in questions(x, y)] == whole
    torch.testing.assert_close(torch.cat([region.rho for region in radii[1:]]), radii[0].rho, rtol=1e-9, atol=0)


THETA = 0.6


def restated(model, x, y, eps, kappa):
    """The loss by matrices: neurons are left out whose pre-activations are all below 0 or above the threshold."""
    std = model.normalize.std.flatten().repeat_interleave(16)
    scaled = lambda z: (z.flatten(1) - model.normalize.mean.flatten().repeat_interleave(16)) / std  # noqa: E731
    mu, low, high, rho = scaled(x), scaled(x - eps), scaled(x + eps), eps / float(std.min())
    own, alive, left_out = rho * torch.ones(len(x), dtype=x.dtype), torch.ones_like(mu, dtype=torch.bool), 0
    for (matrix, bias, row), act in zip(matrices(model), (model.body[1], model.body[4]), strict=True):
        up, down = matrix.clamp(min=0), matrix.clamp(max=0)
        low, high = low @ up.T + high @ down.T + bias, high @ up.T + low @ down.T + bias
        mu = mu @ matrix.T + bias
        low, high = torch.max(low, mu - rho * row), torch.min(high, mu + rho * row)
        rho = rho * torch.linalg.matrix_norm(matrix, 2)
        theta = act.theta.flatten() if isinstance(act, ReLUTheta) else torch.full_like(bias, math.inf)
        behind = ~((high <= 0) | (low >= theta))
        factors = [torch.linalg.matrix_norm(matrix[behind[b]][:, alive[b]], 2) for b in range(len(x))]
        own, alive, left_out = own * torch.stack(factors), behind, left_out + int((~behind).sum())
        mu, low, high = (torch.min(z.relu(), theta) for z in (mu, low, high))
    assert 10 < left_out < alive.numel() * 10
    w, z = model.head.weight, mu @ model.head.weight.T + model.head.bias
    worst = z.clone()
    for b, label in enumerate(y):
        for i in range(3):
            if i != label:
                worst[b, i] = z[b, i] + translation(w[i] - w[label], mu[b], own[b], low[b], high[b])
    return kappa * cross_entropy(z, y) + (1 - kappa) * cross_entropy(worst, y)


@pytest.mark.parametrize("theta", [False, True])
@pytest.mark.parametrize(("epoch", "share"), [(3.0, 0.25), (6.0, 1.0), (50.0, 1.0)])
def test_the_loss_equals_its_restatement(theta, epoch, share):
    model, (x, y) = two_layers(), problem()
    if theta:
        model.body[1], model.body[4] = ReLUTheta((4, 4, 4), THETA).double(), ReLUTheta((6,), THETA).double()
    twin, eps = copy.deepcopy(model), 0.06
    method = LocalBCP(
        threat=THREAT.model_copy(update={"eps": eps}), warmup=2, ramp=4, kappa_final=0.1, power_iterations=4000
    )
    loss = method.loss(model, x, y, Step(epoch, y))
    expected = restated(twin, x, y, 1.1 * share * eps, 1 - 0.9 * share)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-7)
    torch.testing.assert_close(gradient(loss, model), gradient(expected, twin), rtol=1e-5, atol=1e-8)


def test_thresholds_stay_above_zero():
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), ReLUTheta((3,), 1.0)), 3, 2, (0,), (1,))
    with torch.no_grad():
        model.body[2].theta.copy_(torch.tensor([-1.0, 0.5, -0.0]))
        make("LocalBCP").after(model)
    assert model.body[2].theta.tolist() == [0, 0.5, 0]


def test_defaults_are_the_papers():
    method = LocalBCP(threat=THREAT)
    values = (method.warmup, method.ramp, method.widening, method.kappa_final, method.power_iterations, method.stored)
    assert values == (20, 400, 1.1, 0, 2, 0) and method.steady_from_epoch == 420


def test_stored_vectors_are_those_of_the_images():
    model, (x, y) = student(0), toy(12)
    step = lambda places: Step(500.0, torch.tensor(places))  # noqa: E731
    method = make("LocalBCP", stored=10)
    method.loss(model, x[:3], y[:3], step([7, 2, 15]))
    kept = method.own["body.2"].clone()
    assert kept.dtype == torch.half and kept.shape == (10, 8, 8, 8)
    assert {i for i in range(10) if kept[i].any()} == {7, 2, 5}
    # Alone, an image goes on from its vector: with none it begins anew.
    alone = make("LocalBCP")
    alone.restore(method.vectors)
    again = copy.deepcopy(method)
    fresh, on = (float(m.loss(model, x[:1], y[:1], step([7])).detach()) for m in (alone, method))
    assert on > fresh and torch.equal(method.own["body.2"][2], kept[2])
    assert float(again.loss(model, x[:1], y[:1], step([7])).detach()) == on


def run(epochs, stored, state=None):
    method, (x, y) = make("LocalBCP", warmup=0, ramp=2, stored=stored), toy(12)
    model = student(0)
    if state:
        model.load_state_dict(state["model"])
        method.restore(state["method"])
    training = Training(method, model, Recipe(epochs=4, batch_size=12, lr=0.05, momentum=0))
    for epoch in epochs:
        training.epoch([(x, y, torch.arange(12))] * 3, epoch)
    return model, method


@pytest.mark.parametrize("stored", [0, 12])
def test_training_goes_on_from_its_state(stored):
    whole, _ = run(range(4), stored)
    half, method = run(range(2), stored)
    names = {"body.0", "body.2", "body.5"}
    state = {name: value.clone() for name, value in method.state().items()}
    assert set(state) == names | ({f"own.{name}" for name in names} if stored else set())
    for kept, same in [(state, True), ({k: v for k, v in state.items() if not k.startswith("own.")}, not stored)]:
        on, _ = run(range(2, 4), stored, state={"model": half.state_dict(), "method": kept})
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), on.parameters(), strict=True)) is same


@pytest.mark.parametrize("stored", [0, 8])
def test_operations_of_a_step(stored):
    # Three streams and their backward; of each image's norm two products an iteration, then one with a gradient of its
    # weights alone.
    images = 64
    with torch.device("meta"):
        model, method = Classifier(*cnn6c2f(), 10, (0,) * 3, (1,) * 3), make("LocalBCP", stored=stored)
        x, y = torch.empty(images, 3, 32, 32), torch.zeros(images, dtype=torch.long)
    with Counter() as counter:
        method.loss(model, x, y, Step(500.0, y)).backward()
    units = counter.flops / forward_flops(cell("Standard", "cnn6c2f")) / images
    assert units == pytest.approx(9 + 2 * 2 + 2 + 6 / images, rel=0.03)
