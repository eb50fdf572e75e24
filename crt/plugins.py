"""Methods, architectures and evaluations, found by the names in their modules' `__all__`."""

import re
import sys
from ast import literal_eval
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from crt.outline import outlined
from crt.text import shorten

_LIST = re.compile(r"^__all__(?:: list\[str\])? = (\[.*?\])", re.MULTILINE | re.DOTALL)


class Plugin:
    """Facts that methods and evaluations declare about themselves for manifests and reports."""

    execution: ClassVar[frozenset[str]] = frozenset()
    """Arguments that change no result, such as a batch size, and are not part of an identity."""
    unsaid: ClassVar[frozenset[str]] = frozenset()
    """Arguments that are not part of an identity at their defaults, so that older results keep their ids."""
    named: ClassVar[tuple[str, ...]] = ()
    """Arguments that a label always contains, even at their defaults."""
    quick: ClassVar[dict[str, int]] = {}
    """Arguments and their largest values in a quick run."""

    @property
    def variant(self) -> str:
        """A word for ids and labels, where arguments make results unlike those of the same plug-in without them."""
        return ""

    def fits(self, model: Any) -> None:
        """Raise ValueError with the reason where the plug-in does not support this network."""

    @classmethod
    def chooses_networks(cls) -> bool:
        """True if `fits` may refuse a network, so that the network must be built to check."""
        return cls.fits is not Plugin.fits


@cache
def modules(package: str) -> dict[str, str]:
    """The module of each plug-in of `package` by the plug-in's name, read from `__all__` without importing any.

    A module called `base` holds their base class and offers no plug-in. ValueError where a module has no list
    `__all__`, or two offer the same name.
    """
    found: dict[str, str] = {}
    for file in (file for folder in import_module(package).__path__ for file in sorted(Path(folder).glob("*.py"))):
        # Names that no module can have are those of an editor's own files.
        if file.stem in ("__init__", "base") or not file.stem.isidentifier():
            continue
        for name in _offered(file):
            if name in found:
                raise ValueError(f"{name} is offered twice in {package}")
            found[name] = f"{package}.{file.stem}"
    return found


def _offered(file: Path) -> list[str]:
    """The list `__all__` of a file; ValueError where it is not written out."""
    names: list[Any] = [None]
    with suppress(ValueError, SyntaxError):
        if listed := _LIST.search(file.read_text(encoding="utf-8")):
            names = literal_eval(listed[1])
    if not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"{file}: does not list the plug-ins that it offers (needed: __all__ = [...], names in quotes)"
        )
    return names


@cache
def find(package: str, name: str) -> Any:
    """The plug-in with this name; ValueError that lists all names."""
    return getattr(import_module(_module(package, name)), name)


def plugins(package: str) -> dict[str, Any]:
    """The plug-ins of `package` by name."""
    return {name: find(package, name) for name in modules(package)}


def declaration(package: str, name: str) -> Any:
    """The plug-in with this name, for its declarations; ValueError that lists all names.

    It is imported in outline as long as torch is not loaded: it has its arguments, their validation and its properties,
    but cannot compute.
    """
    return find(package, name) if sys.modules.get("torch") else _outline(package, name)


def declared(package: str) -> dict[str, Any]:
    """The plug-ins of `package` by name, for their declarations."""
    return {name: declaration(package, name) for name in modules(package)}


@cache
def _outline(package: str, name: str) -> Any:
    module = _module(package, name)
    try:
        with outlined():
            return getattr(import_module(module), name)
    except Exception:
        # A module that computes on import needs its libraries.
        return find(package, name)


def _module(package: str, name: str) -> str:
    known = modules(package)
    if name not in known:
        raise ValueError(f"unknown name {shorten(repr(name))} (allowed: {', '.join(sorted(known))})")
    return known[name]
