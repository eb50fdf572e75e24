"""Gradient alignment: every network allows the gradient of its gradient, and images without a gradient are left out."""

import pytest
import torch
from test_methods import classifier, late, make, toy
from test_switches import COMPILED
from torch import nn

from crt.methods.gradalign import _differentiable_twice, _gradient, _misalignment
from crt.models.classifier import Classifier
from crt.models.image_size import only_side
from crt.plugins import find, plugins
from crt.threat import Threat
from crt.training.precision import compile_body

LINF = Threat(norm="linf", eps=0.1)


def network(arch: str) -> Classifier:
    return Classifier(*find("crt.archs", arch)(), 10, (0.5,) * 3, (0.2,) * 3).train()


def check(model: Classifier, side: int) -> None:
    x, y = torch.rand(2, 3, side, side, device=model.head.weight.device), torch.zeros(2, dtype=torch.long)
    with _differentiable_twice(model):
        _gradient(model, x, y.to(x.device)).square().sum().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.dim() > 1)


@pytest.mark.parametrize("arch", sorted(plugins("crt.archs")))
def test_every_network_can_be_differentiated_twice(arch):
    with torch.device("meta"):
        check(network(arch), only_side(find("crt.archs", arch)) or (224 if arch.startswith("imagenet_") else 32))


def test_attention_can_be_differentiated_twice():
    # Its fused kernels, which the meta device does not choose, cannot.
    check(network("vit"), 32)


@COMPILED
def test_a_compiled_network_can_be_differentiated_twice():
    model, other, (x, y) = classifier(0).double(), classifier(0).double(), toy(6)
    compile_body(model.body, "default")
    for each in (model, other):
        torch.manual_seed(0)
        make("GradAlign", LINF).loss(each.train(), x.double(), y, late(6)).backward()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-6, atol=1e-9)


def test_images_without_a_gradient_are_left_out():
    a = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [3.0, 4.0]])[:, None, None, :].requires_grad_()
    b = torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])[:, None, None, :].requires_grad_()
    found = _misalignment(a, b)
    assert float(found.detach()) == pytest.approx((0 + 1) / 2)
    found.backward()
    assert torch.isfinite(a.grad).all() and torch.isfinite(b.grad).all()
    assert float(_misalignment(torch.zeros(2, 1, 1, 2), b[:2].detach())) == 0


def test_a_linear_network_is_aligned():
    linear = Classifier(nn.Flatten(), 192, 2, (0.5,) * 3, (0.2,) * 3).double().train()
    x = toy(6)[0].double()
    here, there = (_gradient(linear, images, torch.zeros(6, dtype=torch.long)) for images in (x, 1 - x))
    assert float(_misalignment(here, there).detach()) == pytest.approx(0, abs=1e-12)
