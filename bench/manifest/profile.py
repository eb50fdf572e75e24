"""Read the profile of a cluster."""

from pathlib import Path

from bench.manifest import shipped
from bench.manifest.messages import typed
from bench.manifest.strict_yaml import load_yaml
from crt.data import DATASETS
from launchers.profile import Profile

DEFAULT = shipped.folder("slurm") / "default.yaml"


def read(path: Path) -> Profile:
    """The profile in a file, or the shipped profile of that name.

    ValueError with file, key, value and what is allowed.
    """
    content = load_yaml(shipped.profile(path))
    try:
        profile = typed(Profile, content, "profile")
        for name in profile.sources:
            if name not in DATASETS:
                raise ValueError(f"profile.sources.{name}: no dataset (allowed: {', '.join(sorted(DATASETS))})")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return profile
