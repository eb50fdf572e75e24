"""`--set recipe.epochs=3`: set values in the content of a manifest file, before it is checked."""

from dataclasses import dataclass, field
from typing import Any

from bench.manifest.blocks import CellBlock, ManifestFile, SharedKeys
from bench.manifest.messages import shown, unknown_key
from bench.manifest.plugin_spec import arguments, judging_arguments
from bench.manifest.strict_yaml import parse_yaml
from crt.plugins import declaration, modules
from crt.text import shorten

_PLUGINS = {"method": "crt.methods", "evals": "crt.evals"}
"""Packages of the plug-ins, by the key whose values name them."""
_DEEPEST = 50
"""Keys of a place; a manifest has fewer levels."""
_ONLY_IN_BLOCKS = tuple(key for key in CellBlock.model_fields if key not in SharedKeys.model_fields)


def override(content: dict, words: str) -> dict:
    """The content with one value set, as `recipe.epochs=3`, `method.eps=0.5` or `cells.0.seed=1` says.

    A key of a block is set in every block that has it, and at the top for the other blocks; `cells.0.` selects one
    block. A list in the path is followed into all its items, or into one item given by its number. `method.` and
    `evals.` are followed by an argument, which is set in every plug-in that has it, or by a name and an argument.
    ValueError with what is allowed.
    """
    place, equals, text = words.partition("=")
    words = shorten(words)
    keys = place.strip().replace("[", ".").replace("]", "").split(".")
    if not equals or not all(keys) or len(keys) > _DEEPEST:
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
    """Set the value at the top, in one block or in all blocks."""
    blocks = content.get("cells")
    if keys[0] == "cells" and len(keys) > 1 and isinstance(blocks, list):
        if keys[1].isdecimal():
            return content | {"cells": _in_block(setter, content, blocks, _index(keys[1], blocks), keys[2:])}
        keys = keys[1:]
    if keys[0] in CellBlock.model_fields:
        return _in_every_block(setter, content, blocks if isinstance(blocks, list) else [], keys)
    if keys[0] not in ManifestFile.model_fields:
        raise ValueError(f"{shorten(keys[0])}: {unknown_key((*ManifestFile.model_fields, *_ONLY_IN_BLOCKS))}")
    return setter.put(content, keys)


def _in_block(setter: "_Setter", content: dict, blocks: list, index: int, keys: list[str]) -> list:
    """Set the value in one block, after copying the key into it if only the top of the file has it."""
    block = blocks[index]
    if isinstance(block, dict):
        block = {key: content[key] for key in keys[:1] if key in content} | block
    return [*blocks[:index], setter.put(block, keys), *blocks[index + 1 :]]


def _in_every_block(setter: "_Setter", content: dict, blocks: list, keys: list[str]) -> dict:
    """Set the value in the blocks that have the key and, for the other blocks, at the top."""
    key = keys[0]
    has_key = [isinstance(block, dict) and (key in block or key in _ONLY_IN_BLOCKS) for block in blocks]
    if blocks:
        changed = [setter.put(block, keys) if has else block for block, has in zip(blocks, has_key, strict=True)]
        content = content | {"cells": changed}
    # A block without a teacher or a monitor must not get a part of one through the top of the file.
    optional = len(keys) > 1 and any(has_key) and CellBlock.model_fields[key].get_default() is None
    return setter.put(content, keys) if key in content or not (all(has_key) or optional) else content


def _index(word: str, items: list) -> int:
    if int(word) >= len(items):
        raise ValueError(f"no item {word} (allowed: 0 to {len(items) - 1})")
    return int(word)


@dataclass
class _Setter:
    """Sets one value at every place that a path leads to, in copies of the content."""

    value: Any
    done: bool = False
    takers: dict[str, None] = field(default_factory=dict)
    """Arguments of the plug-ins on the path, in order: the allowed places of an error message."""

    def put(self, node: Any, keys: list[str], package: str = "") -> Any:
        """The node with the value set at a path; `package` holds the plug-ins that the node names."""
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
            raise ValueError(f"{shorten(key)}: no key of {shown(node)} (allowed: the whole value)")
        node = node or {}
        if set(node) == {"cell"} != {key}:
            return node  # a teacher given by the name of its cell; the value is set in the block of that cell
        return node | {key: self.put(node.get(key), rest, _PLUGINS.get(key, ""))}

    def _put_argument(self, node: Any, keys: list[str], package: str) -> Any:
        """The plug-in with an argument set, if the path names it, or names no plug-in and it has the argument."""
        name, given = next(iter(node.items())) if isinstance(node, dict) and len(node) == 1 else (node, None)
        if not isinstance(name, str) or name not in modules(package):
            return node
        allowed = (*arguments(declaration(package, name)), *judging_arguments(package))
        self.takers |= dict.fromkeys(f"{name}.{argument}" for argument in allowed)
        if keys[0] == name:
            return {name: self.put(given, keys[1:])}
        return {name: self.put(given, keys)} if keys[0] in allowed else node
