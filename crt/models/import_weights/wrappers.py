"""Removal of wrappers' prefixes, in any nesting, and of tensors that are no layers from a state dict."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from crt.models.import_weights.inert_pickle import Stored

_WRAPPERS = {"module", "model", "net", "network", "_orig_mod", "ema_model"}
"""Prefixes of DataParallel, AveragedModel, Lightning, torch.compile, …; the whole network has the prefix."""

_CONSTANTS = {
    **dict.fromkeys(("mean", "means", "mu", "new_mean", "pixel_mean", "image_mean"), "mean"),
    **dict.fromkeys(("std", "stds", "sd", "sds", "sigma", "new_std", "pixel_std", "image_std"), "std"),
}
"""Names of a normalization layer's buffers in other projects."""

_COUNTERS = {"n_averaged", "num_updates", "decay", "total_ops", "total_params", "initted", "step"}
"""Names of numbers that averaging and profilers store among a network's tensors."""

_LOSS = re.compile(r"(.*_)?(loss|criterion|loss_fn|criterion_fn|metrics?|acc|accuracy)\d*", re.IGNORECASE)
"""Names of the parts of a LightningModule that do not affect its network's output."""


class Unwrapped(NamedTuple):
    """A state dict without the prefixes that all names of its network share."""

    network: dict[str, Stored]
    constants: tuple[tuple[str, Stored], ...]
    """`mean` or `std` of the normalization layer, each with its tensor."""
    normalized: bool
    """True if the file shows that a normalization layer precedes the network."""
    ignored: tuple[str, ...]
    """Names of tensors that are no layers."""


def unwrap(state: Mapping[str, Stored]) -> Unwrapped:
    """Remove the prefixes that all names share, one after another, and set constants and harmless tensors apart.

    The normalization layer and the harmless tensors may be inside any of the wrappers. ValueError where tensors that
    may be layers are outside a wrapped network.
    """
    state, constants, normalized, ignored = dict(state), [], False, []
    while True:
        harmless = [name for name in state if _harmless(name, state)]
        ignored += harmless
        layer = [name for name in state if name not in harmless and _is_constant(name, state)]
        constants += [(_CONSTANTS[name.rsplit(".", 1)[-1]], state[name]) for name in layer]
        state = {name: tensor for name, tensor in state.items() if name not in {*harmless, *layer}}
        heads = components(state)
        if len(heads) != 1 or not strippable(state):
            break
        # In an nn.Sequential, a part before the network without tensors is a normalization layer.
        normalized |= heads[0] == "1"
        state = stripped(state, heads[0])
    for wrapped in _WRAPPERS.intersection(heads):
        beside = {name: tensor for name, tensor in state.items() if not name.startswith(f"{wrapped}.")}
        if beside and not has_matrix(beside):
            raise ValueError(f"holds {some([*beside])} beside its network, {wrapped}, and they may be layers of it")
    return Unwrapped(state, tuple(constants), normalized or bool(constants), tuple(ignored))


def _harmless(name: str, state: Mapping[str, Stored]) -> bool:
    """True if a tensor does not affect the network's output: a counter, or part of a loss, a metric or an attack."""
    head, leaf = name.split(".")[0], name.rsplit(".", 1)[-1]
    if head == "attacker":
        # In MadryLab's robustness, the attack holds the network and the normalization layer a second time.
        return any(other.startswith("model.") for other in state)
    if leaf in _COUNTERS:
        return sum(state[name].shape) <= 1
    return head != name and bool(_LOSS.fullmatch(head)) and len(state[name].shape) < 2


def _is_constant(name: str, state: Mapping[str, Stored]) -> bool:
    """True if a tensor is a normalization constant, of a layer without other tensors or of the wrapper."""
    parent, _, leaf = name.rpartition(".")
    if leaf not in _CONSTANTS or "." in parent or max((1, *state[name].shape)) > 4:
        return False
    return not parent or all(other.rpartition(".")[2] in _CONSTANTS for other in under(state, parent))


def has_matrix(state: Mapping[str, Stored]) -> bool:
    """True if a state dict has a weight of two or more dimensions, as every network has."""
    return any(len(tensor.shape) > 1 for tensor in state.values())


def components(state: Iterable[str]) -> list[str]:
    """The distinct first components of the names."""
    return list(dict.fromkeys(name.split(".")[0] for name in state))


def under(state: Mapping[str, Stored], head: str) -> dict[str, Stored]:
    """Tensors whose names begin with a component."""
    return {name: tensor for name, tensor in state.items() if name.startswith(f"{head}.")}


def strippable(state: Collection[str]) -> bool:
    """True if the component that all names begin with is a wrapper and not the network's only layer."""
    return all("." in name for name in state) and any(name.count(".") > 1 for name in state)


def stripped(state: Mapping[str, Stored], head: str) -> dict[str, Stored]:
    """The state dict without the first component of its names."""
    return {name.removeprefix(f"{head}."): tensor for name, tensor in state.items()}


def some(names: list[str]) -> str:
    """The first three names."""
    return f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
