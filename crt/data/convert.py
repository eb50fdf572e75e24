"""Conversion of a dataset's images, in their usual forms, to its .beton files."""

import sys
from pathlib import Path

from crt.data import Dataset, image_folder, imagenet
from crt.data.beton_file import check, write
from crt.data.cifar import is_published, read_cifar10
from crt.data.progress import say
from crt.data.sources import Images, digits, download


def convert(
    dataset: Dataset,
    source: Path | None,
    data: Path,
    side: int = 500,
    quality: int = 90,
    labels: Path | None = None,
) -> list[str]:
    """Read, check and write both splits; without `source`, download them. ValueError for images of another dataset.

    `labels` is a file of the classes of ImageNet's validation images. Returns a line for each split that is neither
    written nor already there, because the source does not hold it.
    """
    if source is not None and not source.exists():
        raise ValueError(f"{source}: no such folder, tar or zip (allowed for --source: a folder or an archive)")
    if dataset.source is not None:
        return image_folder.convert(dataset, source or dataset.source, data)
    if dataset.resize:
        if source is None:
            raise ValueError(
                "--source: missing (allowed: a folder or an archive of train/CLASS/IMAGE and val/CLASS/IMAGE)"
            )
        return imagenet.convert(dataset, source, data, side, quality, labels)
    if labels is not None:
        raise ValueError(f"--val-labels: {dataset.name} takes none (allowed: ImageNet's datasets)")
    # Both splits are read and checked before either is written.
    splits = {split: digits(split) for split in ("train", "test")} if dataset.name == "digits" else None
    splits = splits or _cifar10(dataset, source or download(data))
    for split, images in splits.items():
        path = write(dataset, split, data, *images)
        say(f"{path}: {len(images[1])} images")
    return []


def _cifar10(dataset: Dataset, source: Path) -> dict[str, Images]:
    splits, exact = read_cifar10(dataset, source)
    for split, images in splits.items():
        try:
            check(dataset, split, *images)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
        if dataset.measured is None or is_published(split, *images):
            continue
        unlike = f"{source}: {dataset.name}-{split}: not pixel for pixel and label for label the published images"
        if exact:
            raise ValueError(f"{unlike} (allowed: undamaged files; fetch them again)")
        say(f"remark: {unlike} (a lossy copy?); results will be of these", sys.stderr)
    return splits
