"""Methods, architectures and evaluations, found by the names their modules offer in `__all__`."""

import sys
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar

from crt.outline import outlined


class Plugin:
    """Facts that methods and evaluations declare about themselves, for manifests and reports."""

    execution: ClassVar[frozenset[str]] = frozenset()
    """Arguments that change no result, such as a number of images side by side: no part of an identity."""
    unsaid: ClassVar[frozenset[str]] = frozenset()
    """Arguments that are no part of an identity at their defaults, so that results older than they keep theirs."""
    named: ClassVar[tuple[str, ...]] = ()
    """Arguments that a label always names, even at their defaults."""
    quick: ClassVar[dict[str, int]] = {}
    """Arguments and their largest values in a quick run."""

    def fits(self, model: Any) -> None:
        """ValueError that says why it cannot take this network."""

    @classmethod
    def chooses_networks(cls) -> bool:
        """True where `fits` may refuse a network, so that one has to be built to know."""
        return cls.fits is not Plugin.fits


@cache
def plugins(package: str) -> dict[str, Any]:
    """The plug-ins of `package` by name; ValueError where two modules offer the same name.

    A module called `base` holds their base class and offers no plug-in.
    """
    found: dict[str, Any] = {}
    for info in iter_modules(import_module(package).__path__):
        if info.name == "base":
            continue
        module = import_module(f"{package}.{info.name}")
        for name in module.__all__:
            if name in found:
                raise ValueError(f"{name} is offered twice in {package}")
            found[name] = getattr(module, name)
    return found


def find(package: str, name: str) -> Any:
    """The plug-in called `name`; ValueError that lists what there is."""
    return _named(plugins(package), name)


def declared(package: str) -> dict[str, Any]:
    """The plug-ins of `package` by name, to ask what they declare: in outline as long as torch is not loaded.

    A plug-in in outline has its arguments, their checks and its properties, and cannot compute.
    """
    return plugins(package) if sys.modules.get("torch") else _outline(package)


def declaration(package: str, name: str) -> Any:
    """The plug-in called `name`, to ask what it declares; ValueError that lists what there is."""
    return _named(declared(package), name)


@cache
def _outline(package: str) -> dict[str, Any]:
    try:
        with outlined():
            return plugins.__wrapped__(package)
    except Exception:
        # A module that computes while it is imported needs its libraries.
        return plugins(package)


def _named(known: dict[str, Any], name: str) -> Any:
    if name not in known:
        raise ValueError(f"unknown name {name!r} (allowed: {', '.join(sorted(known))})")
    return known[name]
