"""Storage of records: append-only files of JSON lines, one line for each event, one file for each writer."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from bench.records.schema import READABLE, SCHEMA, Record, Start
from crt.disk import append_line

_RECORD = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def append(path: Path, record: Record) -> None:
    """Add one line in one write, after removing an incomplete last line that a killed writer left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    append_line(path, record.model_dump_json(by_alias=True).encode() + b"\n")


def read(path: Path) -> list[Record]:
    """The records of a file without an incomplete last line; ValueError with file and line for an unreadable one."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = _RECORD.validate_json(line)
        except ValidationError as error:
            raise ValueError(f"{path}, line {number}: {_problem(line, error)}") from None
        if isinstance(record, Start) and record.schema_ not in READABLE:
            raise ValueError(f"{path}, line {number}: {_other_schema(record.schema_)}")
        records.append(record)
    return records


def _problem(line: bytes, error: ValidationError) -> str:
    """Description of the error in a line that is no record of this version."""
    try:
        schema = json.loads(line).get("schema", SCHEMA)
    except (ValueError, AttributeError):
        return f"not a JSON object: {line[:60]!r}"
    if schema not in READABLE:
        return _other_schema(schema)
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"][1:])) or first["loc"][0] if first["loc"] else "kind"
    return f"{place}: {first['msg']}"


def _other_schema(schema: object) -> str:
    return f"records of schema {schema!r}; this version reads schema {SCHEMA}"


def read_all(folder: Path) -> list[Record]:
    """The records of all writers in the folder of a cell or of one run of a study."""
    return [record for path in sorted(folder.glob("*.jsonl")) for record in read(path)]
