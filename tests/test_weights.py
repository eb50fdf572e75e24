"""Checkpoints as other projects save them, made here: what loads, with which names, and what is refused."""

import argparse
import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from crt.models.classifier import Classifier
from crt.models.import_weights.load import load_weights
from crt.plugins import find

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def build(name: str, seed: int, mean=MEAN, std=STD) -> Classifier:
    torch.manual_seed(seed)
    body, width = find("crt.archs", name)()
    model = Classifier(body, width, 1000 if name.startswith("imagenet_") else 10, mean, std).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
    return model


def chain(*depths: int) -> dict[str, str]:
    """A stem's names and those of blocks in stages, by their places in our bodies."""
    blocks = [f"layer{stage}.{i}" for stage, depth in enumerate(depths, 1) for i in range(depth)]
    return {"0": "conv1", "1": "bn1"} | {str(place): block for place, block in enumerate(blocks, 3)}


DLA = {
    **{"0": "base.0", "1": "base.1", "3": "layer1.0", "4": "layer1.1", "6": "layer2.0", "7": "layer2.1"},
    **{"9": "layer3", "10": "layer4", "11": "layer5", "12": "layer6"},
}
DLA_INSIDE = {
    **{"before": "prev_root", "subtree": "level_1", "left": "left_node", "right": "right_node"},
    **{"root.0": "root.conv", "root.1": "root.bn"},
}
VIT = {"embed": "emb", "cls": "cls_token", "positions": "pos_emb", "layers": "enc", "norm": "fc.0"}
VIT_INSIDE = {"norm1": "la1", "norm2": "la2", "attention": "msa", "mlp.2": "mlp.3"}
FAMILIES = {  # names of bodies' children, of what is inside them, and of the last layer
    "resnet10": (chain(1, 1, 1, 1), {}, "linear"),
    "resnet20": (chain(3, 3, 3), {"shortcut": "downsample"}, "fc"),
    "resnet110": (chain(18, 18, 18), {"shortcut": "downsample"}, "fc"),
    "resnet18": (chain(2, 2, 2, 2), {}, "linear"),
    "resnet50": (chain(3, 4, 6, 3), {}, "linear"),
    "vgg11": ({str(place): f"features.{place}" for place in range(28)}, {}, "classifier"),
    "resnext29": (chain(3, 3, 3), {}, "linear"),
    "regnetx_200mf": (chain(1, 1, 4, 7), {}, "linear"),
    "dla": (DLA, DLA_INSIDE, "linear"),
    "vit": (VIT, VIT_INSIDE, "fc.1"),
    "imagenet_resnet18": ({}, {}, "fc"),
}


def released(model: Classifier, name: str) -> dict[str, torch.Tensor]:
    """The network's state under the names of its family's published code, normalization left out."""
    children, inside, last = FAMILIES[name]
    state = {}
    for key, tensor in model.state_dict().items():
        part, rest = key.split(".", 1)
        if part == "normalize":
            continue
        if part == "head":
            state[f"{last}.{rest}"] = tensor
            continue
        child, _, rest = rest.partition(".")
        rest = f".{rest}" if rest else ""
        for ours, theirs in inside.items():
            rest = rest.replace(f".{ours}.", f".{theirs}.")
        state[children.get(child, child) + rest] = tensor
    return state


def front(prefix: str, state: dict) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


def save(held, folder) -> tuple:
    path = folder / "checkpoint.pth.tar"
    torch.save(held, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def same(a: Classifier, b: Classifier) -> bool:
    states = a.state_dict(), b.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_released_names(name, tmp_path):
    source, model = build(name, 0), build(name, 1)
    path, digest = save({"epoch": 90, "state_dict": front("1.", released(source, name))}, tmp_path)
    assert not same(model, source)
    assert load_weights(model, path, digest) == digest
    assert same(model, source)


def test_released_names_are_those_of_the_published_networks():
    names = list(released(build("resnet110", 0), "resnet110"))
    assert len(names) == 668
    assert {"conv1.weight", "bn1.running_var", "layer2.0.downsample.1.weight", "layer3.17.bn2.bias", "fc.bias"} <= {
        *names
    }
    names = released(build("dla", 0), "dla")
    assert {"layer5.level_1.root.conv.weight", "layer5.prev_root.shortcut.0.weight", "layer2.1.bias"} <= names.keys()


@pytest.mark.parametrize("holder", [None, "state_dict", "net", "model"])
@pytest.mark.parametrize("prefix", ["1.", "module.1.", "1.module.", "", "module."])
def test_holders_and_prefixes(holder, prefix, tmp_path):
    source, model = build("resnet20", 0), build("resnet20", 1)
    state = front(prefix, released(source, "resnet20"))
    path, digest = save({holder: state, "epoch": 3} if holder else state, tmp_path)
    load_weights(model, path, digest, normalize=None if "1" in prefix else True)
    assert same(model, source)


def test_order_in_the_file_does_not_matter(tmp_path):
    source, model = build("resnet110", 0), build("resnet110", 1)
    state = released(source, "resnet110")
    stem = {name: state.pop(name) for name in list(state)[:6]}
    path, _ = save(stem | dict(sorted(state.items())), tmp_path)
    load_weights(model, path, None, normalize=True)
    assert same(model, source)


@pytest.mark.parametrize("name", ["resnet10", "resnet20", "vgg11", "dla", "vit", "imagenet_resnet18"])
def test_names_may_be_sorted(name, tmp_path):
    source, model = build(name, 0), build(name, 1)
    save_file(released(source, name), tmp_path / "model.safetensors")
    assert list(load_file(tmp_path / "model.safetensors")) != list(released(source, name))
    load_weights(model, tmp_path / "model.safetensors", None, normalize=True)
    assert same(model, source)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_our_own_file(prefix, tmp_path):
    source, model = build("cnn2c2f", 0), build("cnn2c2f", 1)
    path, digest = save(front(prefix, source.state_dict()), tmp_path)
    load_weights(model, path, digest)
    assert same(model, source)


def test_a_network_of_plain_pixels(tmp_path):
    source = build("resnet20", 0, (0.0,) * 3, (1.0,) * 3)
    path, _ = save({"net": released(source, "resnet20"), "epoch": 440}, tmp_path)
    model, x = build("resnet20", 1), torch.rand(4, 3, 32, 32)
    with pytest.raises(ValueError, match="does not tell whether its network takes normalized pixels"):
        load_weights(model, path, None)
    load_weights(model, path, None, normalize=False)
    assert torch.equal(model(x), source(x))
    assert model.normalize.mean.tolist() == [[[0.0]]] * 3 and model.normalize.std.tolist() == [[[1.0]]] * 3
    again, (path, _) = build("resnet20", 2), save(model.state_dict(), tmp_path)
    load_weights(again, path, None, normalize=False)
    assert same(again, source)


def test_plain_pixels_behind_a_layer_are_refused(tmp_path):
    path, _ = save(front("1.", released(build("resnet20", 0), "resnet20")), tmp_path)
    with pytest.raises(ValueError, match="stands behind another layer"):
        load_weights(build("resnet20", 1), path, None, normalize=False)


@pytest.mark.parametrize(("mean", "std"), [("mean", "std"), ("means", "sds")])
def test_constants_in_the_file(mean, std, tmp_path):
    source, model = build("resnet20", 0), build("resnet20", 1)
    state = front("1.", released(source, "resnet20"))
    constants = {f"0.{mean}": torch.tensor(MEAN).view(1, 3, 1, 1), f"0.{std}": torch.tensor(STD)}
    path, _ = save(constants | state, tmp_path)
    load_weights(model, path, None)
    assert same(model, source)
    for wrong in ({f"0.{mean}": torch.tensor((0.485, 0.456, 0.406))}, {f"0.{std}": torch.tensor(0.2)}):
        path, _ = save(constants | wrong | state, tmp_path)
        untouched = build("resnet20", 1)
        with pytest.raises(ValueError, match="pixels were normalized with"):
            load_weights(untouched, path, None)
        assert same(untouched, build("resnet20", 1))


def test_our_own_file_of_other_constants_is_refused(tmp_path):
    path, _ = save(build("cnn2c2f", 0, std=(0.247, 0.2435, 0.2616)).state_dict(), tmp_path)
    for normalize, why in ((None, "goes by pipeline"), (True, "goes by pipeline"), (False, "normalize says")):
        with pytest.raises(ValueError, match=f"pixels were normalized with.*{why}"):
            load_weights(build("cnn2c2f", 1), path, None, normalize=normalize)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"fc.weight": s["fc.weight"][:5]}, r"1 of another shape \(head.weight\)"),
        (
            lambda s: s | {"layer4.0.weight": s["fc.bias"]},
            r"its body has 12 blocks \(conv1, bn1, layer1.0, …\), the model's has 11",
        ),
        (lambda s: s | {"linear.bias": s["fc.bias"]}, r"holds head.bias under two names"),
        (
            lambda s: {name: tensor for name, tensor in s.items() if not name.startswith("layer1.1.")},
            r"its body has 10 blocks .*, the model's has 11$",
        ),
        (
            lambda s: {name: tensor for name, tensor in s.items() if not name.startswith("layer3.2.bn2.")},
            r"5 missing \(body.11.bn2.weight, body.11.bn2.bias, body.11.bn2.running_mean, …\)$",
        ),
        (lambda s: s | {"layer3.2.bn3.bias": s["fc.bias"]}, r"1 unexpected \(body.11.bn3.bias\)$"),
        (
            lambda s: {name.replace("bn2", "norm2"): tensor for name, tensor in s.items()},
            "45 missing .*; 45 unexpected",
        ),
    ],
)
def test_other_layers_are_refused(change, message, tmp_path):
    path, _ = save(change(released(build("resnet20", 0), "resnet20")), tmp_path)
    model = build("resnet20", 1)
    with pytest.raises(ValueError, match=message):
        load_weights(model, path, None, normalize=True)
    assert same(model, build("resnet20", 1))


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        ("resnext29", "resnet20", r"60 unexpected \(body.3.conv3.weight, .* of another shape"),
        ("resnet110", "resnet20", r"its body has 56 blocks .*, the model's has 11"),
        ("resnet20", "vit", r"118 missing .*; 126 unexpected .*; 1 of another shape"),
    ],
)
def test_another_architecture_is_refused(theirs, ours, message, tmp_path):
    path, _ = save(released(build(theirs, 0), theirs), tmp_path)
    with pytest.raises(ValueError, match=message):
        load_weights(build(ours, 1), path, None, normalize=True)


def test_another_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "checkpoint"
    path.write_bytes(b"anything")
    with pytest.raises(ValueError, match=f"its SHA-256 is {hashlib.sha256(b'anything').hexdigest()}, not {'0' * 64}"):
        load_weights(build("cnn2c2f", 0), path, "0" * 64)
    with pytest.raises(ValueError, match=r"is text, not weights: 'anything'"):
        load_weights(build("cnn2c2f", 0), path, None)
    with pytest.raises(ValueError, match="missing"):
        load_weights(build("cnn2c2f", 0), tmp_path / "none", None)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"state_dict": {}, "args": argparse.Namespace()}, r"but state_dict \(an empty dict\), args \(argparse.Namesp"),
        ({"weights": {"fc.bias": torch.zeros(1)}, "epoch": 1}, "its body has 0 blocks|missing"),
        (
            {"net": {"a": torch.zeros(1)}, "model": {"a": torch.zeros(1)}},
            r"holds 2 state dicts \(net, model\), and one is",
        ),
        ([torch.zeros(1)], "holds no state dict, a dictionary of tensors by name, but list"),
        ({}, "holds no state dict, .*, but an empty dict"),
    ],
)
def test_what_holds_no_state_is_refused(held, message, tmp_path):
    path, _ = save(held, tmp_path)
    with pytest.raises(ValueError, match=message):
        load_weights(build("cnn2c2f", 0), path, None)
