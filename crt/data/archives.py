"""Tars and zips read as files by path, without unpacking."""

import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from threading import Lock

from crt.data.files import Archive, Link, is_hidden, is_image
from crt.data.progress import progress

SYNSET = re.compile(r"n\d{8}")
"""A WordNet ID, the name of a class of ImageNet."""
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"(\xb5/\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"PAR1": "parquet",
    b"\x89HDF": "HDF5",
    b"<": "an HTML page",
    b"version https://git-lfs": "a Git LFS pointer",
}
COMPRESSIONS = ("gzip", "bzip2", "xz")
"""Compressions that Python's tarfile reads."""
Broken = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error)
"""Errors raised by incomplete or damaged archives."""


def form_of(path: Path) -> str:
    """Form of a file by its first bytes: `tar`, `empty`, a name from a table, or `of no known form`."""
    with open(path, "rb") as file:
        head = file.read(512)
    if not head:
        return "empty"
    if head[257:262] == b"ustar":
        return "tar"
    return next((form for magic, form in _MAGIC.items() if head.lstrip().startswith(magic)), "of no known form")


class Tar(Archive):
    """The files of a tar. Plain tars are read by many threads at once, compressed ones quickly only in their own order.

    A tar of tars of classes, the form of ImageNet's published training images, is read as `train/CLASS/IMAGE`.
    ValueError for a file that is no complete tar.
    """

    def __init__(self, path: Path):
        super().__init__(str(path))
        self._descriptor: int | None = None
        try:
            archive = tarfile.open(path, "r:*")
            size = None if form_of(path) in COMPRESSIONS else path.stat().st_size
            with progress(f"listing {path.name}", size, "bytes") as advance:
                self._add_members(archive, "", 0, advance)
        except Broken as error:
            raise ValueError(f"{path}: {_fault(path, error)}") from None
        if form_of(path) in COMPRESSIONS:
            self._file, self._lock = archive.fileobj, Lock()
        else:
            archive.close()
            self._descriptor = os.open(path, os.O_RDONLY)

    def _add_members(self, archive: tarfile.TarFile, folder: str, offset: int, advance: Callable[[int], None]) -> None:
        while (member := archive.next()) is not None:
            # Otherwise tarfile keeps a million members. The standard library's types lack the list.
            archive.members.clear()  # type: ignore[attr-defined]
            path = folder + member.name
            if member.isdir():
                self.add_folder(path)
            elif member.islnk():
                self.add(path, Link(folder + member.linkname, hard=True))
            elif member.issym():
                self.add(path, Link(member.linkname))
            elif member.isfile():
                inner = PurePosixPath(member.name)
                if not folder and inner.suffix == ".tar" and SYNSET.fullmatch(inner.stem):
                    split = str(inner.parent) if inner.parent.name in ("train", "val") else "train"
                    with tarfile.open(fileobj=archive.extractfile(member), mode="r:") as images:
                        self._add_members(images, f"{split}/{inner.stem}/", member.offset_data, advance)
                else:
                    self.add(path, (offset + member.offset_data, member.size))
            advance(offset + archive.offset)
        # tarfile takes damage for the end of the tar, but the end is a block of zeros.
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE).count(0) != tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"{folder or 'it'} has no end after {offset + archive.offset:,} bytes")

    def load(self, content: tuple) -> bytes:
        """The bytes at (offset, size)."""
        offset, size = content
        if self._descriptor is not None:
            return os.pread(self._descriptor, size, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)


def _fault(path: Path, error: Exception) -> str:
    form, size = form_of(path), path.stat().st_size
    if form == "empty":
        return "is empty (allowed: a whole tar)"
    if form == "tar" or form in COMPRESSIONS:
        return f"{form}, cut off or damaged: {size:,} bytes, {error} (allowed: a whole file; fetch it again)"
    return f"is {form}, no tar (allowed: a tar)"


class Zips(Archive):
    """The files of several zips together. ValueError for an incomplete zip or for an image that is in two of them."""

    def __init__(self, paths: Iterable[Path]):
        paths = list(paths)
        super().__init__(", ".join(map(str, paths)))
        owners: dict[str, Path] = {}
        for path in paths:
            try:
                archive = zipfile.ZipFile(path)
            except Broken as error:
                raise ValueError(f"{path}: {_zip_fault(path, error)}") from None
            for info in archive.infolist():
                if info.is_dir():
                    self.add_folder(info.filename)
                elif not any(map(is_hidden, PurePosixPath(info.filename).parts)):
                    if info.filename in owners and is_image(info.filename):
                        both = sorted({str(owners[info.filename]), str(path)})
                        raise ValueError(
                            f"{' and '.join(both)}: {info.filename} is there twice (allowed: each image once)"
                        )
                    owners[info.filename] = path
                    self.add(info.filename, (archive, info))

    def describe(self, path: str) -> str:
        """The path, preceded by the name of the zip that holds it."""
        content = self._folders.get(os.path.dirname(path), {}).get(os.path.basename(path))
        return f"{content[0].filename}: {path}" if isinstance(content, tuple) else super().describe(path)

    def load(self, content: tuple) -> bytes:
        """The bytes of a member (archive, info)."""
        archive, info = content
        return archive.read(info)


def _zip_fault(path: Path, error: Exception) -> str:
    form, size = form_of(path), path.stat().st_size
    if form == "zip":
        return f"zip, cut off or damaged: {size:,} bytes, {error} (allowed: a whole file; fetch it again)"
    return f"is {form}, no zip (allowed: a zip)"


def open_archive(path: Path) -> Archive:
    """The files of a zip or a tar, recognized by its first bytes; ValueError for another form."""
    return Zips([path]) if form_of(path) == "zip" else Tar(path)
