"""`--set recipe.epochs=3`: values put into a manifest as its file holds it, before anything of it is checked."""

from dataclasses import dataclass, field
from typing import Any

from bench.blocks import CellBlock, ManifestFile, SharedKeys
from bench.messages import unknown_key
from bench.specs import arguments, judging_arguments
from bench.yamls import parse_yaml
from crt.plugins import declared

_PLUGINS = {"method": "crt.methods", "evals": "crt.evals"}
"""Keys whose values name plug-ins, and the packages of these."""


def override(content: dict, words: str) -> dict:
    """The manifest with one value set, by words such as `recipe.epochs=3`, `method.eps=0.5` or `cells.0.seed=1`.

    A key of a block is set in every block that has it, and at the top for the others; `cells.0.` names one block. On
    the way, a list is entered in all its items, or by a number in one. After a method or an evaluation comes an
    argument, which is set wherever there is such an argument, or a name and an argument. ValueError with what is
    allowed.
    """
    place, equals, text = words.partition("=")
    keys = place.strip().replace("[", ".").replace("]", "").split(".")
    if not equals or not all(keys):
        raise ValueError(f"--set {words}: no place and value (allowed: PLACE=VALUE, such as recipe.epochs=3)")
    setter = _Setter(parse_yaml(text, f"--set {words}"))
    try:
        changed = _in_manifest(setter, content, keys)
    except ValueError as error:
        raise ValueError(f"--set {words}: {error}") from None
    if not setter.done:
        allowed = ", ".join(setter.takers) or "what is there"
        raise ValueError(f"--set {words}: nothing takes it (allowed: {allowed})")
    return changed


def _in_manifest(setter: "_Setter", content: dict, keys: list[str]) -> dict:
    """Set at the top, in one block or in all."""
    first, *rest = keys
    blocks = content.get("cells")
    if first == "cells" and rest and isinstance(blocks, list):
        if not rest[0].isdecimal():
            rest = ["*", *rest]
        which, *inside = rest
        chosen = range(len(blocks)) if which == "*" else [_index(which, blocks)]
        if not inside:
            return content | {"cells": setter.put(blocks, rest)}
        # A block that has the key from the top gets its own.
        above = {key: content[key] for key in inside[:1] if key in content}
        put = lambda block: setter.put(above | block if isinstance(block, dict) else block, inside)  # noqa: E731
        return content | {"cells": [put(block) if i in chosen else block for i, block in enumerate(blocks)]}
    if first not in CellBlock.model_fields:
        if first not in ManifestFile.model_fields:
            raise ValueError(f"{first}: {unknown_key((*ManifestFile.model_fields, *_ONLY_IN_BLOCKS))}")
        return setter.put(content, keys)
    blocks = blocks if isinstance(blocks, list) else []
    has = [isinstance(block, dict) and (first in block or first in _ONLY_IN_BLOCKS) for block in blocks]
    changed = [setter.put(block, keys) if own else block for block, own in zip(blocks, has, strict=True)]
    content = content | {"cells": changed} if blocks else content
    # A block without a teacher or a monitor does not get a part of one.
    apart = len(keys) > 1 and any(has) and CellBlock.model_fields[first].get_default() is None
    if first in content or not (all(has) or apart):
        return setter.put(content, keys)
    return content


_ONLY_IN_BLOCKS = tuple(key for key in CellBlock.model_fields if key not in SharedKeys.model_fields)


def _index(word: str, items: list) -> int:
    if int(word) >= len(items):
        raise ValueError(f"no item {word} (allowed: 0 to {len(items) - 1})")
    return int(word)


@dataclass
class _Setter:
    """Puts one value at every place that a path leads to, into copies of what is there."""

    value: Any
    done: bool = False
    takers: dict[str, None] = field(default_factory=dict)
    """Arguments of the plug-ins that were met, in their order."""

    def put(self, node: Any, keys: list[str], package: str = "") -> Any:
        """The node with the value at a path; `package` has the plug-ins that the node names."""
        if not keys:
            self.done = True
            return self.value
        key, *rest = keys
        if isinstance(node, list):
            chosen = [_index(key, node)] if key.isdecimal() else range(len(node))
            inside = rest if key.isdecimal() else keys
            return [self.put(item, inside, package) if i in chosen else item for i, item in enumerate(node)]
        if package:
            return self._put_argument(node, keys, package)
        if node is not None and not isinstance(node, dict):
            raise ValueError(f"{key}: no key of {node!r} (allowed: the whole value)")
        node = node or {}
        if set(node) == {"cell"} != {key}:
            return node  # a teacher by the name of its cell, which is set in that cell's own block
        return node | {key: self.put(node.get(key), rest, _PLUGINS.get(key, ""))}

    def _put_argument(self, node: Any, keys: list[str], package: str) -> Any:
        """A plug-in with an argument set, if it is the one named or, where none is named, has such an argument."""
        name, given = next(iter(node.items())) if isinstance(node, dict) and len(node) == 1 else (node, None)
        if not isinstance(name, str) or name not in declared(package):
            return node
        own = (*arguments(declared(package)[name]), *judging_arguments(package))
        self.takers |= dict.fromkeys(f"{name}.{argument}" for argument in own)
        if keys[0] == name:
            return {name: self.put(given, keys[1:])}
        return {name: self.put(given, keys)} if keys[0] in own else node
