"""JSON schema of manifests, with which editors complete and check them: `python -m bench.submit --schema`."""

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from bench.manifest.attribute_docs import attribute_docs
from bench.manifest.blocks import ManifestFile, SharedKeys
from crt.quantity import PATTERN

_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, with attribute docstrings as descriptions and without titles that repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        json_schema, docs = super().model_schema(schema), attribute_docs(schema["cls"])
        del json_schema["title"]  # a class name, which means nothing to the author of a manifest
        for key, field in json_schema.get("properties", {}).items():
            if key in docs:
                field.setdefault("description", docs[key])
            if field.get("default") == "":
                del field["default"]  # a teacher inherits the value of its student
        if issubclass(schema["cls"], SharedKeys):
            # A shared key may be given in each block or at the top of the file, so neither place requires it.
            json_schema["required"] = [key for key in json_schema["required"] if key not in SharedKeys.model_fields]
        return json_schema


def schema_text() -> str:
    """The schema as a JSON document (draft 7, which the YAML extensions of editors support)."""
    schema = ManifestFile.model_json_schema(schema_generator=_Generator)
    schema = {"$schema": "http://json-schema.org/draft-07/schema#"} | _as_yaml_is_written(schema)
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _as_yaml_is_written(node: Any) -> Any:
    """The schema extended to numbers written as `8/255` or `1e-4`, and to `off` for false.

    Editors read YAML 1.2, in which `off` is a string.
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
