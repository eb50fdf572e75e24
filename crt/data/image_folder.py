"""Datasets made from any folder of images: `train/CLASS/IMAGE` and `test/CLASS/IMAGE`, of any size and format.

A dataset's name contains a digest of the names and bytes of its images, of their size and of `flip`. Two folders
thus never share a file or a result, and a copy of a folder elsewhere shares both.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from crt.data import Constants, Dataset
from crt.data.class_folders import class_folders, first_of
from crt.data.decode import decoded
from crt.data.files import Folder
from crt.data.progress import track
from crt.data.raw_trees import write_trees
from crt.data.trees import Tree
from crt.disk import cache_folder, read_file, replacing

_FOLDERS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
"""Names of each split's folder; the first one that exists counts."""
_FORM = "train/CLASS/IMAGE and test/CLASS/IMAGE"
_DECIMALS = 6
"""Decimals of the normalization constants."""


class _Split(NamedTuple):
    """The images of a split, and the folder of their class folders."""

    folder: Path
    tree: Tree


@dataclass(frozen=True)
class _Measure:
    """The part of a description that needs every image's bytes."""

    digest: str
    constants: Constants


def describe(folder: Path, size: int, flip: bool = True) -> Dataset:
    """The dataset of a folder's images at `size` x `size` pixels, normalized by the statistics of its training images.

    Larger images are resized until their shorter side fits, and their centre is cropped. The first call reads every
    image; later ones list the folder, as long as sizes and times of its files are the same. ValueError, with the place,
    for a missing split, class folders that differ between splits, and an image that is broken or too small.
    """
    source = folder.absolute()
    try:
        splits = _splits(source)
        measure = _measured(splits, size)
    except OSError as error:
        raise ValueError(f"{error.filename or source}: {error.strerror} (allowed: a folder of {_FORM})") from None
    identity = hashlib.sha256(json.dumps([measure.digest, size, flip]).encode()).hexdigest()[:12]
    words = re.sub(r"[^A-Za-z0-9_-]+", "-", source.name)[:40].strip("-") or "images"
    mean, std = measure.constants
    train, test = splits["train"].tree, splits["test"].tree
    return Dataset(
        name=f"{words}-{size}-{identity}",
        classes=tuple(train.classes),
        train_images=len(train.images),
        test_images=len(test.images),
        mean=mean,
        std=std,
        measured=measure.constants,
        flip=flip,
        shape=(3, size, size),
        pad=size // 8,
        source=source,
    )


def convert(dataset: Dataset, source: Path, data: Path) -> list[str]:
    """Write both splits of raw images, each in an order shuffled once and for all; an interrupted write continues.

    ValueError where the folder's images are not those of the description.
    """
    size = dataset.shape[1]
    if (now := describe(source, size, dataset.flip).name) != dataset.name:
        raise ValueError(
            f"{source}: its images are now those of {now} (allowed: those of {dataset.name}; submit again)"
        )

    trees = {split: tree for split, (_, tree) in _splits(source).items()}
    return write_trees(dataset, trees, partial(square, size=size), source, data)


def square(image: Image.Image, size: int) -> Image.Image:
    """The centre of an image whose shorter side is resized to `size`; ValueError for an image that is too small."""
    if min(image.size) < size:
        raise ValueError(f"an image of {image.height}x{image.width} (allowed: at least {size}x{size})")
    return image if image.size == (size, size) else ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


def _splits(source: Path) -> dict[str, _Split]:
    """The splits' images in class folders; ValueError for a missing split and for class folders that differ."""
    if not source.is_dir():
        raise ValueError(f"{source}: no such folder (allowed: a folder of {_FORM})")
    files, splits = Folder(source), {}
    for split, names in _FOLDERS.items():
        root = next((name for name in names if files.is_folder(name)), None)
        if root is None:
            there = first_of(list(files.entries(""))) or "nothing"
            raise ValueError(f"{source}: holds {there}, and no folder {split} (allowed: {_FORM})")
        classes, images = class_folders(files, root)
        labels = {kind: label for label, kind in enumerate(classes)}
        splits[split] = _Split(source / root, Tree(labels, images, partial(_read, source / root)))
    train, test = (set(split.tree.classes) for split in splits.values())
    if unlike := sorted(train ^ test):
        raise ValueError(
            f"{source}: {first_of(unlike)}: a class folder of one split alone (allowed: the same class folders under"
            " train and test)"
        )
    if len(train) < 2:
        raise ValueError(f"{source}: {len(train)} class folders (allowed: at least 2)")
    if empty := sorted(train - {kind for kind, _ in splits["train"].tree.images}):
        folder = splits["train"].folder
        raise ValueError(f"{folder}: {first_of(empty)}: no image (allowed: at least one in each class folder)")
    if not splits["test"].tree.images:
        raise ValueError(f"{splits['test'].folder}: no image (allowed: {_FORM})")
    return splits


def _read(folder: Path, kind: str, name: str) -> bytes:
    return read_file(folder / kind / name)


def _measured(splits: dict[str, _Split], size: int) -> _Measure:
    """The measure in the user's cache, under the sizes and times of all files; or a new one, which is put there."""
    versions: list[Any] = [size]
    for folder, tree in splits.values():
        versions.append(str(folder))
        for image in tree.images:
            status = os.stat(folder.joinpath(*image))
            versions.append((*image, status.st_size, status.st_mtime_ns))
    key = hashlib.sha256(json.dumps(versions).encode()).hexdigest()[:32]
    with suppress(OSError, RuntimeError, ValueError, KeyError, TypeError):
        note = json.loads((cache_folder() / "image-folders" / f"{key}.json").read_text(encoding="utf-8"))
        return _Measure(note["digest"], (_triple(note["mean"]), _triple(note["std"])))
    measure = _measure(splits, size)
    with suppress(OSError, RuntimeError):
        file = cache_folder() / "image-folders" / f"{key}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        mean, std = measure.constants
        with replacing(file, shared=True) as out:
            out.write(json.dumps({"digest": measure.digest, "mean": mean, "std": std}).encode())
    return measure


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _measure(splits: dict[str, _Split], size: int) -> _Measure:
    """Digest of all images, and mean and standard deviation of the training pixels; every image is decoded."""
    digest, sums, squares = hashlib.sha256(), np.zeros(3, np.int64), np.zeros(3, np.int64)
    for split, (folder, tree) in splits.items():
        looks = track(_looks(folder, tree, size), f"reading {folder}", len(tree.images))
        for (kind, name), (content, total, square_total) in zip(tree.images, looks, strict=True):
            digest.update(json.dumps([split, kind, name, content]).encode() + b"\n")
            if split == "train":
                sums, squares = sums + total, squares + square_total
    pixels = len(splits["train"].tree.images) * size * size
    mean = sums / pixels / 255
    std = np.sqrt(squares / pixels / 255**2 - mean**2)
    if std.min() < 1e-3:
        raise ValueError(f"{splits['train'].folder}: a colour is the same in all pixels (allowed: images that differ)")
    return _Measure(digest.hexdigest(), (_triple(mean.round(_DECIMALS)), _triple(std.round(_DECIMALS))))


def _looks(folder: Path, tree: Tree, size: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """SHA-256 of each image's file, the sums of its pixels by colour, and those of their squares."""

    def look(image: tuple[str, str]) -> tuple[str, np.ndarray, np.ndarray]:
        content = tree.read(*image)
        try:
            pixels = np.asarray(square(decoded(content), size), np.int64)
        except ValueError as error:
            raise ValueError(f"{folder.joinpath(*image)}: {error}") from None
        return hashlib.sha256(content).hexdigest(), pixels.sum((0, 1)), (pixels**2).sum((0, 1))

    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        yield from pool.map(look, tree.images)
    finally:
        pool.shutdown(cancel_futures=True)  # so that an error or an interruption does not wait for all images
