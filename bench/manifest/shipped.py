"""Manifests and Slurm profiles that come with the package, found by name from any directory."""

from importlib.resources import files
from pathlib import Path

_SUFFIX = ".yaml"


def folder(kind: str) -> Path:
    """The folder of `manifests` or of profiles (`slurm`): in the wheel within this package, in a checkout beside it."""
    package = Path(str(files("bench")))
    inside = package / kind
    return inside if inside.is_dir() else package.parent / kind


def names(kind: str) -> list[str]:
    """Names of what is shipped, such as `table4` and `rrm/table1`."""
    top = folder(kind)
    return sorted(file.relative_to(top).with_suffix("").as_posix() for file in top.rglob(f"*{_SUFFIX}"))


def manifest(given: Path) -> Path:
    """The file of a manifest: `given` itself or, where there is no such file, the shipped one of that name.

    `table4`, `table4.yaml` and `manifests/table4.yaml` name the same one. ValueError that lists what is shipped.
    """
    return _find("manifests", given)


def profile(given: Path) -> Path:
    """The file of a Slurm profile, in the same way: `a100`, `a100.yaml` or `slurm/a100.yaml`."""
    return _find("slurm", given)


def _find(kind: str, given: Path) -> Path:
    # A folder is no file to read, so that it hides nothing that is shipped; a pipe is one.
    if given.is_absolute() or (given.exists() and not given.is_dir()):
        return given
    name = given.relative_to(kind) if given.is_relative_to(kind) else given
    name = name.with_suffix("") if name.suffix == _SUFFIX else name
    known = names(kind)
    if name.as_posix() in known:
        return folder(kind) / f"{name}{_SUFFIX}"
    wrong = "Is a directory" if given.is_dir() else "No such file or directory"
    raise ValueError(f"{given}: {wrong} (allowed: a file, or a name of what is shipped: {', '.join(known)})")
