"""Conversion of other projects' names of layers to those of this project's architectures."""

import re
from collections.abc import Iterable

from torch import nn

from crt.models.import_weights.inert_pickle import Stored
from crt.models.import_weights.wrappers import some

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
"""Names of the last layer, and of parts of a body that is not a plain sequence, in other projects and here."""

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
"""Names of parts inside the blocks of a body that is a plain sequence, in other projects and here."""


def named(network: dict[str, Stored], body: nn.Module) -> dict[str, Stored]:
    """The network's tensors by the model's names; ValueError where two would have the same name."""
    if all(name.startswith(("body.", "head.")) for name in network):
        return network
    names = [_renamed(name, _ALIASES) for name in network]
    if isinstance(body, nn.Sequential):
        names = _placed([_renamed(name, _BLOCK_ALIASES) for name in names], network.values(), body)
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


def _placed(names: list[str], tensors: Iterable[Stored], body: nn.Sequential) -> list[str]:
    """Names that begin with a block's number in the body, for names that begin with another project's block name.

    Both are chains whose blocks are numbered along them, so that they correspond one to one in the order of their
    numbers. Only a stem's convolution and BatchNorm share a number (`conv1`, `bn1`); of such blocks, each position
    takes the first that fits.
    """
    split = [re.match(r"(\w+(?:\.\d+)?)\.(.+)", name) for name in names]
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for match, tensor in zip(split, tensors, strict=True):
        if match and match[1] != "head":
            shapes.setdefault(match[1], {})[match[2]] = tensor.shape
    wanted = {name: _shapes(module) for name, module in body.named_children() if module.state_dict()}
    if len(shapes) != len(wanted):
        raise ValueError(f"its body has {len(shapes)} blocks ({some([*shapes])}), the model's has {len(wanted)}")
    place, left = {"head": "head"}, sorted(shapes, key=_numbers_in)
    for name, shape in wanted.items():
        candidates = [block for block in left if _numbers_in(block) == _numbers_in(left[0])]
        block = next((block for block in candidates if shapes[block].items() <= shape.items()), candidates[0])
        place[block] = name
        left.remove(block)
    return [f"{place[match[1]]}.{match[2]}" if match else name for name, match in zip(names, split, strict=True)]


def _numbers_in(block: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", block)]


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
