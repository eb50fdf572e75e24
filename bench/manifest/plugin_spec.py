"""Resolve and check a plug-in as a manifest writes it."""

import inspect
import math
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from bench.cell import Spec, digest
from bench.manifest.messages import explain, no_mapping, shown, unknown_key
from crt.plugins import declaration
from crt.quantity import Count
from crt.text import shorten
from crt.threat import Threat

if TYPE_CHECKING:
    from crt.evals.base import Evaluation

_IMAGES = ("every", "images")
"""Arguments of every evaluation: judge images 0, every, 2 every, …, at most `images` of them."""
_ARGUMENTS, _COUNT = TypeAdapter(dict[str, Any]), TypeAdapter(Count | None)


def arguments(kind: Any) -> tuple[str, ...]:
    """Names of the arguments that a manifest may give a plug-in."""
    return tuple(key for key in inspect.signature(kind).parameters if key not in ("threat", "teacher"))


def judging_arguments(package: str) -> tuple[str, ...]:
    """Names of the arguments that every plug-in of a package takes: the choice of images of evaluations."""
    return _IMAGES if package == "crt.evals" else ()


def spec(package: str, value: Any, threat: Threat, where: str) -> Spec:
    """A plug-in written as `Name` or `Name: {arguments}`; ValueError for a wrong argument."""
    name: str
    given: Any
    if isinstance(value, str):
        name, given = value, {}
    elif isinstance(value, dict) and len(value) == 1:
        ((name, given),) = value.items()
        given = {} if given is None else given
    else:
        raise ValueError(f"{where}: {shown(value)} (allowed: a name, or one name with its arguments)")
    try:
        kind = declaration(package, name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    where = f"{where}.{name}"
    names, image_keys = arguments(kind), judging_arguments(package)
    _check_keys(given, (*names, *image_keys), where)
    images = {key: _count(given[key], f"{where}.{key}") for key in image_keys if key in given}
    try:
        built = kind(threat=threat, **{key: value for key, value in given.items() if key not in image_keys})
    except ValidationError as error:
        raise ValueError(explain(error, where)) from None
    args = {key: getattr(built, key) for key in names}
    defaults = {key: parameter.default for key, parameter in inspect.signature(kind).parameters.items()}
    omitted = {key for key in kind.unsaid if args[key] == defaults[key]}
    dumped = _ARGUMENTS.dump_python(args, mode="json", exclude=omitted)
    relevant = {key: v for key, v in dumped.items() if key not in kind.execution}
    label = " ".join(filter(None, (name, built.variant))) + _arguments(kind, args, defaults)
    ident = f"{'-'.join(filter(None, (name, built.variant)))}-{digest([relevant, threat.model_dump()])}"
    return Spec(name=name, args=dumped, label=label, id=ident, **images)


def evaluation(spec: Spec, threat: Threat) -> "Evaluation":
    """An evaluation, to read what it declares. It may be unable to judge, because torch is not imported for it."""
    return declaration("crt.evals", spec.name)(threat=threat, **spec.args)


def _check_keys(given: Any, allowed: tuple[str, ...], where: str) -> None:
    if not isinstance(given, dict):
        raise ValueError(f"{where}: {no_mapping(given, allowed)}")
    for key in given:
        if key not in allowed:
            raise ValueError(f"{where}.{shorten(str(key))}: {unknown_key(allowed)}")


def _count(value: Any, where: str) -> int | None:
    try:
        return _COUNT.validate_python(value)
    except ValidationError as error:
        raise ValueError(explain(error, where)) from None


def _arguments(kind: Any, args: dict[str, Any], defaults: dict[str, Any]) -> str:
    """The arguments for a label: those that differ from the paper's, and those that results must always show."""
    shown = {key: v for key, v in args.items() if v != defaults[key] or key in kind.named}
    return f"({', '.join(f'{key}={_short(v)}' for key, v in shown.items())})" if shown else ""


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_short, value))
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)
