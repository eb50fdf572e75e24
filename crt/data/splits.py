"""What a folder of .beton files holds of a dataset's splits; a missing file is told without opening any."""

from pathlib import Path

from crt.data import Dataset
from crt.text import invocation

_NEEDS_NO_SOURCE = ("cifar10", "digits")
"""Datasets that are bundled or downloaded."""


def require(dataset: Dataset, split: str, data: Path) -> Path:
    """The split's .beton file; ValueError with the command that writes it where it is missing."""
    path = dataset.path(split, data)
    if not path.exists():
        write_it = invocation("crt.data.beton", *_words(dataset), "--data", data)
        raise ValueError(f"{path}: missing (write it: {write_it})")
    return path


def held(dataset: Dataset, split: str, data: Path) -> int:
    """Number of images in the split's file; the published number where the file is missing or is always complete."""
    path = dataset.path(split, data)
    if not dataset.resize or not path.exists():
        return dataset.images(split)
    from crt.data.beton_file import Beton  # imports numpy, which planning seldom needs

    return len(Beton(path))


def _words(dataset: Dataset) -> list[str | Path]:
    """The words with which `crt.data.beton` writes a dataset's files."""
    if dataset.source:
        flip = [] if dataset.flip else ["--no-flip"]
        return ["folder", "--source", dataset.source, "--size", str(dataset.shape[1]), *flip]
    return [dataset.name, *([] if dataset.name in _NEEDS_NO_SOURCE else ["--source", "FOLDER"])]
