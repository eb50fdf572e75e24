"""Weights trained elsewhere, read into a Classifier whatever their project calls its layers."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from crt.classifier import Classifier

_HOLDERS = ("state_dict", "net", "model")
_CONSTANTS = {"mean": "mean", "means": "mean", "std": "std", "stds": "std", "sds": "std"}

_ALIASES = (
    (r"^(fc|linear|classifier)\.(?=weight|bias)", "head."),
    # ViT-CIFAR
    (r"^fc\.0\.", "norm."),
    (r"^fc\.1\.", "head."),
    (r"^emb\.", "embed."),
    (r"^cls_token$", "cls"),
    (r"^pos_emb$", "positions"),
    (r"^enc\.", "layers."),
    (r"\.la([12])\.", r".norm\1."),
    (r"\.msa\.", ".attention."),
    (r"\.mlp\.3\.", ".mlp.2."),
)
"""What other projects call the last layer and the parts of a body that is no plain sequence, and what we do."""

_BLOCK_ALIASES = (
    (r"\.downsample\.", ".shortcut."),
    # DLA
    (r"\.prev_root\.", ".before."),
    (r"\.level_1\.", ".subtree."),
    (r"\.left_node\.", ".left."),
    (r"\.right_node\.", ".right."),
    (r"\.root\.conv\.", ".root.0."),
    (r"\.root\.bn\.", ".root.1."),
)
"""The same inside the blocks of a body that is a plain sequence."""


def load_weights(model: Classifier, path: Path, sha256: str | None, *, normalize: bool | None = None) -> str:
    """Fill a network with a file's weights; returns the file's SHA-256.

    The file holds a state dict, bare or under `state_dict`, `net` or `model`: of a Classifier, of a network alone, or
    of an nn.Sequential of normalization and network (`1.`); of each in DataParallel (`module.`) or not.
    `normalize` says whether the network takes normalized pixels, and must be given where the file does not tell.
    Without (MACER's own code), the model's constants become 0 and 1. Those that a file leaves out are the model's.

    ValueError, and the model as it was: a file that is missing, has another SHA-256 or holds more than tensors and
    plain containers; other constants than the model's; other layers or shapes.
    """
    digest, held = _read(path, sha256)
    try:
        constants, network = _split(_state_dict(held))
        state = _constants(model, constants, normalize) | _named(network, model.body)
        _compare(state, model.state_dict())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    model.load_state_dict(state)
    return digest


def _read(path: Path, sha256: str | None) -> tuple[str, object]:
    if not path.is_file():
        raise ValueError(f"{path}: missing")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and digest != sha256.lower():
        raise ValueError(f"{path}: its SHA-256 is {digest}, not {sha256}")
    try:
        return digest, torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no checkpoint makes the unpickler raise anything
        needed = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"needs {needed[1]}, and only tensors and plain containers are read, for the rest can run code (save its"
            " state dict alone in a file, where you trust it)"
            if needed
            else "torch.load cannot read it"
        )
        raise ValueError(f"{path}: {reason}") from error


def _state_dict(held: object) -> dict[str, Tensor]:
    states = [held] if _is_state_dict(held) else []
    if not states and isinstance(held, dict):
        states = [held[key] for key in _HOLDERS if _is_state_dict(held.get(key))]
    if len(states) != 1:
        found = ", ".join(map(str, held)) if isinstance(held, dict) else type(held).__name__
        raise ValueError(f"does not hold one state dict, bare or under {', '.join(_HOLDERS)}, but {found or 'nothing'}")
    return _without(states[0], "module.")


def _is_state_dict(value: object) -> bool:
    if not isinstance(value, dict) or not value:
        return False
    return all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())


def _without(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The state without a prefix, where all its names have it."""
    if all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _split(state: dict[str, Tensor]) -> tuple[dict[str, Tensor] | None, dict[str, Tensor]]:
    """The constants of a normalization layer, None where the file shows no such layer; and the network."""
    layer, behind = ("normalize.", "") if "normalize.mean" in state else ("0.", "1.")
    constants = {name.removeprefix(layer): tensor for name, tensor in state.items() if name.startswith(layer)}
    network = {name: tensor for name, tensor in state.items() if not name.startswith(layer)}
    if not (constants.keys() <= _CONSTANTS.keys() and all(name.startswith(behind) for name in network)):
        return None, state
    return constants, _without(_without(network, behind), "module.")


def _constants(model: Classifier, found: dict[str, Tensor] | None, normalize: bool | None) -> dict[str, Tensor]:
    """The normalization that the network was trained with, under the model's names."""
    if found is None and normalize is None:
        raise ValueError("does not tell whether its network takes normalized pixels (say so by normalize)")
    if found == {} and normalize is False:
        raise ValueError("its network stands behind another layer, and normalize says that there is none")
    wanted = {"mean": model.normalize.mean, "std": model.normalize.std}
    if normalize is False:
        wanted = {"mean": torch.zeros_like(wanted["mean"]), "std": torch.ones_like(wanted["std"])}
    for name, tensor in (found or {}).items():
        theirs, ours = tensor.flatten().float(), wanted[_CONSTANTS[name]].flatten().cpu()
        if not torch.equal(theirs, ours):
            kind, why = _CONSTANTS[name], "it goes by pipeline and dataset: choose the file's"
            raise ValueError(
                f"its pixels were normalized with {kind} {theirs.tolist()}, the model's is {ours.tolist()}"
                f" ({'normalize says that there is none' if normalize is False else why})"
            )
    return {f"normalize.{name}": tensor for name, tensor in wanted.items()}


def _named(network: dict[str, Tensor], body: nn.Module) -> dict[str, Tensor]:
    """The network's tensors under the model's names; ValueError where two would have the same."""
    if all(name.startswith(("body.", "head.")) for name in network):
        return network
    names = [_renamed(name, _ALIASES) for name in network]
    if isinstance(body, nn.Sequential):
        names = _placed([_renamed(name, _BLOCK_ALIASES) for name in names], body)
    named: dict[str, Tensor] = {}
    for name, tensor in zip(names, network.values(), strict=True):
        name = name if name.startswith("head.") else f"body.{name}"
        if name in named:
            raise ValueError(f"holds {name} under two names")
        named[name] = tensor
    return named


def _renamed(name: str, aliases: Iterable[tuple[str, str]]) -> str:
    for theirs, ours in aliases:
        name = re.sub(theirs, ours, name)
    return name


def _placed(names: list[str], body: nn.Sequential) -> list[str]:
    """Names that begin with a block's place in the body, for those that begin with what its project calls the block.

    Both are chains, and the blocks of both are numbered along them: they correspond one to one in the order of their
    numbers. Only a stem's convolution and BatchNorm share a number (`conv1`, `bn1`): they are taken in the order of the
    file, and in the other they would not fit.
    """
    split = [re.match(r"(\w+(?:\.\d+)?)\.(.+)", name) for name in names]
    blocks = list(dict.fromkeys(found[1] for found in split if found and found[1] != "head"))
    places = [place for place, module in body.named_children() if module.state_dict()]
    if len(blocks) != len(places):
        raise ValueError(f"its body has {len(blocks)} blocks{_some(blocks)}, the model's has {len(places)}")
    blocks.sort(key=lambda block: [int(number) for number in re.findall(r"\d+", block)])
    place = dict(zip(blocks, places, strict=True)) | {"head": "head"}
    return [f"{place[found[1]]}.{found[2]}" if found else name for name, found in zip(names, split, strict=True)]


def _compare(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """ValueError that lists the layers where two states differ."""
    shapes = {name: tensor.shape for name, tensor in wanted.items()}
    differences = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "of another shape": [name for name in found if found[name].shape != shapes.get(name, found[name].shape)],
    }
    if any(differences.values()):
        raise ValueError(
            "; ".join(f"{len(names)} {kind}{_some(names)}" for kind, names in differences.items() if names)
        )


def _some(names: list[str]) -> str:
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
