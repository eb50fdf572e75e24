"""Weights trained elsewhere, read into a Classifier whatever their project calls its layers."""

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from crt.checkpoint import read
from crt.checkpoint_file import sha256_of
from crt.classifier import Classifier
from crt.inert_pickle import Stored
from crt.state_dict import choose
from crt.wrappers import Unwrapped, some, unwrap

_FLOATS = ("float16", "bfloat16", "float32", "float64")

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


def load_weights(
    model: Classifier, path: Path, sha256: str | None, *, normalize: bool | None = None, key: str | None = None
) -> str:
    """Fill a network with a file's weights; returns the file's SHA-256.

    The file is one of torch.save or safetensors. It holds a state dict, at its top or in its dictionaries (`key`
    chooses among several): of a Classifier, of a network alone, or of an nn.Sequential of normalization and network
    (`1.`), behind any wrappers' prefixes (`module.`, `_orig_mod.`, …). Nothing in the file is run. Half and double
    precision become float32, and BatchNorm's counts of batches may be missing.
    `normalize` says whether the network takes normalized pixels, and must be given where the file does not tell.
    Without (MACER's own code), the model's constants become 0 and 1. Those that a file leaves out are the model's.

    Warns of what the file holds besides: other state dicts, an average, tensors that are no layers.
    ValueError, and the model as it was: a file that is missing, has another SHA-256 or is no checkpoint; other
    constants than the model's; other layers or shapes; tensors that are not finite numbers in full.
    """
    digest = sha256_of(path)
    if sha256 is not None and digest != sha256.lower():
        raise ValueError(f"{path}: its SHA-256 is {digest}, not {sha256}")
    try:
        chosen = choose(read(path), key)
        found = unwrap(chosen.state)
        _check_kinds(found.network)
        constants = _constants(model, found, normalize)
        network = _with_counts(_named(found.network, model.body), model.state_dict())
        _compare(network, model.state_dict(), constants)
        state = constants | {name: _numbers(tensor, name) for name, tensor in network.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: is damaged: containers in containers without end") from error
    model.load_state_dict(state)
    ignored = [f"ignores {some([*found.ignored])}, which are no layers"] if found.ignored else []
    if remarks := [*chosen.remarks, *ignored]:
        warnings.warn(f"{path}: {'; '.join(remarks)}", stacklevel=2)
    return digest


def _check_kinds(network: dict[str, Stored]) -> None:
    """ValueError that names tensors that are no weights: integer, complex, sparse, …"""
    wrong: dict[str, list[str]] = {}
    for name, tensor in network.items():
        # BatchNorm's counts of batches are integers.
        if tensor.kind not in _FLOATS and (tensor.shape or not re.match("u?int", tensor.kind)):
            wrong.setdefault(tensor.kind, []).append(name)
    if wrong:
        said = "; ".join(f"{_count(len(names))} of {kind} ({some(names)})" for kind, names in wrong.items())
        raise ValueError(f"{said} (allowed: dense tensors of {', '.join(_FLOATS)})")


def _numbers(tensor: Stored, name: str) -> Tensor:
    """The tensor in float32; ValueError where it cannot be read or has numbers that are none."""
    try:
        values = tensor.load()
    except Exception as error:  # damaged sizes make a tensor's constructor raise anything
        raise ValueError(f"is truncated or damaged at {name} ({type(error).__name__}: {error})") from error
    if not tensor.kind.startswith(("int", "uint")):
        values = values.float()
        bad = values.numel() - int(values.isfinite().sum())
        if bad:
            raise ValueError(
                f"{name}: {bad:,} of {values.numel():,} values are NaN or infinite in float32 (allowed: finite numbers)"
            )
    return values


def _with_counts(network: dict[str, Stored], wanted: dict[str, Tensor]) -> dict[str, Stored]:
    """The network with BatchNorm's counts of batches, which no output depends on, where a file leaves them out."""
    absent = [name for name in wanted if name.endswith(".num_batches_tracked") and name not in network]
    for name in absent:
        if f"{name.removesuffix('num_batches_tracked')}running_mean" in network:
            network[name] = Stored("int64", (), lambda name=name: wanted[name])
    return network


def _constants(model: Classifier, found: Unwrapped, normalize: bool | None) -> dict[str, Tensor]:
    """The normalization that the network was trained with, under the model's names."""
    if not found.normalized and normalize is None:
        raise ValueError("does not tell whether its network takes normalized pixels (say so by normalize)")
    if found.normalized and not found.constants and normalize is False:
        raise ValueError("its network stands behind another layer, and normalize says that there is none")
    wanted = {"mean": model.normalize.mean, "std": model.normalize.std}
    if normalize is False:
        wanted = {"mean": torch.zeros_like(wanted["mean"]), "std": torch.ones_like(wanted["std"])}
    for kind, tensor in found.constants:
        theirs, ours = tensor.load().flatten(), wanted[kind].flatten().cpu()
        # Half precision rounds the constants, too.
        if not torch.equal(theirs.float(), ours.to(theirs.dtype).float()):
            why = "it goes by pipeline and dataset: choose the file's"
            raise ValueError(
                f"its pixels were normalized with {kind} {theirs.float().tolist()}, the model's is {ours.tolist()}"
                f" ({'normalize says that there is none' if normalize is False else why})"
            )
    return {f"normalize.{name}": tensor for name, tensor in wanted.items()}


def _named(network: dict[str, Stored], body: nn.Module) -> dict[str, Stored]:
    """The network's tensors under the model's names; ValueError where two would have the same."""
    if all(name.startswith(("body.", "head.")) for name in network):
        return network
    names = [_renamed(name, _ALIASES) for name in network]
    if isinstance(body, nn.Sequential):
        names = _placed([_renamed(name, _BLOCK_ALIASES) for name in names], body)
    named: dict[str, Stored] = {}
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
        raise ValueError(f"its body has {len(blocks)} blocks ({some(blocks)}), the model's has {len(places)}")
    blocks.sort(key=lambda block: [int(number) for number in re.findall(r"\d+", block)])
    place = dict(zip(blocks, places, strict=True)) | {"head": "head"}
    return [f"{place[found[1]]}.{found[2]}" if found else name for name, found in zip(names, split, strict=True)]


def _compare(found: Mapping[str, Stored], wanted: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> None:
    """ValueError that lists the layers where a network differs from the one that is wanted."""
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items() if name not in constants}
    differences = {
        "missing": [name for name in shapes if name not in found],
        "unexpected": [name for name in found if name not in shapes],
        "of another shape": [name for name in found if found[name].shape != shapes.get(name, found[name].shape)],
    }
    if any(differences.values()):
        raise ValueError(
            "; ".join(f"{len(names)} {kind} ({some(names)})" for kind, names in differences.items() if names)
        )


def _count(number: int) -> str:
    return f"{number} tensor{'s' if number > 1 else ''}"
