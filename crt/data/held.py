"""Number of images that a folder of .beton files holds of a dataset's split."""

from pathlib import Path

from crt.data import Dataset


def held(dataset: Dataset, split: str, data: Path) -> int:
    """Number of images in the split's file; the published number where the file is missing or is always complete."""
    path = dataset.path(split, data)
    if not dataset.resize or not path.exists():
        return dataset.images(split)
    from crt.data.beton_file import Beton  # imports numpy, which planning seldom needs

    return len(Beton(path))
