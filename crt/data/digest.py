"""Digests of .beton files: written beside them as sha256sum writes them, and checked once for each file.

A stamp remembers which file was checked, by its size, time and inode, so that a large file is not read again at every
start. It lies beside the file, or in the user's cache where that folder cannot be written.
"""

import fcntl
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from crt.data.progress import progress
from crt.disk import cache_folder, naming, read_note, replacing
from crt.sealed import DamagedError

_BLOCK = 2**24
_SHOWN = 2**31
"""Size in bytes from which reading a whole file takes so long that its progress is shown."""


def sidecar(path: Path) -> Path:
    """The file of the digest, which `sha256sum --check` reads."""
    return path.with_name(f"{path.name}.sha256")


def place(part: Path, path: Path) -> None:
    """Move a finished file to its place, and write its digest beside it.

    A process killed in between leaves a file without a digest, never one with another file's.
    """
    with open(part, "rb") as file:
        digest = _sha256(file, path)
    sidecar(path).unlink(missing_ok=True)
    part.replace(path)
    _write(sidecar(path), f"{digest}  {path.name}\n")
    with open(path, "rb") as file:
        _stamp(path, _version(file, digest))


def check(path: Path) -> None:
    """Raise DamagedError if a file is not as it was written; one without a digest passes.

    Processes that start together wait for the first of them.
    """
    expected = read(path)
    if expected is None:
        return
    with naming(path), open(path, "rb") as file:
        version = _version(file, expected)
        if _stamped(path, version):
            return
        # Some network file systems lock only files that are open for writing: then each process reads for itself.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if not _stamped(path, version):
            _compare(file, path, expected)
            _stamp(path, version)


def verify(path: Path) -> bool:
    """Read the whole file and compare it with its digest; False if it has none, DamagedError if it is damaged."""
    expected = read(path)
    if expected is None:
        return False
    with naming(path), open(path, "rb") as file:
        _compare(file, path, expected)
        _stamp(path, _version(file, expected))
    return True


def read(path: Path) -> str | None:
    """The digest beside a file, None without one; ValueError for a file of a digest that holds none."""
    file = sidecar(path)
    try:
        text = read_note(file).decode(errors="replace")
    except FileNotFoundError:
        return None
    found = re.match(r"\\?([0-9a-f]{64})\s", text)
    if not found:
        raise ValueError(f"{file}: {text[:40]!r} is no SHA-256 (allowed: a line of sha256sum, or no such file)")
    return found[1]


def _compare(file: io.BufferedReader, path: Path, expected: str) -> None:
    digest = _sha256(file, path)
    if digest != expected:
        raise DamagedError(f"{path}: damaged: its SHA-256 is {digest[:12]}, it was written with {expected[:12]}")


def _sha256(file: io.BufferedReader, path: Path) -> str:
    size, digest = os.fstat(file.fileno()).st_size, hashlib.sha256()
    if size < _SHOWN:
        return hashlib.file_digest(file, "sha256").hexdigest()
    with progress(f"checking {path.name}", size // 2**20, "MB") as advance:
        while block := file.read(_BLOCK):
            digest.update(block)
            advance(file.tell() // 2**20)
    return digest.hexdigest()


def _version(file: io.BufferedReader, digest: str) -> list:
    status = os.fstat(file.fileno())
    return [status.st_size, status.st_mtime_ns, status.st_ino, digest]


def _stamped(path: Path, version: list) -> bool:
    for stamp in _stamps(path):
        with suppress(OSError, ValueError):
            if json.loads(read_note(stamp)) == version:
                return True
    return False


def _stamp(path: Path, version: list) -> None:
    """Remember a checked file; where nothing can be written, it is read again at the next start."""
    for stamp in _stamps(path):
        with suppress(OSError, RuntimeError):
            stamp.parent.mkdir(parents=True, exist_ok=True)
            _write(stamp, json.dumps(version))
            return


def _stamps(path: Path) -> Iterator[Path]:
    yield path.with_name(f".{path.name}.checked")
    with suppress(RuntimeError):  # a user without a home
        name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
        yield cache_folder() / f"checked-{name}.json"


def _write(path: Path, text: str) -> None:
    with replacing(path, shared=True) as file:
        file.write(text.encode())
        os.fchmod(file.fileno(), 0o644)  # as readable as the .beton file
