"""Every architecture: its parameters, operations and features as published, and that all of it learns."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from crt.models.activations import MaxMin, ReLUTheta
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import plain
from crt.plugins import find, plugins

PUBLISHED = {  # parameters with the head, multiply-accumulates in millions for one image, and the features' width
    "cnn2c2f": (214_918, 0.93, 100),
    "cnn2c2f_maxmin": (214_918 + 6_244, 0.93, 100),
    "cnn2c2f_relutheta": (214_918 + 6_244, 0.93, 100),
    "cnn4c2f": (2_204_202, 16.09, 512),
    "cnn4c2f_bn": (2_204_202 + 2 * 704, 16.09, 512),
    "cnn4c2f_maxmin": (2_204_202 + 61_952, 16.09, 512),
    "cnn4c2f_relutheta": (2_204_202 + 61_952, 16.09, 512),
    "cnn4c3f": (2_466_858, 16.36, 512),
    "cnn4c3f_bn": (2_466_858 + 2 * 1_216, 16.36, 512),
    "cnn4c3f_maxmin": (2_466_858 + 62_464, 16.36, 512),
    "cnn4c3f_relutheta": (2_466_858 + 62_464, 16.36, 512),
    "cnn6c2f": (2_250_378, 34.97, 512),
    "cnn6c2f_bn": (2_250_378 + 2 * 800, 34.97, 512),
    "cnn6c2f_maxmin": (2_250_378 + 111_104, 34.97, 512),
    "cnn6c2f_relutheta": (2_250_378 + 111_104, 34.97, 512),
    "cnn7": (17_190_602, 150.67, 512),
    "cnn7_bn": (17_190_602 + 2 * 1_024, 150.67, 512),
    "dnn": (1_341_226, 39.69, 512),
    "dnn2": (2_122_186, 7.71, 512),
    "vgg11": (9_231_114, 152.77, 512),
    "vgg19": (20_040_522, 398.14, 512),
    "resnet10": (4_903_242, 253.4, 512),
    "resnet18": (11_173_962, 555.42, 512),
    "resnet20": (272_474, 40.8, 64),
    "resnet50": (23_520_842, 1297.83, 2048),
    "resnet50_512": (24_554_570, 1298.86, 512),
    "resnet110": (1_730_714, 253.1, 64),
    "resnext29": (9_128_778, 1409.5, 1024),
    "dla": (16_291_386, 1030.9, 512),
    "regnetx_200mf": (2_321_946, 223.3, 368),
    "vit": (12_470_026, 806.3 + 22.7, 384),  # the second in the products of attention
    "preact_resnet18": (11_172_170, 555.42, 512),
    "wideresnet34_10": (46_160_474, 6658.9, 640),
    "imagenet_alexnet": (48_631_625, 701.72, 2048),
    "imagenet_vgg16": (125_888_329, 15457.8, 2048),
    "imagenet_resnet18": (11_689_512, 1814.1, 512),
    "imagenet_resnet50": (25_557_032, 4089.2, 2048),
    "imagenet_regnetx_4gf": (22_118_248, 3964.5, 1360),
}
BUFFERS = {  # numbers that BatchNorm keeps
    "cnn4c2f_bn": 1_413,
    "cnn4c3f_bn": 2_438,
    "cnn6c2f_bn": 1_607,
    "cnn7_bn": 2_054,
    "dnn": 0,
    "vgg11": 5_512,
    "vgg19": 11_024,
    "resnet18": 9_620,
    "resnet50": 53_173,
    "resnet50_512": 53_173,
    "imagenet_alexnet": 0,
    "imagenet_vgg16": 0,
    "imagenet_resnet50": 53_173,
}
SIGNED = {"vit", "resnet50_512", *(f"cnn{plan}_maxmin" for plan in ("2c2f", "4c2f", "4c3f", "6c2f"))}
"""Whose features can be negative."""
RESTRICTED = {"imagenet_alexnet", "imagenet_vgg16"}
"""Published for Restricted-ImageNet's 9 classes."""
ARCHS = sorted(plugins("crt.archs"))


def of_imagenet(name: str) -> bool:
    return name.startswith("imagenet_")


def build(name: str, classes: int | None = None) -> Classifier:
    torch.manual_seed(0)
    body, width = find("crt.archs", name)()
    classes = classes or (9 if name in RESTRICTED else 1000 if of_imagenet(name) else 10)
    return Classifier(body, width, classes, (0.5,) * 3, (0.25,) * 3)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ARCHS)
def test_size_as_published(name):
    expected, macs, width = PUBLISHED[name]
    size = 224 if of_imagenet(name) else 32
    with torch.device("meta"):
        model, x = build(name).eval(), torch.empty(1, 3, size, size)
    assert parameters(model) == expected
    if name in BUFFERS:
        assert sum(buffer.numel() for buffer in model.body.buffers()) == BUFFERS[name]
    with FlopCounterMode(display=False) as counter:
        assert model(x).shape == (1, model.head.out_features)
    assert counter.get_total_flops() / 2e6 == pytest.approx(macs, abs=0.05 if macs > 40 else 0.006)
    assert model.features(x).shape == (1, width)


def test_size_of_resnet50_for_restricted_imagenet():
    with torch.device("meta"):
        model, x = build("imagenet_resnet50", 9).eval(), torch.empty(1, 3, 224, 224)
    assert parameters(model) == 23_526_473
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert counter.get_total_flops() / 2e6 == pytest.approx(4087.15, abs=0.006)


@pytest.mark.parametrize("name", ARCHS)
def test_features_lead_to_logits_and_everything_learns(name):
    model, x = build(name), torch.rand(*((1, 3, 224, 224) if of_imagenet(name) else (2, 3, 32, 32)))
    model.eval()
    with torch.no_grad():
        features = model.features(x)
        assert torch.equal(model.head(features), model(x))
        assert torch.equal(features, model.body((x - 0.5) / 0.25))
    assert bool((features < 0).any()) == (name in SIGNED)
    model.train()
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert next(model.body.parameters()).grad.any() and model.head.weight.grad.any()


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
    model, x = find("crt.archs", "vit")()[0].double(), torch.rand(2, 3, 32, 32, dtype=torch.float64)
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
    torch.testing.assert_close(model(x), norm(tokens[:, 0], "norm"), rtol=1e-9, atol=1e-9)


def test_residuals_of_regnetx_4gf_begin_at_zero():
    body = build("imagenet_regnetx_4gf").body
    last = [module.c[1].weight for module in body.modules() if hasattr(module, "c")]
    assert len(last) == 2 + 5 + 14 + 2 and not any(weight.any() for weight in last)


@pytest.mark.parametrize(
    ("name", "plan"), [("vgg11", "64 M 128 M 256 256 M 512 512 M 512 512 M"), ("dnn2", "32 M 64 M")]
)
def test_layers_in_their_order(name, plan):
    body, expected, inputs = build(name).body, [], 3
    for word in plan.split():
        if word == "M":
            expected.append(nn.MaxPool2d(2))
            continue
        norm = [nn.BatchNorm2d(int(word))] if name == "vgg11" else []
        expected += [nn.Conv2d(inputs, int(word), 3, padding=1), *norm, nn.ReLU()]
        inputs = int(word)
    assert [repr(layer) for layer in body][: len(expected)] == [repr(layer) for layer in expected]
    rest = [type(layer).__name__ for layer in body[len(expected) :]]
    assert rest == (["Flatten"] if name == "vgg11" else ["Flatten", "Linear", "ReLU"])


def test_first_weights_of_the_plain_convnets():
    layers = [m for m in build("cnn6c2f").modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    deviations = [(2 / (m.kernel_size[0] ** 2 * m.out_channels)) ** 0.5 for m in layers[:6]]
    deviations += [(1 / (3 * m.in_features)) ** 0.5 for m in layers[6:]]
    for layer, deviation in zip(layers, deviations, strict=True):
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.08)
        assert layer.bias.any() == isinstance(layer, nn.Linear)


def test_first_weights_and_dropout_of_imagenet_vgg16_and_alexnet():
    vgg, alexnet = (find("crt.archs", f"imagenet_{name}")()[0] for name in ("vgg16", "alexnet"))
    assert [type(m).__name__ for m in vgg.classifier] == ["Linear", "ReLU", "Dropout", "Linear", "ReLU"]
    assert [type(m).__name__ for m in alexnet.classifier] == ["Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU"]
    assert {m.p for net in (vgg, alexnet) for m in net.modules() if isinstance(m, nn.Dropout)} == {0.5}
    for layer in (m for m in vgg.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
        fan_out = layer.weight[0, 0].numel() * layer.weight.shape[0]
        deviation = 0.01 if isinstance(layer, nn.Linear) else (2 / fan_out) ** 0.5
        assert layer.weight[:512].std().item() == pytest.approx(deviation, rel=0.06) and not layer.bias.any()


def test_thresholds_begin_as_published():
    found = [m.theta.unique().tolist() for m in build("cnn6c2f_relutheta").modules() if isinstance(m, ReLUTheta)]
    assert found == [[2.0]] * 7
    for name, layers in (("cnn4c2f_relutheta", 5), ("cnn4c3f_relutheta", 6)):
        found = [m.theta.unique().tolist() for m in build(name).modules() if isinstance(m, ReLUTheta)]
        assert found == [[1.0]] * layers
    layers = [m for m in build("cnn6c2f_maxmin").modules() if isinstance(m, MaxMin)]
    assert [m.high.unique().item() for m in layers] == pytest.approx([0.1, 0.1, 0.15, 0.15, 0.2, 0.3, 1.2])
    assert [m.low.unique().item() for m in layers] == pytest.approx([-0.1, -0.15, -0.15, -0.15, -0.2, -0.3, -1.2])


def with_batchnorm(name: str) -> Classifier:
    """A network in float64 whose BatchNorms know other images' statistics."""
    model = build(name).double()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = 1.0
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.5)
    model(torch.rand(64, 3, 32, 32, dtype=torch.float64))
    return model.eval()


@pytest.mark.parametrize("name", ["cnn4c2f", "cnn4c3f", "cnn6c2f"])
def test_a_teacher_without_its_batchnorm_is_the_plain_network(name):
    teacher, x = with_batchnorm(f"{name}_bn").requires_grad_(False), torch.rand(16, 3, 32, 32, dtype=torch.float64)
    before, drawn = copy.deepcopy(teacher.state_dict()), torch.get_rng_state()
    folded = plain(teacher)
    assert torch.equal(drawn, torch.get_rng_state()) and not any(p.requires_grad for p in folded.parameters())
    chain = build(name).double()
    assert [repr(layer) for layer in folded.body] == [repr(layer) for layer in chain.body]
    chain.load_state_dict(folded.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    torch.testing.assert_close(chain.body(x), teacher.body(x), rtol=1e-10, atol=1e-10)
    logits = teacher(x)
    torch.testing.assert_close(chain(x), logits, rtol=0, atol=1e-10)
    assert logits.std(0).min() > 0.1


def test_batchnorm_is_folded_without_storage_too():
    with FakeTensorMode():
        assert plain(build("cnn6c2f_bn"))(torch.empty(2, 3, 32, 32)).shape == (2, 10)


def test_a_network_without_batchnorm_is_plain_already():
    model = build("cnn2c2f_maxmin")
    assert plain(model) is model


@pytest.mark.parametrize(("name", "left"), [("resnet20", 20), ("imagenet_resnet18", 20)])
def test_what_is_no_chain_is_not_made_plain(name, left):
    with pytest.raises(ValueError, match=f"{left} BatchNorms do not directly follow"):
        plain(build(name))
