"""`--set recipe.epochs=3`: values put into a manifest as its file holds it, before anything of it is checked."""

from dataclasses import dataclass, field
from typing import Any

from bench.manifest.blocks import CellBlock, ManifestFile, SharedKeys
from bench.manifest.messages import unknown_key
from bench.manifest.plugin_spec import arguments, judging_arguments
from bench.manifest.strict_yaml import parse_yaml
from crt.plugins import declared

_PLUGINS = {"method": "crt.methods", "evals": "crt.evals"}
"""Keys whose values name plug-ins, and the packages of these."""
_ONLY_IN_BLOCKS = tuple(key for key in CellBlock.model_fields if key not in SharedKeys.model_fields)


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
    blocks = content.get("cells")
    if keys[0] == "cells" and len(keys) > 1 and isinstance(blocks, list):
        if keys[1].isdecimal():
            return content | {"cells": _in_block(setter, content, blocks, _index(keys[1], blocks), keys[2:])}
        keys = keys[1:]
    if keys[0] in CellBlock.model_fields:
        return _in_every_block(setter, content, blocks if isinstance(blocks, list) else [], keys)
    if keys[0] not in ManifestFile.model_fields:
        raise ValueError(f"{keys[0]}: {unknown_key((*ManifestFile.model_fields, *_ONLY_IN_BLOCKS))}")
    return setter.put(content, keys)


def _in_block(setter: "_Setter", content: dict, blocks: list, which: int, keys: list[str]) -> list:
    """The blocks with a value set in one, which gets a key of its own where it has it from the top."""
    block = blocks[which]
    if isinstance(block, dict):
        block = {key: content[key] for key in keys[:1] if key in content} | block
    return [*blocks[:which], setter.put(block, keys), *blocks[which + 1 :]]


def _in_every_block(setter: "_Setter", content: dict, blocks: list, keys: list[str]) -> dict:
    """Set in the blocks that have the key and, for the others, at the top."""
    key = keys[0]
    own = [isinstance(block, dict) and (key in block or key in _ONLY_IN_BLOCKS) for block in blocks]
    if blocks:
        changed = [setter.put(block, keys) if has else block for block, has in zip(blocks, own, strict=True)]
        content = content | {"cells": changed}
    # A block without a teacher or a monitor does not get a part of one.
    apart = len(keys) > 1 and any(own) and CellBlock.model_fields[key].get_default() is None
    return setter.put(content, keys) if key in content or not (all(own) or apart) else content


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
