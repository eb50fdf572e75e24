"""Check a bundle of records, and move its records into a runs folder."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from bench.commands.bundle import INDEX, MANIFEST, Index, Origin, Unit, named_arms, ordered, origins, units
from bench.commands.bundle_archive import BundleArchive, opened
from bench.manifest import Manifest, read_manifest
from bench.records import READABLE, SCHEMA, read_lines
from crt import screen
from crt.text import invocation

FOLDER = "bundles"
"""Folder in a runs folder with the manifest and the index of each imported bundle."""


def import_bundle(bundle: Path, runs: Path) -> list[str]:
    """Add the records of a bundle to a runs folder; return lines that describe them.

    Everything is unpacked beside the folder's cells and checked there, and then moved: each cell at once, and an error
    moves all back. ValueError for anything that is not as it should be, and for a cell that has other records there.
    """
    with opened(bundle) as archive, screen.working("checking records"):
        index = _index(archive)
        with _staging(runs) as stage:
            manifest = _manifest(archive, index, stage)
            found = _unpacked(archive, index, stage, units(manifest))
            if ordered(found) != index.origins:
                raise archive.error(INDEX, "other origins than the records have", "those of the records")
            wanted = [unit for unit in units(manifest) if unit.files(stage)]
            new = [unit for unit in wanted if _is_new(archive, unit, stage, runs)]
            kept = f"{FOLDER}/{index.expected_digest[:8]}"
            _move(stage, runs, [*(unit.path for unit in new), *([kept] if not (runs / kept).exists() else [])])
    hosts = ", ".join(sorted({origin.host for origin in found}))
    place = runs / FOLDER / index.expected_digest[:8] / f"{index.name}.yaml"
    words: list[str | Path] = [place, "--runs", runs, *(["--quick"] if index.quick else [])]
    words += [word for each in index.overrides for word in ("--set", each)]
    return [
        f"imported {len(new)} folders of records measured on {hosts}; {len(wanted) - len(new)} were there already",
        f"Report them: {invocation('reports', *words)}",
    ]


def _index(archive: BundleArchive) -> Index:
    """The index, whose files are those of the zip."""
    try:
        index = Index.model_validate_json(archive.text(INDEX), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = f"{INDEX}: {'.'.join(map(str, first['loc']))}"
        raise archive.error(place, first["msg"], "format 1, as bench.export writes it") from None
    if index.records_schema not in READABLE:
        allowed = f"{', '.join(map(str, READABLE))}"
        raise archive.error(INDEX, f"records of schema {index.records_schema}", allowed)
    if index.digest != index.expected_digest:
        raise archive.error(INDEX, "changed: its digest is another", "the index as bench.export wrote it")
    listed = {file.path for file in index.files}
    for path in sorted(listed ^ archive.records):
        raise archive.error(path, "missing" if path in listed else "not in the index", "the files of the index")
    return index


@contextmanager
def _staging(runs: Path) -> Iterator[Path]:
    """A folder to unpack into, on the storage of the runs folder; nothing of it stays."""
    created = not runs.exists()
    runs.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".import-", dir=runs))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if created:
            with suppress(OSError):  # it holds records now
                runs.rmdir()


def _manifest(archive: BundleArchive, index: Index, stage: Path) -> Manifest:
    """The manifest in the bundle, whose cells have the ids that the index lists."""
    text = archive.text(MANIFEST)
    if hashlib.sha256(text).hexdigest() != index.manifest:
        raise archive.error(MANIFEST, "changed: its digest is another", "the manifest as it was exported")
    folder = stage / FOLDER / index.expected_digest[:8]
    folder.mkdir(parents=True)
    file = folder / f"{index.name}.yaml"
    if file.parent != folder:
        raise archive.error(INDEX, f"name {index.name!r}", "the name of a file")
    (folder / INDEX).write_bytes(archive.text(INDEX))
    file.write_bytes(text)
    try:
        manifest = read_manifest(file, index.quick, networks=False, overrides=index.overrides)
    except ValueError as error:
        raise archive.error(
            MANIFEST, str(error).removeprefix(f"{file}: "), "a manifest that this version reads"
        ) from None
    known = {cell.id for cell in manifest.cells}
    for name in sorted(known ^ set(index.cells)):
        problem = f"cell {name} is not listed" if name in known else f"cell {name} does not follow from the manifest"
        raise archive.error(INDEX, problem, "the ids of the manifest's cells by this version")
    return manifest


def _unpacked(archive: BundleArchive, index: Index, stage: Path, known: list[Unit]) -> set[Origin]:
    """Unpack and check all files; return the origins of their records."""
    found: set[Origin] = set()
    for file in index.files:
        unit = next((unit for unit in known if unit.holds(file.path)), None)
        if unit is None:
            raise archive.error(file.path, "does not follow from the manifest", "records of its cells and studies")
        target = stage / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as content:
            if archive.unpack(file.path, content) != file.sha256:
                raise archive.error(file.path, "changed: its digest is another", f"SHA-256 {file.sha256}")
        if target.stat().st_size != file.bytes:
            raise archive.error(file.path, f"{target.stat().st_size:,} bytes", f"{file.bytes:,}")
        found |= _checked(archive, file.path, target, unit)
    return found


def _checked(archive: BundleArchive, place: str, file: Path, unit: Unit) -> set[Origin]:
    """The origins of a file's records; ValueError for a line that is none, and for records of other cells."""
    lines = read_lines(file)
    if lines.left_out:
        reason = lines.left_out.partition(", ")[2]
        raise archive.error(place, reason, f"records of schema {SCHEMA} and before")
    if not file.read_bytes().endswith(b"\n") and file.stat().st_size:
        raise archive.error(place, "its last line does not end", "whole lines")
    others = named_arms(lines.records) - unit.arms if unit.arms is not None else set()
    for name in sorted(others):
        raise archive.error(place, f"records of {name}", f"those of {', '.join(sorted(unit.arms or ())) or 'no cell'}")
    return set(origins(lines.records))


def _is_new(archive: BundleArchive, unit: Unit, stage: Path, runs: Path) -> bool:
    """True if the runs folder has no such cell, False if it has one of equal records; ValueError for other records."""
    own, there = ({f.relative_to(top).as_posix(): f for f in unit.files(top)} for top in (stage, runs))
    for path in sorted(own.keys() | there.keys()) if (runs / unit.path).exists() else ():
        if path not in own or path not in there or own[path].read_bytes() != there[path].read_bytes():
            raise archive.error(path, f"{runs / unit.path} has other records", "no such folder, or equal records")
    return not there


def _move(stage: Path, runs: Path, folders: list[str]) -> None:
    """Move the folders out of the stage, whole; an error moves them back."""
    moved: list[Path] = []
    try:
        for path in map(Path, folders):
            # A folder within one that is new has moved with it.
            if (stage / path).exists():
                for folder in reversed(path.parents):
                    if not (runs / folder).exists():
                        (runs / folder).mkdir()
                        moved.append(folder)
                (stage / path).rename(runs / path)
                moved.append(path)
    except BaseException:
        for path in reversed(moved):
            if (stage / path).exists():
                (runs / path).rmdir()
            else:
                (runs / path).rename(stage / path)
        raise
