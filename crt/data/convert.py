"""Conversion of a dataset's images, in their usual forms, to its .beton files."""

import sys
from pathlib import Path

from crt.data import Dataset, image_folder, imagenet
from crt.data.beton_file import check, write
from crt.data.cifar import is_published, read_cifar10
from crt.data.cifar100 import read_cifar100
from crt.data.progress import say
from crt.data.sources import Images, digits, download
from crt.data.svhn import read_svhn
from crt.data.tiny_imagenet import convert_tiny_imagenet


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
    if dataset.name == "tiny_imagenet":
        return convert_tiny_imagenet(dataset, _given(dataset, source), data)
    # Both splits are read and checked before either is written.
    for split, images in _read(dataset, source, data).items():
        path = write(dataset, split, data, *images)
        say(f"{path}: {len(images[1])} images")
    return []


def _read(dataset: Dataset, source: Path | None, data: Path) -> dict[str, Images]:
    """The images of both splits, checked against the dataset's numbers and constants."""
    if dataset.name == "digits":
        return {split: digits(split) for split in ("train", "test")}
    if dataset.name == "cifar10":
        return _cifar10(dataset, source or download(data))
    splits = {"cifar100": read_cifar100, "svhn": read_svhn}[dataset.name](_given(dataset, source))
    for split, images in splits.items():
        check(dataset, split, *images)
    return splits


def _given(dataset: Dataset, source: Path | None) -> Path:
    if source is None:
        raise ValueError(f"--source: missing (allowed: a copy of {dataset.name} as it is published)")
    return source


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
