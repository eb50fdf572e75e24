"""Storage of records: append-only files of JSON lines, one line for each event, one file for each writer."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from bench.records.schema import READABLE, SCHEMA, End, Record, Start, Verdict
from crt.disk import append_line
from crt.text import printable

_RECORD: TypeAdapter[Record] = TypeAdapter(
    Annotated[Record, Field(discriminator="kind")], config=ConfigDict(defer_build=True)
)
_LONGEST = 16 * 2**20
"""Bytes that no line of records has: those of thousands of ranks have one million."""
_KIND = 64
"""Bytes within which a line names its kind."""


def append(path: Path, record: Record) -> None:
    """Add one line in one write, after removing an incomplete last line that a killed writer left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    append_line(path, record.model_dump_json(by_alias=True).encode() + b"\n")


class Lines(NamedTuple):
    """The lines of a records file."""

    records: list[Record]
    left_out: str
    """The first line that is no record, with its file and problem, and the number of such lines; empty for none."""


def read(path: Path) -> list[Record]:
    """The records of a file without an incomplete last line. A warning tells which lines are left out as no records."""
    lines = read_lines(path)
    if lines.left_out:
        warnings.warn(f"left out of the records: {lines.left_out}", stacklevel=1)
    return lines.records


def read_lines(path: Path) -> Lines:
    """The records of a file without an incomplete last line, and what is left out of it. The file is not changed.

    Left out are lines that the schema refuses, the records of an attempt whose `Start` is left out (its machine is
    unknown), and an `End` before its `Start`.
    """
    try:
        if not path.is_file():
            return Lines([], f"{printable(str(path))}: no file" if path.exists() else "")
        file = open(path, "rb")
    except FileNotFoundError:
        return Lines([], "")
    records: list[Record] = []
    count, first, lost, start = 0, "", False, None
    with file:
        for number, line in enumerate(_complete(file), 1):
            found = _parse(line)
            if isinstance(found, Start):
                start, lost = found, False
            elif isinstance(found, str):
                # The first line of a file is a start, whatever is left of it.
                lost = lost or number == 1 or b'"start"' in line[:_KIND]
            elif lost:
                found = "its attempt's start is left out"
            elif isinstance(found, End) and start and found.time < start.time:
                found = f"time: {found.time:.0f} is before {start.time:.0f}, the start"
            if isinstance(found, str):
                count += 1
                first = first or f"line {number}: {printable(found)}"
            else:
                records.append(found)
    lines = f"{count} line{'s' * (count > 1)}"
    return Lines(records, f"{printable(str(path))}, {first} ({lines})" if count else "")


def _complete(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file that end, each without its end; of a longer line than any record has, its beginning."""
    while line := file.readline(_LONGEST):
        if line.endswith(b"\n"):
            yield line[:-1]
            continue
        beginning = line
        while len(line) == _LONGEST and not line.endswith(b"\n"):
            line = file.readline(_LONGEST)
        if line.endswith(b"\n"):
            yield beginning


def _parse(line: bytes) -> Record | str:
    """The record in a line, or what is wrong with it."""
    if len(line) == _LONGEST:
        return f"longer than {_LONGEST:,} bytes"
    try:
        # Strict: a number in quotes or `true` is no number.
        record = _RECORD.validate_json(line, strict=True)
    except ValidationError as error:
        return _problem(line, error)
    if isinstance(record, Start) and record.schema_ not in READABLE:
        return _other_schema(record.schema_)
    # A line with as many colons as its record has keys has none twice; nor has one that is written of the record.
    keys = len(record.model_fields_set) + (len(record.details) if isinstance(record, Verdict) else 0)
    if line.count(b":") > keys:
        written = record.model_dump_json(by_alias=True, exclude_unset=True).encode()
        if written != line and (key := _repeated_key(line)):
            return f"key {key!r} is given twice"
    return record


def _repeated_key(line: bytes) -> str | None:
    """A key that an object in a line of JSON has twice; None without one."""
    repeated: list[str] = []

    def check(pairs: list[tuple[str, object]]) -> dict[str, object]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated.extend(key for key in content if keys.count(key) > 1)
        return content

    json.loads(line, object_pairs_hook=check, parse_int=float)  # an integer may have too many digits for int
    return repeated[0] if repeated else None


def _problem(line: bytes, error: ValidationError) -> str:
    """Description of the error in a line that is no record of this version."""
    try:
        schema = json.loads(line).get("schema", SCHEMA)
    except (ValueError, AttributeError, RecursionError):
        return f"not a JSON object: {line[:60]!r}"
    if schema not in READABLE:
        return _other_schema(schema)
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"][1:])) or first["loc"][0] if first["loc"] else "kind"
    if first["type"] == "string_pattern_mismatch":
        return f"{place}: one line of text without control characters is needed (is {first['input'][:40]!r})"
    value = f" (is {first['input']!r})" if isinstance(first["input"], str | int | float) else ""
    return f"{place}: {first['msg'].removeprefix('Value error, ')}{value[:60]}"


def _other_schema(schema: object) -> str:
    return f"records of schema {schema!r:.60}; this version reads schema {SCHEMA}"


def read_all(folder: Path) -> list[Record]:
    """The records of all writers in the folder of a cell or of one run of a study."""
    return [record for path in sorted(folder.glob("*.jsonl")) for record in read(path)]
