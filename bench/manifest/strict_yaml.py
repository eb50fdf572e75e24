"""Strict YAML loading: plain data only; errors name the file and line."""

import errno
import os
import re
import select
import stat
import time
from pathlib import Path
from typing import Any

import yaml

from crt.text import CONTROL, shorten

_LARGEST = 256 * 1024
"""Characters of a YAML text: some eighty times those of the largest manifest of a paper."""
_NODES = 50_000
"""Values and keys of a text, those that an alias repeats included."""
_DEEPEST = 50
"""Levels of lists and mappings within each other."""
_SILENCE = 1.0
"""Seconds after which a pipe that brings nothing is given up."""
_TAGS = ("binary", "set", "omap", "pairs")
"""Tags of YAML for data that no manifest has."""


class _Loader(yaml.SafeLoader):
    """Loads plain data. `10:00:00` is a string; a duplicate key or a control character is an error."""

    def __init__(self, text: str):
        super().__init__(text)
        self._depth = self._nodes = 0

    def get_single_node(self) -> yaml.Node | None:
        """The root; an error where aliases repeat more than a manifest has, or a node contains itself."""
        root = super().get_single_node()
        if root is not None:
            _count(root, {})
        return root

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; an error where it is too deep, or one too many."""
        self._depth, self._nodes = self._depth + 1, self._nodes + 1
        if self._nodes > _NODES:
            raise _refusal(f"more than {_NODES:,} values", self.peek_event())
        if self._depth > _DEEPEST:
            raise _refusal(f"more than {_DEEPEST} levels", self.peek_event())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; an error with its line for one that its tag does not fit."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            text = repr(node.value) if isinstance(node.value, str) else "this"
            raise _refusal(f"{shorten(text)} is no {node.tag.rpartition(':')[2]}", node) from None

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """The text of a scalar, which may have several lines."""
        text = super().construct_scalar(node)
        if control := CONTROL.search(re.sub(r"[\t\n]", "", text)):
            raise _refusal(f"{shorten(repr(text))} holds the control character {control[0]!r}", node)
        return text


def _refusal(why: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, why, place.start_mark)


def _count(node: yaml.Node, counts: dict[int, int]) -> int:
    """Number of nodes in a node, with those that aliases repeat; `counts` has them by id, 0 for one being counted."""
    found = counts.get(id(node))
    if found == 0:
        raise _refusal("an alias within what it names", node)
    if found is None:
        counts[id(node)] = 0
        found = 1 + sum(_count(part, counts) for part in _parts(node))
        counts[id(node)] = found
    if found > _NODES:
        raise _refusal(f"more than {_NODES:,} values, with those that aliases repeat", node)
    return found


def _parts(node: yaml.Node) -> list[yaml.Node]:
    """The items of a list, or the keys and values of a mapping."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag not in [f"tag:yaml.org,2002:{name}" for name in _TAGS]
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, _INT if tag == "tag:yaml.org,2002:int" else pattern) for tag, pattern in resolvers]
    for _INT in [re.compile(r"^[-+]?(0|[1-9][0-9_]*)$")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


_AS_WRITTEN = ("paper", "published")
"""Keys under which numbers stay text, since the digits of a printed figure tell how precise it is."""


def _keep_digits(node: yaml.Node) -> None:
    """Make text of all numbers below a node."""
    if isinstance(node, yaml.ScalarNode) and node.tag in ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int"):
        node.tag = "tag:yaml.org,2002:str"
    for part in _parts(node):
        _keep_digits(part)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    for key, value in node.value:
        if key.value in _AS_WRITTEN:
            _keep_digits(value)
    known = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float):
            raise _refusal("a key must be a word or a number", node)
        if key in known:
            raise _refusal(f"key {shorten(repr(key))} is given twice", node)
        known.add(key)
    loader.flatten_mapping(node)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load_yaml(path: Path) -> dict:
    """The mapping in a file; ValueError with file and line if the file holds anything else."""
    try:
        text = _read(path).decode("utf-8")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file (allowed: YAML in UTF-8)") from None
    content = parse_yaml(text, str(path))
    if content is None:
        raise ValueError(f"{path}: the file is empty")
    if not isinstance(content, dict):
        raise ValueError(f"{path}: {type(content).__name__} at the top (allowed: a mapping of keys to values)")
    return content


def _read(path: Path) -> bytes:
    """The bytes of a file or a pipe, at most one more than is allowed; ValueError for anything else."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # which does not wait for the writer of a pipe
    try:
        kind = os.fstat(file).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind) and not stat.S_ISFIFO(kind):
            raise ValueError(f"{path}: a device (allowed: a file or a pipe)")
        content, silent_since = b"", time.monotonic()
        while len(content) <= _LARGEST:
            if stat.S_ISFIFO(kind):
                select.select([file], [], [], _SILENCE)
            try:
                part = os.read(file, 2 * _LARGEST)
            except BlockingIOError:
                raise ValueError(f"{path}: nothing comes from this pipe (allowed: a file or a pipe)") from None
            content += part
            # A pipe whose writer is just starting looks like one that has ended.
            waits = stat.S_ISFIFO(kind) and not content and time.monotonic() - silent_since < _SILENCE
            if not part and not waits:
                break
            if waits:
                time.sleep(0.01)
        return content
    finally:
        os.close(file)


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; ValueError with `where` and the line if it is not plain data."""
    if len(text) > _LARGEST:
        raise ValueError(f"{where}: more than {_LARGEST:,} characters (allowed: at most so many)")
    try:
        return yaml.load(text, _Loader)
    except yaml.reader.ReaderError:
        raise ValueError(f"{where}: not a text file (allowed: YAML in UTF-8)") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{where}{line}: {error.problem} (allowed: plain YAML)") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{where}: {error} (allowed: plain YAML)") from None
