"""Methods, architectures and evaluations, found by the names in their modules' `__all__`."""

import sys
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar

from crt.outline import outlined
from crt.text import shorten


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
def plugins(package: str) -> dict[str, Any]:
    """The plug-ins of `package` by name; ValueError where two modules offer the same name.

    A module called `base` holds their base class and offers no plug-in.
    """
    members: dict[str, Any] = {}
    for info in iter_modules(import_module(package).__path__):
        if info.name == "base":
            continue
        module = import_module(f"{package}.{info.name}")
        for name in module.__all__:
            if name in members:
                raise ValueError(f"{name} is offered twice in {package}")
            members[name] = getattr(module, name)
    return members


def find(package: str, name: str) -> Any:
    """The plug-in with this name; ValueError that lists all names."""
    return _named(plugins(package), name)


def declared(package: str) -> dict[str, Any]:
    """The plug-ins of `package` by name with their declarations, in outline as long as torch is not loaded.

    A plug-in in outline has its arguments, their validation and its properties, but cannot compute.
    """
    return plugins(package) if sys.modules.get("torch") else _outline(package)


def declaration(package: str, name: str) -> Any:
    """The plug-in with this name, for its declarations; ValueError that lists all names."""
    return _named(declared(package), name)


@cache
def _outline(package: str) -> dict[str, Any]:
    try:
        with outlined():
            return plugins.__wrapped__(package)
    except Exception:
        # A module that computes on import needs its libraries.
        return plugins(package)


def _named(known: dict[str, Any], name: str) -> Any:
    if name not in known:
        raise ValueError(f"unknown name {shorten(repr(name))} (allowed: {', '.join(sorted(known))})")
    return known[name]
