"""Import of modules in outline: their declarations, without the libraries that they compute with.

A manifest names methods, networks and evaluations, and is checked against their declarations: names, arguments, facts.
None of these needs torch, whose import takes seconds. In outline, the standard library, pydantic and this package
are imported normally, and blanks replace all else: they can be used as annotations, base classes and decorators, and
compute nothing. Modules imported in outline are removed afterwards and are imported in full where they are used.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Imported before any outline, so that outlined and full classes share the types of their arguments.
import pydantic.dataclasses  # noqa: F401

import crt.data
import crt.models.image_size
import crt.quantity
import crt.threat  # noqa: F401

_REAL = {"crt", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}


class _Blank(type):
    """A class that replaces any object of a library: a type, a base class, a function, a decorator."""

    def __getattr__(cls, name: str) -> "_Blank":
        return _blank(name)

    def __getitem__(cls, parameters: Any) -> "_Blank":
        return cls

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        # `@decorator` and `@decorator(...)` return the decorated object unchanged.
        return args[0] if len(args) == 1 and not kwargs and callable(args[0]) else cls


class _BlankModule(ModuleType):
    """A module that has every attribute."""

    def __getattr__(self, name: str) -> _Blank:
        return _blank(name)


def _blank(name: str) -> _Blank:
    # Python and pydantic use such names to find out what an object supports.
    if name.startswith("__"):
        raise AttributeError(name)
    return _Blank(name, (), {})


class _Finder(Loader):
    """Finder that gives a blank module for every library that is not loaded."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        loaded = top in sys.modules and not isinstance(sys.modules[top], _BlankModule)
        if loaded or top in _REAL or top in sys.stdlib_module_names:
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _BlankModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module blank."""


_kept: dict[str, ModuleType] = {}
"""Modules of this package in outline, which later outlines import again, so that a class is outlined once."""


@contextmanager
def outlined() -> Iterator[None]:
    """Import in outline inside the block, and remove the outlined modules after it."""
    before, finder = set(sys.modules), _Finder()
    sys.modules.update((name, module) for name, module in _kept.items() if name not in before)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            module = sys.modules[name]
            if name.startswith("crt."):
                _kept[name] = module
            if name.startswith("crt.") or isinstance(module, _BlankModule):
                _forget(name)


def _forget(name: str) -> None:
    parent, _, child = name.rpartition(".")
    del sys.modules[name]
    # A package has its modules as attributes, through which `from package import module` would find them again.
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(child, None)
