"""Methods, architectures and evaluations, found by the names their modules offer in `__all__`."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any


@cache
def plugins(package: str) -> dict[str, Any]:
    """What the modules of `package` offer, by name; ValueError where two offer the same name."""
    found: dict[str, Any] = {}
    for info in iter_modules(import_module(package).__path__):
        module = import_module(f"{package}.{info.name}")
        for name in module.__all__:
            if name in found:
                raise ValueError(f"{name} is offered twice in {package}")
            found[name] = getattr(module, name)
    return found


def find(package: str, name: str) -> Any:
    """The plug-in called `name`; ValueError that lists what there is."""
    known = plugins(package)
    if name not in known:
        raise ValueError(f"unknown name {name!r} (allowed: {', '.join(sorted(known))})")
    return known[name]
