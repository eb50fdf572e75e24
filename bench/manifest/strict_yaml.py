"""Strict YAML loading: plain data only; errors name the file and line."""

import re
from pathlib import Path
from typing import Any

import yaml

from crt.text import CONTROL


class _Loader(yaml.SafeLoader):
    """Loads plain data. `10:00:00` is a string; a duplicate key or a control character is an error."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """The text of a scalar, which may have several lines."""
        text = super().construct_scalar(node)
        if control := CONTROL.search(re.sub(r"[\t\n]", "", text)):
            why = f"{text!r} holds the control character {control[0]!r}"
            raise yaml.constructor.ConstructorError(None, None, why, node.start_mark)
        return text


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
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        for part in child if isinstance(child, tuple) else (child,):
            _keep_digits(part)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    for key, value in node.value:
        if key.value in _AS_WRITTEN:
            _keep_digits(value)
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    for key in keys:
        if not isinstance(key, str | int | float):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a word or a number", node.start_mark)
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
    loader.flatten_mapping(node)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load_yaml(path: Path) -> dict:
    """The mapping in a file; ValueError with file and line if the file holds anything else."""
    try:
        text = path.read_text(encoding="utf-8")
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


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; ValueError with `where` and the line if it is not plain data."""
    try:
        return yaml.load(text, _Loader)
    except yaml.reader.ReaderError:
        raise ValueError(f"{where}: not a text file (allowed: YAML in UTF-8)") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{where}{line}: {error.problem} (allowed: plain YAML)") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{where}: {error} (allowed: plain YAML)") from None
