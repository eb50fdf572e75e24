"""Attribute docstrings: the string literals below the attributes of a class."""

import ast
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path


def attribute_docs(kind: type) -> dict[str, str]:
    """Docstring by attribute, base classes included.

    They are parsed from the source file of each class. Pydantic's own reader needs the module to stay imported, and
    the modules of plug-ins that are loaded in outline do not (see `crt.outline`).
    """
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        module = find_spec(base.__module__)
        if not (module and module.origin and module.origin.endswith(".py")):
            continue
        for node in ast.parse(Path(module.origin).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == base.__name__:
                docs |= _docs(node)
    return docs


def _docs(node: ast.ClassDef) -> dict[str, str]:
    docs = {}
    for attribute, below in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(attribute, ast.AnnAssign)
            and isinstance(attribute.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            docs[attribute.target.id] = cleandoc(below.value.value)
    return docs
