"""Bounds in closed form, of boxes through layers and of slopes through ReLUs, against torch's own gradients."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crt.lipschitz import lines
from crt.lipschitz.affine import AffineBox
from crt.lipschitz.lines import Lines, along

SHAPES = {"image": (3, 4, 5), "one channel": (1, 4, 4), "features": (7,)}


def leaf(*shape: int, last: bool = False) -> Tensor:
    values = torch.randn(*shape, dtype=torch.float64)
    if last:
        values = values.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, shape[:2])
    return values.requires_grad_()


def restated(slopes: Tensor, low: Tensor, upper: Tensor, lower: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each slope times its line, by a choice between the two."""
    out = torch.where(slopes > 0, slopes * lower, slopes * upper)
    constants = -torch.where(slopes > 0, torch.zeros_like(slopes), slopes * upper * low).flatten(2).sum(2)
    return out, constants if shift is None else constants + (out * shift).flatten(2).sum(2)


def with_gradients(function, inputs: list[Tensor | None], weights: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Outputs, and gradients of their weighted sum with respect to all inputs that have one."""
    out, constants = function(*inputs)
    wanted = [each for each in inputs if each is not None and each.requires_grad]
    loss = (out * weights[0]).sum() + (constants * weights[1]).sum()
    return [out.detach(), constants.detach(), *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize("part", [1, 100, 2**18])
@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("kind", SHAPES)
def test_slopes_before_relus_are_those_of_the_lines(monkeypatch, kind, last, shifted, part):
    # With parts of 1 or 100 slopes, images go one by one, or a few together and a rest.
    monkeypatch.setattr(lines, "IN_CACHE", part)
    torch.manual_seed(0)
    shape = SHAPES[kind]
    last = last and len(shape) == 3
    slopes, low, upper = leaf(5, 2, *shape, last=last), leaf(5, 1, *shape, last=last), leaf(5, 1, *shape, last=last)
    lower = (torch.randn(5, 1, *shape, dtype=torch.float64) > 0).double()
    shift = leaf(shape[0], *[1] * (len(shape) - 1)) if shifted else None
    inputs, weights = [slopes, low, upper, lower, shift], (leaf(5, 2, *shape).detach(), leaf(5, 2).detach())
    expected, found = (with_gradients(function, inputs, weights) for function in (restated, Lines.apply))
    assert len(found) == len(expected) == 5 + shifted
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("last", [True, False])
def test_products_along_a_point_have_any_order_in_memory(last):
    torch.manual_seed(1)
    slopes = leaf(5, 2, 3, 4, 6, last=last)
    for point in (leaf(5, 1, 3, 4, 6), leaf(3, 1, 1), leaf(5, 1, 3, 4, 6, last=True)):
        torch.testing.assert_close(along(slopes, point), (slopes * point).flatten(2).sum(2))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("kind", ["convolution", "strided, channels last", "linear"])
def test_ends_of_boxes_are_those_of_middle_and_half_width(kind, biased, first):
    torch.manual_seed(2)
    if kind == "linear":
        module, x = nn.Linear(6, 4, bias=biased), torch.randn(5, 6)
    else:
        module, x = (
            nn.Conv2d(3, 4, 3, stride=1 + (kind != "convolution"), padding=1, bias=biased),
            torch.randn(5, 3, 7, 7),
        )
        if kind != "convolution":
            module, x = module.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    module = module.double()
    points = torch.cat([x.double(), x.double() + torch.rand_like(x).double()]).requires_grad_(not first)

    def restated(points: Tensor) -> Tensor:
        low, high = points.chunk(2)
        middle = module((low + high) / 2)
        with_absolute = (
            F.linear if kind == "linear" else lambda x, w: F.conv2d(x, w, None, module.stride, module.padding)
        )
        half = with_absolute((high - low) / 2, module.weight.abs())
        return torch.cat([middle - half, middle + half])

    wanted = [*module.parameters(), *([] if first else [points])]
    expected, found = restated(points), AffineBox.apply(points, module.weight, module.bias, module)
    weights = torch.randn_like(found)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((out * weights).sum(), wanted) for out in (expected, found)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
