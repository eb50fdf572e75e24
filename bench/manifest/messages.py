"""Turn errors of pydantic into messages with place, value and what is allowed."""

import re
from collections.abc import Iterable
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from crt.text import shorten

Model = TypeVar("Model", bound=BaseModel)

_UNKNOWN = ("extra_forbidden", "invalid_key")
_REFUSED = "refused"
_NO_MAPPING = ("model_type", "model_attributes_type", "dataclass_type")
_TAG = re.compile(r"<\w+>")
"""Tag of a union's member, which pydantic inserts among the keys of an error's place."""


def typed(kind: type[Model], value: Any, where: str) -> Model:
    """The mapping validated as a model; ValueError with place, value and what is allowed."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise ValueError(explain(error, where, kind)) from None


def explain(error: ValidationError, where: str, kind: type[BaseModel] | None = None) -> str:
    """The first error in one line. `kind` is the model that was validated; it is needed if it holds other models."""
    errors = error.errors(include_url=False)
    # Report an unknown key before a missing one: it is often the missing key misspelt.
    first = next((entry for entry in errors if entry["type"] in _UNKNOWN), errors[0])
    loc, value, message = first["loc"], first["input"], first["msg"].removeprefix("Value error, ")
    if first["type"] in _UNKNOWN:
        return f"{_place(where, loc[:-1])}.{shorten(str(loc[-1]))}: {unknown_key(_keys(kind, loc[:-1]))}"
    place = _place(where, loc)
    if first["type"] in _NO_MAPPING:
        return f"{place}: {no_mapping(value, _keys(kind, loc))}"
    if first["type"] == "missing":
        return f"{place}: missing, but required"
    if first["type"] == "too_short":
        return f"{place}: an empty list"
    if first["type"] == _REFUSED:
        return f"{place}: {shown(value)} {message}"
    # Manifests have lists; the models keep them as tuples.
    message = message.replace("valid tuple", "list")
    scalar = isinstance(value, str | int | float | list | tuple | None)
    return f"{place}: {shown(value)}: {message}" if scalar else f"{place}: {message}"


def shown(value: Any) -> str:
    """A value for a message: as Python writes it, shortened."""
    return shorten(repr(value))


def refused(allowed: str) -> PydanticCustomError:
    """Error for a validator to raise; `allowed` describes the allowed values."""
    return PydanticCustomError(_REFUSED, "(allowed: {allowed})", {"allowed": allowed})


def unknown_key(allowed: tuple[str, ...]) -> str:
    """Message for a key that is not among those allowed."""
    return f"unknown key (allowed: {', '.join(allowed) or 'none, for it takes no arguments'})"


def check_choice(value: Any, allowed: Iterable[str], where: str) -> str:
    """The value; ValueError if it is not among those allowed."""
    names = sorted(allowed)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{where}: {shown(value)} (allowed: {', '.join(names)})")
    return value


def no_mapping(value: Any, allowed: tuple[str, ...]) -> str:
    """Message for a value that is not a mapping; `allowed` are its keys."""
    if not allowed:
        return f"{shown(value)} (allowed: none, for it takes no arguments)"
    return f"{shown(value)} (allowed: a mapping of {', '.join(allowed)})"


def _place(where: str, loc: tuple[str | int, ...]) -> str:
    """A place written as `cells[0].recipe.lr`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc if not _is_tag(part))
    return (where + "".join(parts)).removeprefix(".")


def _is_tag(part: str | int) -> bool:
    return isinstance(part, str) and _TAG.fullmatch(part) is not None


def _keys(kind: type[BaseModel] | None, loc: tuple[str | int, ...]) -> tuple[str, ...]:
    """Keys of the model at place `loc` within `kind`; tags in `loc` choose among the members of a union."""
    models = [kind] if kind else []
    for part in loc:
        if _is_tag(part):
            models = [model for model in models if f"<{model.__name__}>" == part] or models
        elif isinstance(part, str):
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            models = [model for field in fields for model in _models(field.annotation)]
    return tuple(models[0].model_fields) if models else ()


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]
