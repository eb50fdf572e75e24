"""Activations with thresholds against their formulas, and that they are 1-Lipschitz and learn."""

import pytest
import torch
from torch import nn

from crt.models.activations import MaxMin, ReLUTheta
from crt.models.classifier import Classifier
from crt.plugins import find


def random_activations(shape: tuple[int, ...]) -> tuple[ReLUTheta, MaxMin]:
    torch.manual_seed(3)
    theta, maxmin = ReLUTheta(shape, 1.0).double(), MaxMin(shape, 0.5, -0.5).double()
    for threshold in (theta.theta, maxmin.high, maxmin.low):
        nn.init.normal_(threshold)
    return theta, maxmin


@pytest.mark.parametrize("shape", [(6,), (4, 3, 3)])
def test_activations_against_their_formulas(shape):
    theta, maxmin = random_activations(shape)
    x = torch.randn(5, *shape, dtype=torch.float64)
    neurons = list(torch.cartesian_prod(*map(torch.arange, shape)).view(-1, len(shape)).tolist())
    half = shape[0] // 2
    for image in range(5):
        for place in map(tuple, neurons):
            value, bound = x[image][place].item(), theta.theta[place].item()
            assert theta(x)[image][place].item() == min(max(value, 0), bound)
            first = (place[0] % half, *place[1:])
            pair = [x[image][first].item(), x[image][(first[0] + half, *place[1:])].item()]
            high, low = maxmin.high[first].item(), maxmin.low[first].item()
            expected = min(max(pair), high) if place[0] < half else max(min(pair), low)
            assert maxmin(x)[image][place].item() == expected


def test_thresholds_gradients_count_what_they_cut():
    theta, maxmin = random_activations((6,))
    x = torch.randn(50, 6, dtype=torch.float64)
    (cut,) = torch.autograd.grad(theta(x).sum(), theta.theta)
    assert torch.equal(cut, (x.clamp(min=0) > theta.theta).double().sum(0))
    above, below = torch.autograd.grad(maxmin(x).sum(), (maxmin.high, maxmin.low))
    most, least = torch.stack([x[:, :3], x[:, 3:]]).amax(0), torch.stack([x[:, :3], x[:, 3:]]).amin(0)
    assert torch.equal(above, (most > maxmin.high).double().sum(0))
    assert torch.equal(below, (least < maxmin.low).double().sum(0))


def test_activations_are_1_lipschitz_and_reach_it():
    for activation in random_activations((8, 4, 4)):
        x = torch.randn(2000, 8, 4, 4, dtype=torch.float64)
        step = torch.randn_like(x) * torch.logspace(-3, 1, 2000, dtype=torch.float64).view(-1, 1, 1, 1)
        moved = (activation(x + step) - activation(x)).flatten(1).norm(dim=1) / step.flatten(1).norm(dim=1)
        assert moved.max() <= 1 + 1e-12 and moved.max() > 0.4
    for free in (ReLUTheta((8,), 9.0), MaxMin((8,), 9.0, -9.0)):
        x, step = torch.rand(2, 8, dtype=torch.float64) + 1
        moved = (free((x + 0.1 * step)[None]) - free(x[None])).norm().item()
        assert moved == pytest.approx(0.1 * step.norm().item())


def test_only_thresholds_of_relutheta_are_projected():
    theta, maxmin = random_activations((6,))
    before = theta.theta.clone()
    assert (before < 0).any()
    theta.project()
    assert torch.equal(theta.theta, before.clamp(min=0)) and theta.theta.requires_grad
    assert not hasattr(maxmin, "project")


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["cnn2c2f_relutheta", "cnn2c2f_maxmin"])
def test_thresholds_learn_under_autocast(name, low):
    torch.manual_seed(0)
    model, x = Classifier(*find("crt.archs", name)(), 10, (0.5,) * 3, (0.25,) * 3), torch.rand(2, 3, 32, 32)
    with torch.autocast("cpu", low):
        logits = model(x)
    torch.testing.assert_close(logits.float(), model(x), rtol=0.05, atol=0.02)
    logits.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
