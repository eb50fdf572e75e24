"""Where images come from before they are a .beton: bundled digits, torchvision's files, image trees and zips."""

import io
import zipfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from crt.data import Dataset

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]
SUFFIXES = (".webp", ".png", ".jpg", ".jpeg", ".bmp")
_TRAIN_DIGITS = 1_437


def digits(split: str) -> Images:
    """scikit-learn's 1,797 handwritten digits, 8x8 enlarged 4x to 32x32x3, split 1,437 / 360 once and for all."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    chosen = order[:_TRAIN_DIGITS] if split == "train" else order[_TRAIN_DIGITS:]
    small = np.round(images[chosen].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    large = small.repeat(4, axis=1).repeat(4, axis=2)
    return np.stack([large] * 3, axis=-1), labels[chosen].astype(np.int64)


def pickles(split: str, source: Path | None, data: Path) -> Images:
    """torchvision's CIFAR-10, from `source` or downloaded beside the .beton files; ValueError where there is none."""
    from torchvision.datasets import CIFAR10

    try:
        found = CIFAR10(str(source or data), train=split == "train", download=source is None)
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"CIFAR-10 from {source or 'the network'}: {error} (allowed for --source: torchvision's folder,"
            " a tree train/CLASS/*, test/CLASS/*, or zips of one)"
        ) from None
    return found.data, np.array(found.targets, np.int64)


def folder(dataset: Dataset, split: str, source: Path, track: Callable[[Iterable], Iterable]) -> Images:
    """The images of a tree `split/CLASS/NAME`, or of zips of one, in the order of their names; ValueError if unlike."""
    members = _tree(source, split) or _zips(source, split)
    if not members:
        raise ValueError(f"{source}: holds no {split}/CLASS/IMAGE, in folders or in zips (suffixes {SUFFIXES})")
    classes = sorted({kind for _, kind, _ in members})
    if classes != sorted(dataset.classes):
        raise ValueError(f"{source}: classes {classes} under {split} (allowed: {sorted(dataset.classes)})")
    if len(members) != dataset.images(split):
        raise ValueError(f"{source}: {len(members)} images under {split} (expected: {dataset.images(split)})")
    # By name over all classes: a numbered set keeps its shuffled order, so that its first K images are a fair part.
    members.sort(key=lambda member: (member[0], member[1]))
    images = np.empty((len(members), *dataset.shape[1:], 3), np.uint8)
    for row, (name, kind, read) in enumerate(track(members)):
        try:
            image = np.asarray(Image.open(io.BytesIO(read())).convert("RGB"))
            images[row] = image
        except (UnidentifiedImageError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{source}: {split}/{kind}/{name} cannot be read ({error})") from None
        except ValueError:
            raise ValueError(
                f"{source}: {split}/{kind}/{name} is {image.shape} (allowed: {images[row].shape})"
            ) from None
    return images, np.array([classes.index(kind) for _, kind, _ in members], np.int64)


def _tree(source: Path, split: str) -> list[tuple[str, str, Callable[[], bytes]]]:
    files = (source / split).glob("*/*")
    return [(f.name, f.parent.name, f.read_bytes) for f in files if f.suffix.lower() in SUFFIXES]


def _zips(source: Path, split: str) -> list[tuple[str, str, Callable[[], bytes]]]:
    members = []
    for path in sorted(source.glob("*.zip")):
        try:
            archive = _archive(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise ValueError(f"{path}: not a zip that can be read ({error})") from None
        for name in archive.namelist():
            parts = name.split("/")
            if len(parts) == 3 and parts[0] == split and name.lower().endswith(SUFFIXES):
                members.append((parts[2], parts[1], lambda archive=archive, name=name: archive.read(name)))
    return members


@cache
def _archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)
