"""Types of a manifest's fields that name a plug-in or another known thing.

Their JSON schema lists the names and, of methods and evaluations, the arguments that each declares.
"""

from collections.abc import Iterable
from copy import copy
from inspect import getdoc
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from bench.manifest.attribute_docs import attribute_docs
from bench.manifest.manifest import BARE
from bench.manifest.messages import refused
from bench.manifest.plugin_spec import arguments
from crt.data import DATASETS, LOADERS, PIPELINES
from crt.plugins import declared
from crt.quantity import Count

JsonSchema = dict[str, Any]


class _Name(str):
    """A name among those known, which are asked for when a value is checked."""

    @staticmethod
    def names() -> Iterable[str]:
        raise NotImplementedError

    @classmethod
    def check(cls, value: Any) -> str:
        """The name itself; another value is refused."""
        known = cls.names()
        if not isinstance(value, str) or value not in known:
            raise refused(", ".join(sorted(known)))
        return value

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.check, ref=cls.__name__)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return {"description": getdoc(cls), "enum": sorted(cls.names())}


class Dataset(_Name):
    """A dataset of `crt/data`."""

    names = staticmethod(lambda: DATASETS)


class Pipeline(_Name):
    """A pipeline of `crt/data`: what is done to training images, and what the network's first layer does."""

    names = staticmethod(lambda: PIPELINES)


class Loader(_Name):
    """What loads batches."""

    names = staticmethod(lambda: LOADERS)


class Arch(_Name):
    """An architecture: a factory of `crt/archs`."""

    names = staticmethod(lambda: declared("crt.archs"))


class _Plugin:
    """`Name` or `Name: {arguments}` of a package's plug-ins.

    A value passes as it is: `bench.manifest.plugin_spec.spec` checks it, once the threat is known that the plug-in
    is built with.
    """

    package: ClassVar[str]
    more: ClassVar[dict[str, Any]] = {}
    """Arguments that every plug-in of the package takes: types and defaults."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.any_schema(ref=cls.__name__)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        kinds = dict(sorted(declared(cls.package).items()))
        written = {}
        for name, kind in kinds.items():
            given = handler(cls._arguments(name, kind).__pydantic_core_schema__)
            written[name] = {"description": getdoc(kind), "anyOf": [given, {"type": "null"}]}
        one = {"type": "object", "properties": written, "additionalProperties": False, "maxProperties": 1}
        return {"description": getdoc(cls), "anyOf": [{"enum": list(kinds)}, one | {"minProperties": 1}]}

    @classmethod
    def _arguments(cls, name: str, kind: Any) -> type[BaseModel]:
        """The arguments of a plug-in as a model, each with its documentation."""
        docs, fields = attribute_docs(kind), {}
        for key in arguments(kind):
            field = copy(kind.__pydantic_fields__[key])
            field.description = docs.get(key)
            fields[key] = (field.annotation, field)
        strict = ConfigDict(extra="forbid", protected_namespaces=())
        return create_model(name, __config__=strict, **fields, **cls.more)


class Method(_Plugin):
    """A method of `crt/methods`: its name, or its name with arguments; they default to the paper's."""

    package = "crt.methods"


class Evaluation(_Plugin):
    """An evaluation of `crt/evals`: its name, or its name with arguments."""

    package = "crt.evals"
    more: ClassVar[dict[str, Any]] = {
        "every": (Count, Field(1, description="Judge images 0, every, 2 every, ...")),
        "images": (Count | None, Field(None, description="... and at most this many of them.")),
    }


class Baseline:
    """The method that slowdowns are measured against, or the plain loop; a timing study needs one.

    A value passes as it is: the cells of the manifest say what is allowed.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.any_schema(ref=cls.__name__)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return {"description": getdoc(cls), "enum": [*sorted(declared("crt.methods")), BARE]}
