"""Writing of files on disks that fill up or fail: whole files, whole lines, and errors that name the file."""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_NOTE = 4096
"""Bytes of the longest note: a digest, a stamp, the name of a teacher."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within this context, an OSError that names no file, such as a full disk's, is raised with the name of `path`."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str | bytes | os.PathLike) or error.errno is None:
            raise  # the name of an open file is a number
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from None


def cache_folder() -> Path:
    """The project's folder in the user's cache, as in the XDG Base Directory Specification.

    RuntimeError for a user without a home.
    """
    cache_home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache_home) if os.path.isabs(cache_home) else Path.home() / ".cache") / "robust-training-bench"


@contextmanager
def replacing(path: Path, keep: Path | None = None, shared: bool = False) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` once it is on disk: readers see the former file or the whole new one.

    The former file is kept as `keep`. An error removes what is written, which makes room on a full disk. `shared` is
    True if several processes may write `path` at once.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part") if shared else path.with_suffix(".part")
    with naming(path):
        try:
            with open(part, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if keep and path.exists():
                path.replace(keep)
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise


def start_writeback(file: BinaryIO) -> None:
    """Have the system begin to write what `file` holds to disk, without a wait, so that a later fsync waits less.

    A hint, which systems other than Linux do without.
    """
    if sys.platform == "linux":
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_note(path: Path) -> bytes:
    """The content of a small file, at most its first 4 kB; errors as of `read_file`."""
    return read_file(path, _NOTE)


def read_file(path: Path, most: int = -1) -> bytes:
    """The content of a file, at most its first `most` bytes if that is not below 0.

    ValueError for a pipe or a device, which may never end; OSError, which names it, for a directory.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # which does not wait for the writer of a pipe
    try:
        kind = os.fstat(file).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise ValueError(f"{path}: a pipe or a device (allowed: a file)")
        with naming(path), open(file, "rb", closefd=False) as stream:
            return stream.read(most)
    finally:
        os.close(file)


def write_text(path: Path, text: str) -> None:
    """Write a text file; characters that UTF-8 lacks are escaped, and an error names the file."""
    with naming(path):
        path.write_text(text, encoding="utf-8", errors="backslashreplace")


def append_line(path: Path, line: bytes) -> None:
    """Append one line and sync it to disk, after removing an incomplete last line that a killed writer left.

    An error removes the part that is written, so that the file holds whole lines only.
    """
    # Unbuffered: a buffer would write its rest again when the file is closed.
    with naming(path), open(path, "a+b", buffering=0) as file:
        end = _end_of_lines(file)
        file.truncate(end)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(end)
            raise


def _end_of_lines(file) -> int:
    """Offset behind the last complete line."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return 0
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return size
    file.seek(0)
    return file.readall().rfind(b"\n") + 1
