"""Types of a manifest's fields that name a plug-in or another known thing.

Their JSON schema lists the names and, of methods and evaluations, the arguments that each declares.
"""

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from bench.attribute_docs import attribute_docs
from bench.specs import arguments
from bench.tables import BARE
from crt.plugins import declared
from crt.quantity import Count

JsonSchema = dict[str, Any]


@dataclass(frozen=True)
class OneOf:
    """Marks a type as one of the names that a function gives, which is asked when a value comes."""

    names: Callable[[], Iterable[str]]

    def check(self, value: Any) -> str:
        """The name itself; ValueError for another value."""
        known = self.names()
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"(allowed: {', '.join(sorted(known))})")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return {"enum": sorted(self.names())}


class Baseline:
    """Marks a field as the name of a method or of the plain loop; the manifest's cells say which are allowed."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return {"enum": [*sorted(declared("crt.methods")), BARE]}


class _Judged(BaseModel):
    """Arguments of every evaluation."""

    model_config = ConfigDict(extra="forbid")

    every: Count = Field(1, description="Judge images 0, every, 2 every, ...")
    images: Count | None = Field(None, description="... and at most this many of them.")


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


@dataclass(frozen=True)
class PluginOf:
    """Marks a value as `Name` or `Name: {arguments}` of a package's plug-ins.

    A value passes as it is: `bench.specs.spec` checks it, once the threat is known that the plug-in is built with.
    """

    package: str
    base: type[BaseModel] = _Arguments

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        kinds = dict(sorted(declared(self.package).items()))
        arguments_of = {
            name: {"anyOf": [handler(self._model(name, kind).__pydantic_core_schema__), {"type": "null"}]}
            for name, kind in kinds.items()
        }
        with_arguments = {"type": "object", "properties": arguments_of, "additionalProperties": False}
        return {"anyOf": [{"enum": list(kinds)}, with_arguments | {"minProperties": 1, "maxProperties": 1}]}

    def _model(self, name: str, kind: Any) -> type[BaseModel]:
        """The plug-in's arguments as a model, each with its documentation."""
        docs, fields = attribute_docs(kind), {}
        for key in arguments(kind):
            field = copy(kind.__pydantic_fields__[key])
            field.description = docs.get(key)
            fields[key] = (field.annotation, field)
        return create_model(name, __base__=self.base, __doc__=kind.__doc__, **fields)


Arch = Annotated[str, OneOf(lambda: declared("crt.archs"))]
Method = Annotated[Any, PluginOf("crt.methods")]
Evaluation = Annotated[Any, PluginOf("crt.evals", _Judged)]
