"""Parse the mapping of a manifest into its head and its blocks, each checked key by key."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.manifest.blocks import CellBlock, Head, ManifestFile, SharedKeys
from bench.manifest.messages import no_mapping, shown, typed, unknown_key
from crt.text import shorten


class ParsedManifest:
    """The head of a manifest and its blocks, with the keys from the top of the file filled in.

    ValueError with place, value and what is allowed for a key, a type or a range that the models refuse.
    """

    def __init__(self, content: dict):
        for key in content:
            if key not in ManifestFile.model_fields:
                raise ValueError(f"manifest.{shorten(str(key))}: {unknown_key(tuple(ManifestFile.model_fields))}")
        self._shared = {key: value for key, value in content.items() if key in SharedKeys.model_fields}
        head = {"cells": None} | {key: content[key] for key in content if key not in self._shared}
        self.head = typed(Head, head, "")
        self.written = self.head.cells
        """The blocks as they are in the file, for error messages."""
        self.title = _text(self.head.title, "title") if "title" in self.head.model_fields_set else None
        self.blocks = [self._block(i) for i in range(len(self.written))]
        self.named: dict[str, int] = {}
        """Number of the block with each name."""
        for i, block in enumerate(self.blocks):
            if block.name is not None and self.named.setdefault(block.name, i) != i:
                raise ValueError(f"cells[{i}].name: {shown(block.name)} is the name of cells[{self.named[block.name]}]")

    def _block(self, i: int) -> CellBlock:
        if not isinstance(self.written[i], dict):
            raise ValueError(f"cells[{i}]: {no_mapping(self.written[i], tuple(CellBlock.model_fields))}")
        with self.pointing(i):
            return typed(CellBlock, self._shared | self.written[i], f"cells[{i}]")

    @contextmanager
    def pointing(self, i: int) -> Iterator[None]:
        """Within this context, an error of block `i` says so if its key is given at the top of the file."""
        try:
            yield
        except ValueError as error:
            place = re.match(rf"{re.escape(f'cells[{i}]')}\.(\w+)", str(error))
            if place and place[1] in self._shared and place[1] not in self.written[i]:
                raise ValueError(f"{error}; {place[1]} is the one at the top of the file") from None
            raise


def _text(value: Any, where: str) -> str:
    """The text joined into one line; ValueError for a value that YAML does not read as text."""
    line = re.sub(r"[\t\n]+", " ", value).strip() if isinstance(value, str) else ""
    if not line:
        words = shorten(json.dumps(value, default=str, ensure_ascii=False))
        raise ValueError(f"{where}: {words} (allowed: text, in quotes where YAML reads a date, a number or a list)")
    return line
