"""Types of manifest fields that name a plug-in, dataset, pipeline or loader.

Their JSON schema lists the names and, for methods and evaluations, the arguments that each declares.
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
from crt.plugins import declared, modules
from crt.quantity import Count

JsonSchema = dict[str, Any]


class _Name(str):
    """A name out of `names()`, which is called when a value is checked."""

    @staticmethod
    def names() -> Iterable[str]:
        raise NotImplementedError

    @classmethod
    def check(cls, value: Any) -> str:
        """The value, if it is one of the names; other values are refused."""
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
    """A pipeline of `crt/data`: augmentation of the training images, and normalization in the network's first layer."""

    names = staticmethod(lambda: PIPELINES)


class Loader(_Name):
    """Data loader of `crt/data`."""

    names = staticmethod(lambda: LOADERS)


class Arch(_Name):
    """An architecture: a factory of `crt/archs`."""

    names = staticmethod(lambda: modules("crt.archs"))


class _Plugin:
    """A plug-in of a package, written as `Name` or `Name: {arguments}`.

    Any value is accepted here. `bench.manifest.plugin_spec.spec` checks it when the threat is known, which building the
    plug-in needs.
    """

    package: ClassVar[str]
    more: ClassVar[dict[str, Any]] = {}
    """Types and defaults of the arguments that every plug-in of the package takes."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.any_schema(ref=cls.__name__)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        kinds = dict(sorted(declared(cls.package).items()))
        by_name = {}
        for name, kind in kinds.items():
            arguments_schema = handler(cls._arguments(name, kind).__pydantic_core_schema__)
            by_name[name] = {"description": getdoc(kind), "anyOf": [arguments_schema, {"type": "null"}]}
        mapping = {"type": "object", "properties": by_name, "additionalProperties": False, "maxProperties": 1}
        return {"description": getdoc(cls), "anyOf": [{"enum": list(kinds)}, mapping | {"minProperties": 1}]}

    @classmethod
    def _arguments(cls, name: str, kind: Any) -> type[BaseModel]:
        """The arguments of a plug-in as a model, with their docstrings as descriptions."""
        docs = attribute_docs(kind)
        fields: dict[str, Any] = {}
        for key in arguments(kind):
            field = copy(kind.__pydantic_fields__[key])
            field.description = docs.get(key)
            fields[key] = (field.annotation, field)
        strict = ConfigDict(extra="forbid", protected_namespaces=())
        return create_model(name, __config__=strict, **fields, **cls.more)


class Method(_Plugin):
    """A method of `crt/methods`: its name, or its name with arguments. Defaults are the paper's values."""

    package = "crt.methods"


class Evaluation(_Plugin):
    """An evaluation of `crt/evals`: its name, or its name with arguments."""

    package = "crt.evals"
    more: ClassVar[dict[str, Any]] = {
        "every": (Count, Field(1, description="Judge images 0, every, 2 every, ...")),
        "images": (Count | None, Field(None, description="Judge at most this many of them.")),
    }


class Baseline:
    """Method that slowdowns are relative to, or `bare loop`; required in a timing study.

    Any value is accepted here: the allowed ones depend on the cells of the manifest.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.any_schema(ref=cls.__name__)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return {"description": getdoc(cls), "enum": [*sorted(modules("crt.methods")), BARE]}
