"""Gradients of input gradients are torch's own, for convolutions and BatchNorms of every kind."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crt.models.gradients_of_gradients import GradientsOfGradients

NOT_SEEN = ("3.bias", "6.bias", "8.shift")
"""Shifts that a BatchNorm behind them takes away."""
LAYOUTS = (torch.contiguous_format, torch.channels_last)


class Called(nn.Module):
    """Layers by functions, with arguments in other forms than those of torch's modules."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(5, 5, 3, 3))
        self.scale, self.shift = nn.Parameter(torch.empty(5)), nn.Parameter(torch.empty(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x, weight=self.weight, stride=2, padding=1)
        x = F.batch_norm(x, None, None, self.scale, self.shift, True)
        return F.batch_norm(x, None, None, training=True)


def network() -> nn.Sequential:
    body = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), nn.BatchNorm2d(6, eps=0.1), nn.Softplus(),
        nn.Conv2d(6, 5, (1, 3), padding="same"), nn.BatchNorm2d(5, momentum=None),
        Called(), nn.Flatten(), nn.LazyLinear(4),
    )  # fmt: skip
    body(torch.rand(2, 3, 8, 8))
    for parameter in body.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return body


def results(model: nn.Sequential, x: torch.Tensor, context) -> dict[str, torch.Tensor]:
    """A loss of the input gradient, all its gradients, and the statistics after the pass."""
    model, x = copy.deepcopy(model), x.clone().requires_grad_()
    with context:
        scores = model(x).log_softmax(1)[:, 0]
    (g,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    loss = g.pow(3).sum() + scores.square().sum()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"loss": loss.detach(), "g": g.detach(), "x": x.grad, **gradients, **dict(model.named_buffers())}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_torchs(training, layout):
    torch.manual_seed(0)
    model = network().train(training).to(memory_format=layout)
    x = torch.rand(5, 3, 8, 8, dtype=torch.float64).to(memory_format=layout)
    expected, found = (results(model, x, context) for context in (nullcontext(), GradientsOfGradients()))
    assert found.keys() == expected.keys() and len(found) == 28
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-9, atol=1e-9, msg=lambda why, name=name: f"{name}: {why}"
        )
        assert float(value.abs().max()) > 1e-3 or name in NOT_SEEN  # a zero would agree with anything


def test_layers_of_the_context_are_its_own():
    torch.manual_seed(1)
    model, x = network().train(), torch.rand(3, 3, 8, 8, dtype=torch.float64)
    single = copy.deepcopy(model).float()
    with GradientsOfGradients():
        inside = model[1](model[0](x))
        with torch.autocast("cpu", torch.bfloat16):
            low = single[0](x.float())
    kinds = [type(each.grad_fn).__name__ for each in (inside, low, model[0](x))]
    assert kinds == ["_BatchNormBackward", "ConvolutionBackward0", "ConvolutionBackward0"]
