"""Cache of counts on disk: one file per version of the counting code, one JSON line per count."""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import crt
from crt.disk import cache_folder

Counts = dict[str, float]

_SOURCES = (
    "cell",
    "build/cost",
    "build/counter",
    "build/launches",
    "build/networks",
    "build/passes",
    "manifest/validate",
)
"""Modules of `bench` that a count depends on, in addition to all of `crt`."""
_VERSIONS = 8
"""Number of files to keep: those of the most recent versions."""


def missing(key: str) -> bool:
    """True if the count under this key is not cached."""
    return key not in _known()


def kept(key: str, count: Callable[[], Counts]) -> Counts:
    """The cached counts under a key; missing ones are counted and cached."""
    known = _known()
    if key not in known:
        known[key] = count()
        _append(key, known[key])
    return known[key]


@cache
def _known() -> dict[str, Counts]:
    """Counts in the file by key; damaged lines are skipped."""
    cached: dict[str, Counts] = {}
    try:
        lines = _file().read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, RuntimeError):
        return cached
    for line in lines:
        try:
            digest, key, counts = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            continue
        if digest == _digest(key, counts):
            cached[key] = counts
    return cached


def _append(key: str, counts: Counts) -> None:
    """Append a line in one write, which is safe among processes; a folder that cannot be written is ignored."""
    line = json.dumps([_digest(key, counts), key, counts])
    try:
        file = _file()
        new = not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        # The leading line break ends a partial line that a killed process may have left.
        with open(file, "ab", buffering=0) as out:
            out.write(f"\n{line}\n".encode())
        if new:
            _forget_old(file.parent)
    except (OSError, RuntimeError):
        pass


def _forget_old(cache: Path) -> None:
    files = sorted(cache.glob("counts-*.jsonl"), key=lambda file: file.stat().st_mtime)
    for file in files[:-_VERSIONS]:
        file.unlink(missing_ok=True)


def _digest(key: object, counts: object) -> str:
    return hashlib.sha256(json.dumps([key, counts], sort_keys=True).encode()).hexdigest()[:16]


def _file() -> Path:
    return cache_folder() / f"counts-{counter_version()}.jsonl"


@cache
def counter_version() -> str:
    """16 hex digits of the SHA-256 of the sources and the versions of torch and torchvision that counts depend on."""
    package = Path(__file__).parents[1]
    files = [package / f"{name}.py" for name in _SOURCES] + sorted(Path(crt.__file__).parent.rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(package.parent)}\0".encode() + file.read_bytes() + b"\0")
    digest.update(" ".join(map(_installed, ("torch", "torchvision"))).encode())
    return digest.hexdigest()[:16]


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
