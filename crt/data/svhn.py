"""SVHN's cropped digits (Netzer et al., 2011) from the published files for Matlab."""

import hashlib
import io
from pathlib import Path

import numpy as np

from crt.data.class_folders import first_of
from crt.data.sources import Images

_PUBLISHED = {"train": "e26dedcc434d2e4c54c9b2d4a06d8373", "test": "eb5a983be6a315427106f1b164d9cef3"}
"""MD5 of the files as published, by which torchvision checks them."""
_ALLOWED = "a folder of train_32x32.mat and test_32x32.mat"


def read_svhn(source: Path) -> dict[str, Images]:
    """The train and test images (N, 32, 32, 3) with their labels; ValueError, with the file, for any others."""
    return {split: _read(source, split) for split in ("train", "test")}


def _read(source: Path, split: str) -> Images:
    from scipy.io import loadmat

    file = source / f"{split}_32x32.mat"
    if not file.is_file():
        names = sorted(path.name for path in source.iterdir()) if source.is_dir() else [source.name]
        raise ValueError(f"{source}: holds {first_of(names) or 'nothing'}, and no {file.name} (allowed: {_ALLOWED})")
    try:
        content = file.read_bytes()
        variables = loadmat(io.BytesIO(content))
        images, labels = variables["X"].transpose(3, 0, 1, 2), variables["y"].ravel()
    except Exception as error:  # a damaged file may raise any error
        raise ValueError(f"{file}: cannot be read: {error} (allowed: a whole file with X and y)") from None
    if images.dtype != np.uint8 or images.shape != (len(labels), 32, 32, 3):
        shape = f"{images.dtype} of shape {images.shape} with {len(labels)} labels"
        raise ValueError(f"{file}: {shape} (allowed: uint8 of shape (N, 32, 32, 3) and N labels)")
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != _PUBLISHED[split]:
        raise ValueError(f"{file}: not the published file (allowed: {_ALLOWED} as published; fetch it again)")
    # The digit 0 has the label 10.
    return np.ascontiguousarray(images), labels.astype(np.int64) % 10
