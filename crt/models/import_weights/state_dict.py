"""Choice of a network's state dict among the dictionaries of a checkpoint."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from crt.models.import_weights.inert_pickle import Record, Stored, stored
from crt.models.import_weights.wrappers import components, has_matrix, some, strippable, stripped, under

_DEPTH = 4
"""Largest depth of nested dictionaries that are searched."""

_AVERAGE = re.compile(r"(?<![a-z])(ema|swa|avg|average|averaged|polyak|shadow)(?![a-z])", re.IGNORECASE)
"""Names of weights that are averages of those that the optimizer trained."""


class Chosen(NamedTuple):
    """A state dict of a checkpoint."""

    state: dict[str, Stored]
    remarks: tuple[str, ...]
    """Messages about decisions that a user may want to change."""


def choose(tree: Any, key: str | None) -> Chosen:
    """The state dict under a key or, without a key, the only one that holds a network.

    Trained weights are preferred to their averages (`ema`, `swa`, …). ValueError where there is none, where several are
    possible, and where there is none under the key.
    """
    states, modules = dict(_states(tree, "")), list(_modules(tree))
    for path, state in list(states.items()):
        states |= _copies(path, state)
    networks = {path: state for path, state in states.items() if has_matrix(state)} or states
    # A dictionary of dictionaries is not a state dict, even if it also contains tensors.
    inner = [path for path in networks if not any(other != path and _within(other, path) for other in networks)]
    names = [path for path in states if path]
    if key is not None and key not in names:
        raise ValueError(f"holds no state dict under key {key!r} (allowed: {', '.join(names) or 'no key'})")
    trained = [path for path in inner if not _AVERAGE.search(path)] or inner
    if key is None and len(trained) != 1:
        raise ValueError(_none_or_several(tree, trained, modules))
    path = trained[0] if key is None else key
    return Chosen(states[path], tuple(_remarks(path, key, states)))


def _remarks(path: str, key: str | None, states: Mapping[str, dict[str, Stored]]) -> Iterator[str]:
    if key is not None:
        return
    holders = [other for other in states if other != path and _within(path, other)]
    parts = {other: state for other, state in states.items() if other not in holders}
    loose = {_joined(holder, name): {name: tensor} for holder in holders for name, tensor in states[holder].items()}
    beside = [other for other, state in parts.items() if other != path and _has_numbers(state)]
    beside += [
        name for name, state in loose.items() if _has_numbers(state) and not any(_within(name, p) for p in parts)
    ]
    if beside:
        yield f"uses {path or 'the tensors at its top'}, and not {some(beside)} (key chooses)"
    elif _AVERAGE.search(path):
        yield f"uses {path}, an average of weights, for there is no other"


def _has_numbers(state: Mapping[str, Stored]) -> bool:
    """True if the tensors may be weights or constants, unlike a random state or an accuracy."""
    return any(tensor.shape and "float" in tensor.kind for tensor in state.values())


def _none_or_several(tree: Any, paths: list[str], modules: list[str]) -> str:
    if paths:
        return f"holds {len(paths)} state dicts ({', '.join(paths)}), and one is needed (choose it by key)"
    if modules:
        return (
            f"holds a pickled module ({', '.join(modules)}), which only running its own code can build (save its"
            " state_dict() alone, where you trust the file)"
        )
    return f"holds no state dict, a dictionary of tensors by name, but {some([*_described(tree, '')])}"


def _described(node: Any, path: str, depth: int = _DEPTH) -> Iterator[str]:
    """Descriptions of the values in a file's dictionaries."""
    if isinstance(node, dict) and node and depth:
        for key, value in node.items():
            yield from _described(value, _joined(path, key.path if isinstance(key, Record) else str(key)), depth - 1)
    else:
        yield f"{path} ({_what(node)})" if path else _what(node)


def _what(value: Any) -> str:
    if stored(value):
        return "a tensor"
    if isinstance(value, dict | list | tuple) and not value and type(value).__module__ == "builtins":
        return f"an empty {type(value).__name__}"
    if not isinstance(value, Record):
        return type(value).__name__
    return "a NumPy array" if value.path.endswith("._reconstruct") else value.path


def _states(node: Any, path: str, above: tuple[int, ...] = ()) -> Iterator[tuple[str, dict[str, Stored]]]:
    """Yield dictionaries that hold tensors by name, with the path of their keys; an optimizer's are left out."""
    if not isinstance(node, dict | list | tuple) or id(node) in above or len(above) == _DEPTH:
        return
    named = node if isinstance(node, dict) else {str(place): value for place, value in enumerate(node)}
    if "param_groups" in named:
        return
    items = [(name, value) for name, value in named.items() if isinstance(name, str)]
    tensors = {name: tensor for name, value in items if (tensor := stored(value))}
    if tensors and named is node:
        yield path, tensors
    for name, value in items:
        yield from _states(value, _joined(path, name), (*above, id(node)))


def _modules(tree: Any) -> Iterator[str]:
    """Class names of pickled modules at the top or one level below."""
    for value in (tree, *(tree.values() if isinstance(tree, dict) else ())):
        if isinstance(value, Record) and value.is_module:
            yield value.path


def _within(path: str, other: str) -> bool:
    """True if a path is equal to another or continues it."""
    return not other or path == other or path.startswith(f"{other}.")


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _copies(path: str, state: dict[str, Stored]) -> dict[str, dict[str, Stored]]:
    """Networks in one state dict that are copies of each other, such as `model.` and `ema_model.`, by their paths."""
    before, heads = "", components(state)
    while len(heads) == 1 and strippable(state):
        before, state = f"{before}{heads[0]}.", stripped(state, heads[0])
        heads = components(state)
    parts = {head: stripped(under(state, head), head) for head in heads}
    parts = {head: part for head, part in parts.items() if has_matrix(part)}
    shapes = [{name: tensor.shape for name, tensor in part.items()} for part in parts.values()]
    if len(parts) < 2 or any(part != shapes[0] or len(part) < 2 for part in shapes):
        return {}
    rest = {name: tensor for name, tensor in state.items() if name.split(".")[0] not in parts}
    return {_joined(path, f"{before}{head}"): rest | under(state, head) for head in parts}
