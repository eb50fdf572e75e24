"""Errors of pydantic in the words of this project: place, value and what is allowed."""

import re
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

Model = TypeVar("Model", bound=BaseModel)

_UNKNOWN = ("extra_forbidden", "invalid_key")
_REFUSED = "refused"
_NO_MAPPING = ("model_type", "model_attributes_type", "dataclass_type")
_TAG = re.compile(r"<\w+>")
"""Names of the members of a union, which pydantic puts among the keys of a place."""


def typed(kind: type[Model], value: Any, where: str) -> Model:
    """The model that a mapping describes; ValueError with place, value and what is allowed."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise ValueError(explain(error, where, kind)) from None


def explain(error: ValidationError, where: str, kind: type[BaseModel] | None = None) -> str:
    """The first error in one line; `kind` is the model that was validated, where it may hold other models."""
    errors = error.errors(include_url=False)
    # An unknown key is told before what is missing: it is often the same key misspelt.
    first = next((each for each in errors if each["type"] in _UNKNOWN), errors[0])
    loc, value, message = first["loc"], first["input"], first["msg"].removeprefix("Value error, ")
    if first["type"] in _UNKNOWN:
        return f"{_place(where, loc[:-1])}.{loc[-1]}: {unknown_key(_keys(kind, loc[:-1]))}"
    place = _place(where, loc)
    if first["type"] in _NO_MAPPING:
        return f"{place}: {no_mapping(value, _keys(kind, loc))}"
    if first["type"] == "missing":
        return f"{place}: missing, but required"
    if first["type"] == "too_short":
        return f"{place}: an empty list"
    if first["type"] == _REFUSED:
        return f"{place}: {value!r} {message}"
    # YAML has lists, which are kept as tuples.
    message = message.replace("valid tuple", "list")
    scalar = isinstance(value, str | int | float | list | tuple | None)
    return f"{place}: {value!r}: {message}" if scalar else f"{place}: {message}"


def refused(allowed: str) -> PydanticCustomError:
    """The error that a validator raises for a value which is none of those allowed."""
    return PydanticCustomError(_REFUSED, "(allowed: {allowed})", {"allowed": allowed})


def unknown_key(allowed: tuple[str, ...]) -> str:
    """What is wrong with a key that is none of those allowed."""
    return f"unknown key (allowed: {', '.join(allowed) or 'none, for it takes no arguments'})"


def no_mapping(value: Any, allowed: tuple[str, ...]) -> str:
    """What is wrong with a value that is no mapping of the keys allowed."""
    if not allowed:
        return f"{value!r} (allowed: none, for it takes no arguments)"
    return f"{value!r} (allowed: a mapping of {', '.join(allowed)})"


def _place(where: str, loc: tuple[str | int, ...]) -> str:
    """A place as `cells[0].recipe.lr`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc if not _is_tag(part))
    return (where + "".join(parts)).removeprefix(".")


def _is_tag(part: str | int) -> bool:
    return isinstance(part, str) and _TAG.fullmatch(part) is not None


def _keys(kind: type[BaseModel] | None, loc: tuple[str | int, ...]) -> tuple[str, ...]:
    """The keys of the model at a place within `kind`; the tags in `loc` choose among the members of a union."""
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
