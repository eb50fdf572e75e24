"""Read a cluster's profile."""

from pathlib import Path

from bench.specs import typed
from bench.yamls import load_yaml
from launchers.profile import Profile

DEFAULT = Path(__file__).parents[1] / "slurm" / "default.yaml"


def read(path: Path) -> Profile:
    """The profile in a file; ValueError with file, key, value and what is allowed."""
    content = load_yaml(path)
    try:
        return typed(Profile, content, "profile")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
