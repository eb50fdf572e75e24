"""Reading of a zip from elsewhere: every name, kind and size is checked before anything is unpacked."""

import hashlib
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bench.commands.bundle import INDEX, MANIFEST, MOST_BYTES, MOST_FILE, MOST_FILES, MOST_TEXT, RECORDS
from crt.text import shorten

_END = struct.Struct("<4s4H2LH")
"""The record at the end of a zip: mark, numbers of disks and entries, size and place of the directory, comment."""
_MOST_DIRECTORY = 32 * 2**20
_NAME = re.compile(r"[A-Za-z0-9_][\w.,=+-]{0,200}")
"""A name of a folder or file: no dots alone, no separators, no control characters."""
_BLOCK = 2**20


class BundleArchive:
    """The entries of a bundle. ValueError for anything that a bundle does not have."""

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self._path, self._archive = path, archive
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in archive.infolist():
            self._check(entry)
            self._entries[entry.filename] = entry
        total = sum(entry.file_size for entry in self._entries.values())
        if total > MOST_BYTES:
            raise self.error("", f"unpacks to {total:,} bytes", f"{MOST_BYTES:,} at most")
        for name, most in ((INDEX, MOST_TEXT), (MANIFEST, MOST_TEXT // 16)):
            if name not in self._entries:
                raise self.error(name, "missing", "a bundle that bench.export wrote")
            if self._entries[name].file_size > most:
                raise self.error(name, f"{self._entries[name].file_size:,} bytes", f"{most:,} at most")

    @property
    def records(self) -> set[str]:
        """Paths of the files of records in a runs folder."""
        return {name.removeprefix(f"{RECORDS}/") for name in self._entries if name.startswith(f"{RECORDS}/")}

    def text(self, name: str) -> bytes:
        """The content of the index or the manifest."""
        return b"".join(self._blocks(name))

    def unpack(self, path: str, file: BinaryIO) -> str:
        """Write a file of records; return its digest."""
        digest = hashlib.sha256()
        for block in self._blocks(f"{RECORDS}/{path}"):
            digest.update(block)
            file.write(block)
        return digest.hexdigest()

    def error(self, place: str, problem: str, allowed: str) -> ValueError:
        """An error in a file of the bundle."""
        return ValueError(": ".join(filter(None, (str(self._path), shorten(place), f"{problem} (allowed: {allowed})"))))

    def _blocks(self, name: str) -> Iterator[bytes]:
        """Yield the content of an entry, at most as many bytes as the directory states."""
        left = self._entries[name].file_size
        try:
            with self._archive.open(self._entries[name]) as file:
                while block := file.read(min(_BLOCK, left + 1)):
                    left -= len(block)
                    if left < 0:
                        raise self.error(name, "longer than the zip's directory says", "the stated size")
                    yield block
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise self.error(name, f"damaged: {error}", "a bundle as bench.export wrote it") from None
        if left:
            raise self.error(name, f"{left:,} bytes shorter than the zip's directory says", "the stated size")

    def _check(self, entry: zipfile.ZipInfo) -> None:
        name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
        inside = name.startswith(f"{RECORDS}/") and all(map(_NAME.fullmatch, name.split("/")))
        if entry.file_size > MOST_FILE:
            raise self.error(name, f"{entry.file_size:,} bytes", f"{MOST_FILE:,} at most")
        if name in self._entries:
            raise self.error(name, "twice in the zip", "each file once")
        if not inside and name not in (INDEX, MANIFEST):
            raise self.error(name, "no file of a bundle", f"{INDEX}, {MANIFEST}, {RECORDS}/FOLDER/NAME.jsonl")
        if kind not in (0, stat.S_IFREG) or entry.is_dir():
            raise self.error(name, "a link, a folder or a device", "files")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self.error(name, "encrypted, or compressed in another way", "deflate, without a password")


@contextmanager
def opened(path: Path) -> Iterator[BundleArchive]:
    """Open a bundle; ValueError for a file that is none."""
    with open(path, "rb") as file:
        _check_end(path, file)
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise ValueError(f"{path}: {error} (allowed: a bundle as bench.export wrote it)") from None
        with archive:
            yield BundleArchive(path, archive)


def _check_end(path: Path, file: BinaryIO) -> None:
    """Refuse a directory that is too large to be read, before it is read, and the 64-bit extension, which hides one."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size))
    end = file.read(_END.size)
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06"):
        raise ValueError(f"{path}: no zip without a comment (allowed: a bundle as bench.export wrote it)")
    _, _, _, _, entries, directory, start, _ = _END.unpack(end)
    if entries > MOST_FILES + 2 or directory > _MOST_DIRECTORY:
        raise ValueError(f"{path}: {entries:,} files (allowed: {MOST_FILES:,} at most)")
    if start + directory + _END.size != size:
        raise ValueError(f"{path}: bytes beside those of its files (allowed: a bundle as bench.export wrote it)")
