"""The JSON schema of manifests, by which editors complete and check them: `python -m bench.submit --schema`."""

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from bench.manifest.attribute_docs import attribute_docs
from bench.manifest.blocks import ManifestFile, SharedKeys
from crt.quantity import PATTERN

_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, with the documentation of attributes and without titles that repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        made, docs = super().model_schema(schema), attribute_docs(schema["cls"])
        del made["title"]  # the name of a class, which is none of a manifest's words
        for key, field in made.get("properties", {}).items():
            if key in docs:
                field.setdefault("description", docs[key])
            if field.get("default") == "":
                del field["default"]  # a teacher has its student's
        if issubclass(schema["cls"], SharedKeys):
            # What a block does not say may stand at the top, and the other way round.
            made["required"] = [key for key in made["required"] if key not in SharedKeys.model_fields]
        return made


def schema_text() -> str:
    """The schema as a JSON document (draft 7, which every editor's YAML extension reads)."""
    schema = ManifestFile.model_json_schema(schema_generator=_Generator)
    schema = {"$schema": "http://json-schema.org/draft-07/schema#"} | _as_yaml_is_written(schema)
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _as_yaml_is_written(node: Any) -> Any:
    """The schema with numbers also as the words `8/255` and `1e-4`, and with the word `off` for false.

    An editor reads YAML 1.2, in which `off` is a word.
    """
    if isinstance(node, list):
        return [_as_yaml_is_written(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _as_yaml_is_written(value) for key, value in node.items()}
    if node.get("type") in ("number", "integer"):
        node = {_BOUNDS.get(key, key): value for key, value in node.items()}
        node |= {"type": [node["type"], "string"], "pattern": f"^{PATTERN}$"}
    if False in (choices := node.get("enum", [])) and "off" not in choices:
        node["enum"] = [*choices, "off"]
    return node
