"""A bundle of records: a zip of a manifest, the records of its cells and an index with their digests."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bench.build import robust_dataset
from bench.manifest.manifest import Manifest
from bench.records import SCHEMA, CertificationTiming, Epoch, MonitorPoint, Phases, Record, Start, StepMemory
from bench.records.schema import Line

INDEX, MANIFEST, RECORDS = "bundle.json", "manifest.yaml", "records"
"""Names in the zip: the index, the manifest's text, and the folder of the records."""
MOST_FILES = 60_000
MOST_FILE = 64 * 2**20
"""Bytes of a file of records, whose records are all in memory at once."""
MOST_BYTES = 2**32 - 2**20
"""Bytes of all files of a bundle together, unpacked; a zip of more needs the format's 64-bit extension."""
MOST_TEXT = 16 * 2**20
"""Bytes of the index; the manifest has a sixteenth of them at most."""
_STRICT = ConfigDict(frozen=True, extra="forbid")
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BundledFile(BaseModel):
    """A file of records: its path in a runs folder, its size and its digest."""

    model_config = _STRICT

    path: Line
    bytes: Annotated[int, Field(ge=0, le=MOST_FILE)]
    sha256: Sha256


class Origin(BaseModel):
    """Machine and software of some records."""

    model_config = _STRICT

    host: Line
    device: Line
    cpu: Line
    driver: Line | None
    python: Line
    torch: Line
    cuda: Line | None
    commit: Line | None
    dirty: bool | None


_ORIGIN = set(Origin.model_fields)


class Index(BaseModel):
    """List of a bundle's files with their digests, and the machines that measured them."""

    model_config = _STRICT

    format: Literal[1] = 1
    records_schema: Annotated[int, Field(ge=1)] = SCHEMA
    name: Line
    """Name of the manifest, which begins the names of its studies."""
    quick: bool
    overrides: tuple[Line, ...]
    """Changes to the manifest: `key=value`."""
    manifest: Sha256
    """Digest of the manifest's text."""
    cells: tuple[Line, ...]
    """Ids of the manifest's cells."""
    origins: tuple[Origin, ...]
    """Machines and software, from the records."""
    files: tuple[BundledFile, ...]
    digest: Sha256 | None = None
    """Digest of all fields above."""

    def sealed(self) -> "Index":
        """The index with its digest."""
        return self.model_copy(update={"digest": self.expected_digest})

    @property
    def expected_digest(self) -> str:
        """Digest of all other fields."""
        body = self.model_dump(mode="json", exclude={"digest"})
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Unit(NamedTuple):
    """A folder whose records belong together: a cell's, a robust dataset's or a study's."""

    path: str
    """Path in the runs folder."""
    arms: frozenset[str] | None
    """Ids that its records may name; None for names that are no ids."""
    nested: bool
    """True if folders within it belong to it."""

    def files(self, runs: Path) -> list[Path]:
        """Its files of records, in order."""
        return sorted((runs / self.path).glob("**/*.jsonl" if self.nested else "*.jsonl"))

    def holds(self, path: str) -> bool:
        """True for the path of a file of records in it."""
        folder, _, name = path.rpartition("/")
        inside = folder == self.path or (self.nested and folder.startswith(f"{self.path}/run"))
        return inside and name.endswith(".jsonl")


def units(manifest: Manifest) -> list[Unit]:
    """Folders of all records of a manifest: its cells, their teachers and robust datasets, and its studies."""
    cells = {cell.id: cell for own in manifest.cells for cell in (own, *own.ancestors)}
    found = {name: Unit(name, frozenset({name}), nested=False) for name in cells}
    for cell in cells.values():
        if cell.robust:
            path = robust_dataset.folder(cell, Path()).as_posix()
            found[path] = Unit(path, frozenset(), nested=False)
    for study in manifest.studies if manifest.timing else ():
        found[study.id] = Unit(study.id, frozenset(arm.id for arm in study.arms), nested=True)
    for certification in manifest.certifications:
        found[certification.id] = Unit(certification.id, None, nested=True)
    return list(found.values())


def named_arms(records: Iterable[Record]) -> set[str]:
    """Ids of the cells that the records are about."""
    kinds = (Epoch, MonitorPoint, Phases, StepMemory, CertificationTiming)
    return {record.arm for record in records if isinstance(record, kinds)}


def origins(records: Iterable[Record]) -> Iterator[Origin]:
    """Yield the machine and software of each attempt, of all ranks."""
    for start in records:
        if isinstance(start, Start):
            whole = start.model_dump(include=_ORIGIN)
            yield from (Origin(**whole | machine.model_dump(include=_ORIGIN)) for machine in start.machines)


def ordered(found: Iterable[Origin]) -> tuple[Origin, ...]:
    """Each origin once, in an order that does not depend on that of the records."""
    return tuple(sorted(set(found), key=lambda origin: origin.model_dump_json()))
