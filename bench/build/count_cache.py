"""Keep counts on disk between commands: one file for each version of the code that counts, one JSON line a count."""

import hashlib
import json
import os
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import crt

Counts = dict[str, float]

_SOURCES = ("cell", "build/cost", "build/counter", "build/networks", "build/passes", "manifest/validate")
"""Modules of `bench` that a count depends on, beside all of `crt`."""
_VERSIONS = 8
"""Files that are kept: those of the versions that counted last."""


def folder() -> Path:
    """Folder of the counts: in the user's cache, as the XDG Base Directory Specification has it."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / "robust-training-bench"


def missing(key: str) -> bool:
    """True where this count is not kept yet."""
    return key not in _known()


def kept(key: str, count: Callable[[], Counts]) -> Counts:
    """The counts under a key; counted now, and kept, where they are missing."""
    known = _known()
    if key not in known:
        known[key] = count()
        _append(key, known[key])
    return known[key]


@cache
def _known() -> dict[str, Counts]:
    """Counts that the file holds; a damaged line is left out."""
    found: dict[str, Counts] = {}
    try:
        lines = _file().read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, RuntimeError):
        return found
    for line in lines:
        try:
            digest, key, counts = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            continue
        if digest == _digest(key, counts):
            found[key] = counts
    return found


def _append(key: str, counts: Counts) -> None:
    """Add a line by one write, so that processes may do so at once; a folder that cannot be written is left alone."""
    line = json.dumps([_digest(key, counts), key, counts])
    try:
        file = _file()
        new = not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        # The line break before it ends what a process that was killed has left.
        with open(file, "ab", buffering=0) as out:
            out.write(f"\n{line}\n".encode())
        if new:
            _forget_old(file.parent)
    except (OSError, RuntimeError):
        pass


def _forget_old(kept_in: Path) -> None:
    files = sorted(kept_in.glob("counts-*.jsonl"), key=lambda file: file.stat().st_mtime)
    for file in files[:-_VERSIONS]:
        file.unlink(missing_ok=True)


def _digest(key: object, counts: object) -> str:
    return hashlib.sha256(json.dumps([key, counts], sort_keys=True).encode()).hexdigest()[:16]


def _file() -> Path:
    return folder() / f"counts-{counter_version()}.jsonl"


@cache
def counter_version() -> str:
    """16 hex digits of the SHA-256 of all that a count depends on: sources, versions of torch and torchvision."""
    here = Path(__file__).parents[1]
    files = [here / f"{name}.py" for name in _SOURCES] + sorted(Path(crt.__file__).parent.rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(here.parent)}\0".encode() + file.read_bytes() + b"\0")
    digest.update(" ".join(map(_installed, ("torch", "torchvision"))).encode())
    return digest.hexdigest()[:16]


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
