"""Weights are perturbed along the gradient of the whole batch, by a share of their norm, and nothing else changes."""

import copy

import pytest
import torch
from test_methods import classifier, late, make, same, state, toy
from torch.nn import functional as F

from crt.attacks.weights import loss_at_worst_weights
from crt.threat import Threat

GAMMA = 0.05


def problem():
    model, (x, y) = classifier(0).double().train(), toy(12)
    return model, x.double(), y


def test_each_kernel_and_matrix_moves_along_its_gradient_and_the_rest_stays():
    model, x, y = problem()
    before, seen = copy.deepcopy(model), []
    # The parameters that each pass has, not those that the model has outside it.
    model.normalize.register_forward_hook(lambda *_: seen.append(dict(model.named_parameters())))
    loss_at_worst_weights(model, lambda network: F.cross_entropy(network(x), y), GAMMA, ranks=1)
    unmoved, moved = seen
    gradients = torch.autograd.grad(F.cross_entropy(before(x), y), list(before.parameters()))
    for (name, weight), g in zip(before.named_parameters(), gradients, strict=True):
        weight = weight.detach()
        assert torch.equal(unmoved[name], weight)
        if weight.dim() == 1:
            assert torch.equal(moved[name], weight), name
            continue
        v = moved[name].detach() - weight
        assert float(v.norm() / weight.norm()) == pytest.approx(GAMMA, rel=1e-9)
        assert float((v * g).sum() / v.norm() / g.norm()) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("name", ["SAT", "TRADES"])
def test_weights_and_gradients_are_left_as_without_it(name):
    model, x, y = problem()
    before, places = state(model), [weight.data_ptr() for weight in model.parameters()]
    torch.manual_seed(0)
    loss = make(name, Threat(norm="linf", eps=0.1), K=2, awp=GAMMA).loss(model, x, y, late(12))
    weights = {name for name, _ in model.named_parameters()}
    assert same({key: before[key] for key in weights}, dict(model.named_parameters()))
    assert places == [weight.data_ptr() for weight in model.parameters()]
    assert all(weight.grad is None for weight in model.parameters())
    # The perturbation raises the loss.
    torch.manual_seed(0)
    plain = make(name, Threat(norm="linf", eps=0.1), K=2).loss(copy.deepcopy(model), x, y, late(12))
    assert float(loss.detach()) > float(plain.detach()) + 1e-3


@pytest.mark.parametrize(("name", "passes"), [("SAT", 1), ("TRADES", 2)])
def test_batchnorm_sees_no_pass_of_the_ascent(name, passes):
    model, x, y = problem()
    make(name, Threat(norm="linf", eps=0.1), K=2, awp=GAMMA).loss(model, x, y, late(12))
    assert model.train_passes == passes
    assert {int(norm.num_batches_tracked) for norm in model.body if hasattr(norm, "num_batches_tracked")} == {passes}


def test_off_it_is_not_part_of_a_cell(tiny):
    identity = lambda method: tiny(method=method, threat="{norm: linf, eps: 0.1}").cells[0].id  # noqa: E731
    assert identity("SAT") == identity("{SAT: {awp: null}}") != identity("{SAT: {awp: 0.005}}")
    label = tiny(method="{SAT: {awp: 0.005}}", threat="{norm: linf, eps: 0.1}").cells[0].method.label
    assert label == "SAT(awp=0.005)"
