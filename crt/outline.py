"""Import modules in outline: what they declare, without the libraries that they compute with.

A manifest names methods, networks and evaluations, and is checked against what these declare: names, arguments, facts.
None of that needs torch, whose import takes seconds. In outline the standard library, pydantic, numpy and this package
are imported as they are, and blanks stand for all else: they can be annotated with, inherited from and decorated with,
and compute nothing. Modules imported in outline are forgotten at once; where they are put to use, they are imported
in full.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Imported before any outline, so that classes of both kinds share the types of their arguments.
import numpy  # noqa: F401
import pydantic.dataclasses  # noqa: F401

import crt.data
import crt.models.image_size
import crt.quantity
import crt.threat  # noqa: F401

_REAL = {"crt", "numpy", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}


class _Blank(type):
    """A class that stands for anything that a library offers: a type, a base class, a function, a decorator."""

    def __getattr__(cls, name: str) -> "_Blank":
        return _blank(name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        # `@decorator` and `@decorator(...)` leave what they decorate as it is.
        return args[0] if len(args) == 1 and not kwargs and callable(args[0]) else cls


class _BlankModule(ModuleType):
    """A module that offers whatever it is asked for."""

    def __getattr__(self, name: str) -> _Blank:
        return _blank(name)


def _blank(name: str) -> _Blank:
    # Python and pydantic ask by such names what an object can do.
    if name.startswith("__"):
        raise AttributeError(name)
    return _Blank(name, (), {})


class _Finder(Loader):
    """Finds a blank module wherever a library would have to be loaded."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        loaded = top in sys.modules and not isinstance(sys.modules[top], _BlankModule)
        if loaded or top in _REAL or top in sys.stdlib_module_names:
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _BlankModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave it blank."""


@contextmanager
def outlined() -> Iterator[None]:
    """Within: imports are in outline; afterwards the modules imported so are forgotten."""
    before, finder = set(sys.modules), _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            if name.startswith("crt.") or isinstance(sys.modules[name], _BlankModule):
                _forget(name)


def _forget(name: str) -> None:
    parent, _, child = name.rpartition(".")
    del sys.modules[name]
    # A package keeps its modules as attributes, by which `from package import module` would find them again.
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(child, None)
