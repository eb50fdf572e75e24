"""Write a bundle of a manifest's records."""

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from bench.commands.bundle import (
    INDEX,
    MANIFEST,
    MOST_BYTES,
    MOST_FILE,
    MOST_FILES,
    RECORDS,
    BundledFile,
    Index,
    Origin,
    ordered,
    origins,
    units,
)
from bench.manifest import read_manifest, shipped
from bench.records import read_lines
from crt import screen
from crt.disk import replacing

_SUFFIX = ".zip"


def export(path: Path, runs: Path, to: Path, quick: bool, overrides: Sequence[str]) -> str:
    """Write all records of a manifest's cells to a zip, without weights; return a line that describes it.

    Equal records give equal bytes. ValueError for records that cannot be read, and where there are none.
    """
    if to.suffix != _SUFFIX:
        raise ValueError(f"--to {to}: {to.suffix!r} (allowed: {_SUFFIX})")
    if not to.parent.is_dir():
        raise ValueError(f"--to {to}: no folder {to.parent}")
    text = shipped.manifest(path).read_bytes()
    manifest = read_manifest(path, quick, networks=False, overrides=overrides)
    files: list[BundledFile] = []
    found: set[Origin] = set()
    with screen.working("writing records"), replacing(to) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            _add(archive, MANIFEST, text)
            for record_file in (each for unit in units(manifest) for each in unit.files(runs)):
                place = record_file.relative_to(runs).as_posix()
                content = _complete(record_file)
                found |= set(origins(read_lines(record_file).records))
                files.append(BundledFile(path=place, bytes=len(content), sha256=_digest(content)))
                _add(archive, f"{RECORDS}/{place}", content)
            _check_size(path, runs, files)
            index = Index(
                name=path.stem,
                quick=quick,
                overrides=tuple(overrides),
                manifest=_digest(text),
                cells=tuple(dict.fromkeys(cell.id for cell in manifest.cells)),
                origins=ordered(found),
                files=tuple(files),
            )
            _add(archive, INDEX, index.sealed().model_dump_json(indent=1).encode())
    recorded = {each.path.split("/")[0] for each in files} & set(index.cells)
    hosts = ", ".join(sorted({origin.host for origin in found}))
    return (
        f"wrote {to}: {len(recorded)} of {len(index.cells)} cells, {len(files)} files of records from {hosts};"
        f" SHA-256 {_digest(to.read_bytes())}"
    )


def _check_size(path: Path, runs: Path, files: Sequence[BundledFile]) -> None:
    if not files:
        raise ValueError(f"{path}: no records of its cells in {runs} (allowed: a folder with records of some)")
    total = sum(each.bytes for each in files)
    if len(files) > MOST_FILES or total > MOST_BYTES:
        most = f"{MOST_FILES:,} files of {MOST_BYTES:,} bytes together"
        raise ValueError(f"{path}: {len(files):,} files of {total:,} bytes in {runs} (allowed: {most})")


def _complete(file: Path) -> bytes:
    """The complete lines of a file of records; ValueError for one with a line that is no record."""
    if (size := file.stat().st_size) > MOST_FILE:
        raise ValueError(f"{file}: {size:,} bytes (allowed in a bundle: {MOST_FILE:,} at most)")
    content = file.read_bytes()
    if left_out := read_lines(file).left_out:
        raise ValueError(f"{left_out}: no record (allowed: files that this version reads without leaving anything out)")
    return content[: content.rfind(b"\n") + 1]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # ZipInfo's date is constant, so that equal records give equal bundles.
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)
