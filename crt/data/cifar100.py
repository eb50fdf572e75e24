"""CIFAR-100 in its published python version, in a folder or a tar."""

import hashlib
import posixpath
from pathlib import Path

import numpy as np

from crt.data.archives import Broken, open_archive
from crt.data.batch_files import unpickled
from crt.data.class_folders import first_of
from crt.data.files import Archive, Files, Folder
from crt.data.sources import Images

_VERSION, _TAR = "cifar-100-python", "cifar-100-python.tar.gz"
_ALLOWED = f"{_VERSION} with its files train and test, or {_TAR}"
_PUBLISHED = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}
"""MD5 of the files as published, by which torchvision checks them."""


def read_cifar100(source: Path) -> dict[str, Images]:
    """The train and test images (N, 32, 32, 3) with their fine labels; ValueError, with the file, for any others."""
    try:
        files, place = _find(source)
        splits = {}
        for split in ("train", "test"):
            path = posixpath.join(place, split)
            content = files.read(path)
            pixels, labels = unpickled(files.describe(path), content, "CIFAR-100")
            images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != _PUBLISHED[split]:
                raise ValueError(
                    f"{files.describe(path)}: not the published file (allowed: {_ALLOWED}; fetch it again)"
                )
            splits[split] = images, np.asarray(labels, np.int64)
        return splits
    except Broken as error:
        raise ValueError(f"{source}: {error} (allowed: files that can be read; {_ALLOWED})") from None


def _find(source: Path) -> tuple[Files, str]:
    """The files, and the folder among them that holds `train` and `test`."""
    files: Files = open_archive(source) if source.is_file() else Folder(source)
    if not isinstance(files, Archive) and (source / _TAR).is_file() and not (source / _VERSION).is_dir():
        files = open_archive(source / _TAR)
    for place in ("", _VERSION):
        if place and not files.is_folder(place):
            continue
        names = files.entries(place)
        if not names.get("train", True) and not names.get("test", True):  # files, not folders
            return files, place
    there = first_of(list(files.entries(""))) or "nothing"
    raise ValueError(f"{source}: holds {there} (allowed: {_ALLOWED})")
