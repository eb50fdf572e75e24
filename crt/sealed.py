"""Zip archives that carry their own digest, so that a damaged one is noticed before anything in it is used.

torch.save and numpy.savez write zip archives. The digest stands in the archive's comment, which all readers of zip
files skip: the name of the owner, a space, `sha256:` and 64 hex digits of the SHA-256 over the archive as it is without
the comment, followed by the owner's name.
"""

import hashlib
import io
import os
import re
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, NamedTuple, cast

from crt.disk import naming, replacing, start_writeback

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

_END = b"PK\x05\x06"
"""Start of the last record of a zip archive, of 22 bytes and the comment; bytes 20 and 21 are the comment's length."""
_COMMENT = re.compile(rb"([!-~]*) sha256:([0-9a-f]{64})")
_LONGEST = 22 + 512
"""Bytes at the end of the file in which the last record is searched."""
_BLOCK = 2**20
_AHEAD = 8
"""Blocks that may be written before they are digested."""


class DamagedError(ValueError):
    """Raised for a file that is not as it was written; the message names the file."""


class _Seal(NamedTuple):
    owner: str
    sha256: str
    covered: int
    """Number of bytes before the comment's length."""


class _Digesting(io.RawIOBase):
    """A stream that digests the bytes while it writes them; not seekable, so that no writer goes back."""

    def __init__(self, file: BinaryIO, digester: "Executor"):
        self._file, self._digester, self._digest = file, digester, hashlib.sha256()
        self._digested: deque[Future[None]] = deque()
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        if self.error:
            return len(data)  # a buffer that is dropped writes its rest
        # A copy, since the caller may change the data while it is digested; few at a time, since they take memory.
        self._digested.append(self._digester.submit(self._digest.update, bytes(data)))
        if len(self._digested) > _AHEAD:
            self._digested.popleft().result()
        try:
            self._file.write(data)
            start_writeback(self._file)
        except OSError as error:
            self.error = error
            raise
        return len(data)

    def digest(self, end: bytes) -> str:
        """SHA-256 in hex digits of all that is written, followed by `end`."""
        self._digester.submit(self._digest.update, end).result()
        return self._digest.hexdigest()


@contextmanager
def writing(path: Path, owner: str, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """Yield a stream for a zip archive, which replaces `path` with its digest once it is on disk; see `replacing`."""
    from concurrent.futures import ThreadPoolExecutor  # which most commands that check digests do not need

    with replacing(path, keep) as file, ThreadPoolExecutor(1) as digester:
        stream = _Digesting(file, digester)
        buffer = io.BufferedWriter(stream, _BLOCK)
        try:
            yield cast(IO[bytes], buffer)
        except RuntimeError:
            # torch.save reports an error of the stream as its own.
            raise stream.error or DamagedError(f"{path}: cannot be written") from None
        buffer.flush()
        comment = f"{owner} sha256:{stream.digest(owner.encode())}".encode()
        file.seek(-2, os.SEEK_END)
        file.write(len(comment).to_bytes(2, "little") + comment)


@contextmanager
def reading(path: Path, owner: str) -> Iterator[BinaryIO]:
    """Yield the archive at `path` after checking it; DamagedError where it is not as it was written for `owner`.

    An archive without a digest, as earlier versions wrote, is checked by the checksums of its members.
    """
    with naming(path), open(path, "rb") as file:
        seal = _seal(file, path)
        if seal is None:
            _check_members(file, path)
        elif seal.owner != owner:
            raise DamagedError(f"{path}: written for {seal.owner}, not for {owner}")
        else:
            _check_digest(file, seal, path)
        file.seek(0)
        yield file


def is_sealed(path: Path) -> bool:
    """True if the archive carries a digest, right or wrong; DamagedError where it has no end."""
    with naming(path), open(path, "rb") as file:
        return _seal(file, path) is not None


def check_seal(path: Path) -> None:
    """Raise DamagedError if the file carries a digest that is not its own; any other file passes."""
    with naming(path), open(path, "rb") as file:
        try:
            seal = _seal(file, path)
        except DamagedError:
            return  # an archive of another writer, whose comment may be anything
        if seal:
            _check_digest(file, seal, path)


def _seal(file: BinaryIO, path: Path) -> _Seal | None:
    """The digest that the archive carries, None for an archive without a comment; DamagedError for any other end."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise DamagedError(f"{path}: damaged: an empty file")
    file.seek(max(0, size - _LONGEST))
    tail = file.read()
    end = tail.rfind(_END)
    comment = tail[end + 22 :] if end >= 0 else b""
    if end < 0 or len(tail) < end + 22 or int.from_bytes(tail[end + 20 : end + 22], "little") != len(comment):
        raise DamagedError(f"{path}: damaged: its {size} bytes do not end as a zip archive does (cut off?)")
    if not comment:
        return None
    found = _COMMENT.fullmatch(comment)
    if not found:
        raise DamagedError(f"{path}: damaged: the comment at its end is no digest")
    return _Seal(found[1].decode(), found[2].decode(), size - len(comment) - 2)


def _check_digest(file: BinaryIO, seal: _Seal, path: Path) -> None:
    digest, left = hashlib.sha256(), seal.covered
    file.seek(0)
    while left:
        block = file.read(min(_BLOCK, left))
        if not block:
            break
        digest.update(block)
        left -= len(block)
    digest.update(b"\0\0" + seal.owner.encode())
    if digest.hexdigest() != seal.sha256:
        raise DamagedError(
            f"{path}: damaged: its SHA-256 is {digest.hexdigest()[:12]}, it was written with {seal.sha256[:12]}"
        )


def _check_members(file: BinaryIO, path: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()
    except OSError:
        raise
    except Exception as error:  # zipfile raises many kinds of errors on damaged bytes
        raise DamagedError(f"{path}: damaged: {type(error).__name__}: {error}") from None
    if bad:
        raise DamagedError(f"{path}: damaged: the checksum of {bad} in it is wrong")
