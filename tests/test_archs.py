"""Every architecture: its parameter count and operations as published, its width, and that all of it learns."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from crt.classifier import Classifier
from crt.plugins import find, plugins

PUBLISHED = {  # parameters with the head, and multiply-accumulates in millions for one image
    "cnn2c2f": (214_918, None),
    "resnet10": (4_903_242, 253.4),
    "resnet20": (272_474, 40.8),
    "resnet110": (1_730_714, 253.1),
    "resnext29": (9_128_778, 1409.5),
    "dla": (16_291_386, 1030.9),
    "regnetx_200mf": (2_321_946, 223.3),
    "vit": (12_470_026, 806.3 + 22.7),  # the second in the products of attention
    "wideresnet34_10": (46_160_474, 6658.9),
    "imagenet_resnet18": (11_689_512, 1814.1),
    "imagenet_resnet50": (25_557_032, 4089.2),
    "imagenet_regnetx_4gf": (22_118_248, 3964.5),
}
ARCHS = sorted(plugins("crt.archs"))


def of_imagenet(name: str) -> bool:
    return name.startswith("imagenet_")


def build(name: str) -> Classifier:
    torch.manual_seed(0)
    body, width = find("crt.archs", name)()
    return Classifier(body, width, 1000 if of_imagenet(name) else 10, (0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize("name", ARCHS)
def test_size_as_published(name):
    parameters, macs = PUBLISHED[name]
    size, classes = (224, 1000) if of_imagenet(name) else (32, 10)
    with torch.device("meta"):
        model, x = build(name).eval(), torch.empty(1, 3, size, size)
    assert sum(p.numel() for p in model.parameters()) == parameters
    with FlopCounterMode(display=False) as counter:
        assert model(x).shape == (1, classes)
    if macs:
        assert counter.get_total_flops() / 2e6 == pytest.approx(macs, abs=0.05)


@pytest.mark.parametrize("name", ARCHS)
def test_features_lead_to_logits_and_everything_learns(name):
    size = 224 if of_imagenet(name) else 32
    model, x = build(name), torch.rand(2, 3, size, size)
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


def test_vit_against_its_formulas():
    torch.manual_seed(1)
    model, x = find("crt.archs", "vit")()[0], torch.rand(2, 3, 32, 32)
    state = model.state_dict()

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        spread = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return (x - x.mean(-1, keepdim=True)) / spread * state[f"{name}.weight"] + state[f"{name}.bias"]

    patches = [
        x[:, :, i : i + 4, j : j + 4].permute(0, 2, 3, 1).flatten(1) for i in range(0, 32, 4) for j in range(0, 32, 4)
    ]
    tokens = torch.cat([state["cls"].repeat(2, 1, 1), linear(torch.stack(patches, 1), "embed")], 1) + state["positions"]
    for i in range(7):
        inner = norm(tokens, f"layers.{i}.norm1")
        q, k, v = (linear(inner, f"layers.{i}.attention.{name}").split(32, -1) for name in "qkv")
        heads = [torch.softmax(q[h] @ k[h].mT / 384**0.5, -1) @ v[h] for h in range(12)]
        tokens = tokens + linear(torch.cat(heads, -1), f"layers.{i}.attention.o")
        inner = torch.nn.functional.gelu(linear(norm(tokens, f"layers.{i}.norm2"), f"layers.{i}.mlp.0"))
        tokens = tokens + torch.nn.functional.gelu(linear(inner, f"layers.{i}.mlp.2"))
    torch.testing.assert_close(model(x), norm(tokens[:, 0], "norm"), rtol=1e-4, atol=1e-4)


def test_residuals_of_regnetx_4gf_begin_at_zero():
    body = build("imagenet_regnetx_4gf").body
    last = [module.c[1].weight for module in body.modules() if hasattr(module, "c")]
    assert len(last) == 2 + 5 + 14 + 2 and not any(weight.any() for weight in last)
