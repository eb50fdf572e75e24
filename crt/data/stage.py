"""Copies of .beton files on a node's own storage, made once for each node and verified by checksum."""

import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path

from crt.data import Dataset
from crt.data.beton_file import ensure

_BLOCK = 2**24


def stage(dataset: Dataset, split: str, data: Path, local: Path) -> Path:
    """Folder under `local` that holds the split; concurrent processes of a node wait for one copy.

    ValueError where the storage is not writable, is too small, or returns other bytes than were written.
    """
    source = ensure(dataset, split, data)
    status = source.stat()
    # The original's path, size and time name the copy, so that a rewritten file is copied anew.
    version = hashlib.sha256(f"{source.absolute()} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = local / f"beton-{version}"
    copy, note = folder / source.name, folder / f"{source.name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "lock", "w", encoding="utf-8") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            if not (note.exists() and copy.exists() and copy.stat().st_size == status.st_size):
                _copy(source, copy, note, status.st_size)
    except OSError as error:
        raise ValueError(
            f"{folder}: {error.strerror} (allowed for stage: a folder on the node that can be written)"
        ) from None
    return folder


def _copy(source: Path, copy: Path, note: Path, size: int) -> None:
    free = shutil.disk_usage(copy.parent).free
    if free < size:
        raise ValueError(
            f"{copy.parent}: {free / 1e9:.1f} GB free, {source} has {size / 1e9:.1f} (name a larger stage)"
        )
    part = copy.with_suffix(".part")
    written = hashlib.sha256()
    with open(source, "rb") as original, open(part, "wb") as file:
        while block := original.read(_BLOCK):
            written.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    with open(part, "rb") as file:
        held = hashlib.file_digest(file, "sha256")
    if held.digest() != written.digest():
        part.unlink()
        raise ValueError(
            f"{part}: its SHA-256 is not that of {source}: the storage of this node does not keep what it is given"
        )
    part.replace(copy)
    known = {"source": str(source.absolute()), "sha256": held.hexdigest(), "bytes": size}
    note.write_text(json.dumps(known), encoding="utf-8")
