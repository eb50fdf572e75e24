"""Every architecture: its parameter count and operations as published, its width, and that all of it learns."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from crt.classifier import Classifier
from crt.plugins import find, plugins

PUBLISHED = {  # parameters with a head of 10, and multiply-accumulates in millions for a 32x32 image
    "cnn2c2f": (214_918, None),
    "resnet20": (272_474, 40.8),
    "resnet110": (1_730_714, 253.1),
    "resnext29": (9_128_778, 1409.5),
    "dla": (16_291_386, 1030.9),
    "regnetx_200mf": (2_321_946, 223.3),
}
ARCHS = sorted(plugins("crt.archs"))


def build(name: str) -> Classifier:
    torch.manual_seed(0)
    body, width = find("crt.archs", name)()
    return Classifier(body, width, 10, (0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize("name", ARCHS)
def test_size_as_published(name):
    parameters, macs = PUBLISHED[name]
    with torch.device("meta"):
        model, x = build(name).eval(), torch.empty(1, 3, 32, 32)
    assert sum(p.numel() for p in model.parameters()) == parameters
    with FlopCounterMode(display=False) as counter:
        assert model(x).shape == (1, 10)
    if macs:
        assert counter.get_total_flops() / 2e6 == pytest.approx(macs, abs=0.05)


@pytest.mark.parametrize("name", ARCHS)
def test_features_lead_to_logits_and_everything_learns(name):
    model, x = build(name), torch.rand(2, 3, 32, 32)
    model.eval()
    assert torch.equal(model.head(model.features(x)), model(x))
    assert torch.equal(model.features(x), model.body((x - 0.5) / 0.25))
    model.train()
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_first_weights_of_resnet20():
    deviations = [
        m.weight.std().item() / (2 / (m.kernel_size[0] ** 2 * m.out_channels)) ** 0.5
        for m in build("resnet20").modules()
        if isinstance(m, torch.nn.Conv2d) and m.weight.numel() > 2000
    ]
    assert len(deviations) > 12
    assert all(0.93 < deviation < 1.07 for deviation in deviations)
