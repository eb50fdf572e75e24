"""What a run writes: one JSON line an event, one file a writer, append only."""

import json
import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from bench.records.schema import READABLE, SCHEMA, Record, Start

_RECORD = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def append(path: Path, record: Record) -> None:
    """Add one line in one write; a torn last line left by a killed writer is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = record.model_dump_json(by_alias=True).encode() + b"\n"
    with open(path, "a+b") as file:
        if file.tell() and _torn(file):
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _torn(file) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def read(path: Path) -> list[Record]:
    """The records of a file, a torn last line left out; ValueError naming file and line where one cannot be read."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = _RECORD.validate_json(line)
        except ValidationError as error:
            raise ValueError(f"{path}, line {number}: {_wrong(line, error)}") from None
        if isinstance(record, Start) and record.schema_ not in READABLE:
            raise ValueError(f"{path}, line {number}: {_other_schema(record.schema_)}")
        records.append(record)
    return records


def _wrong(line: bytes, error: ValidationError) -> str:
    """What is the matter with a line that is no record of this version."""
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
    """The records of every writer in a cell's folder or in that of one run of a study."""
    return [record for path in sorted(folder.glob("*.jsonl")) for record in read(path)]
