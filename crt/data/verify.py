"""Check of .beton files by command: each is read to its end and compared with its digest."""

import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from crt.data import digest
from crt.data.beton_file import Beton
from crt.data.progress import say
from crt.text import command


def verify(paths: Sequence[Path]) -> bool:
    """Check the files, and all .beton files of folders, with a line for each; False if any is damaged or missing."""
    whole = bool(paths)
    if not paths:
        say("error: PATH: missing (allowed: .beton files, or folders of them)", sys.stderr)
    for file in chain.from_iterable(map(_files, paths)):
        try:
            say(f"{file}: {_verified(file)}")
        except ValueError as error:
            say(f"error: {error}", sys.stderr)
            whole = False
        except OSError as error:
            say(f"error: {error.filename or file}: {error.strerror}", sys.stderr)
            whole = False
    return whole


def _files(path: Path) -> list[Path]:
    """The .beton files of a folder; any other path, and a folder without one, is taken for a file itself."""
    return (sorted(path.glob("*.beton")) if path.is_dir() else []) or [path]


def _verified(file: Path) -> str:
    beton = Beton(file)
    if digest.verify(file):
        return f"whole, {len(beton)} images, as its SHA-256 says"
    return (
        f"{len(beton)} images, but no digest, as earlier versions wrote it (if you trust it, add one:"
        f" {command('sha256sum', file)} > {command(digest.sidecar(file))})"
    )
