"""Find the manifests and Slurm profiles of this package by name, from any directory."""

from importlib.resources import files
from pathlib import Path

_SUFFIX = ".yaml"


def folder(kind: str) -> Path:
    """Folder of the `manifests` or the profiles (`slurm`): inside this package in a wheel, next to it in a checkout."""
    package = Path(str(files("bench")))
    inside = package / kind
    return inside if inside.is_dir() else package.parent / kind


def names(kind: str) -> list[str]:
    """Names of the shipped files of a kind, such as `table4` and `rrm/table1`."""
    top = folder(kind)
    return sorted(file.relative_to(top).with_suffix("").as_posix() for file in top.rglob(f"*{_SUFFIX}"))


def manifest(given: Path) -> Path:
    """File of a manifest: `given` itself or, if there is no such file, the shipped manifest of that name.

    `table4`, `table4.yaml` and `manifests/table4.yaml` name the same file. ValueError that lists the shipped names.
    """
    return _find("manifests", given)


def profile(given: Path) -> Path:
    """File of a Slurm profile, found in the same way: `a100`, `a100.yaml` or `slurm/a100.yaml`."""
    return _find("slurm", given)


def _find(kind: str, given: Path) -> Path:
    # A folder of the same name must not hide a shipped file; a pipe can be read and is used.
    if given.is_absolute() or (given.exists() and not given.is_dir()):
        return given
    name = given.relative_to(kind) if given.is_relative_to(kind) else given
    name = name.with_suffix("") if name.suffix == _SUFFIX else name
    known = names(kind)
    if name.as_posix() in known:
        return folder(kind) / f"{name}{_SUFFIX}"
    reason = "Is a directory" if given.is_dir() else "No such file or directory"
    raise ValueError(f"{given}: {reason} (allowed: a file, or a name of what is shipped: {', '.join(known)})")
