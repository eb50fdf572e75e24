"""Published batch files of CIFAR-10 and CIFAR-100: the pickled python version, and CIFAR-10's binary records."""

import io
import pickle
import posixpath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crt.data.class_folders import first_of
from crt.data.files import Files
from crt.data.sources import Images

_NAMES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
_RECORD = 1 + 3 * 32 * 32
_ARRAYS = {
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
}
"""All objects that a pickled batch may refer to: those with which NumPy pickles an array."""


def holds_batches(names: dict[str, bool]) -> bool:
    """True if any name in the folder is that of a batch file."""
    return any(name in names or f"{name}.bin" in names for split in _NAMES.values() for name in split)


def read_batches(files: Files, folder: str) -> dict[str, Images]:
    """The images of both splits from the batches in a folder; ValueError for a missing or incomplete batch."""
    names = files.entries(folder)
    binary = not any(name in names for split in _NAMES.values() for name in split)
    suffix, read = (".bin", _records) if binary else ("", unpickled)
    missing = [name + suffix for split in _NAMES.values() for name in split if name + suffix not in names]
    if missing:
        raise ValueError(
            f"{files.describe(folder)}: {first_of(missing)} missing (allowed: data_batch_1{suffix} to"
            f" data_batch_5{suffix} and test_batch{suffix})"
        )
    splits = {}
    for split, batches in _NAMES.items():
        paths = [posixpath.join(folder, name + suffix) for name in batches]
        pixels, labels = zip(*(read(files.describe(path), files.read(path)) for path in paths), strict=True)
        images = np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        splits[split] = np.ascontiguousarray(images), np.concatenate([np.asarray(part, np.int64) for part in labels])
    return splits


class _Arrays(pickle.Unpickler):
    """Loads arrays, numbers, texts, lists and dictionaries; refuses a file that refers to anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """NumPy's function or type for arrays, from its present or its former module."""
        module = module.replace("numpy.core", "numpy._core")
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"it calls {module}.{name}, which no batch of images does")
        return super().find_class(module, name)


def unpickled(place: str, content: bytes, name: str = "CIFAR-10") -> tuple[NDArray, list[int]]:
    """Pixels (N, 3072) and labels of a batch of the python version; CIFAR-100's are its fine labels."""
    try:
        loaded = _Arrays(io.BytesIO(content), encoding="latin1").load()
        batch: dict[str, Any] = {
            key.decode() if isinstance(key, bytes) else key: value for key, value in loaded.items()
        }
    except Exception as error:  # a damaged pickle may raise any error
        raise ValueError(
            f"{place}: {len(content):,} bytes, no batch of {name}: {error} (allowed: a whole batch of the python"
            " version)"
        ) from None
    found = "CIFAR-100" if "fine_labels" in batch else "CIFAR-10"
    if found != name:
        raise ValueError(f"{place}: a batch of {found} (allowed: {name})")
    pixels, labels = batch.get("data"), batch.get("fine_labels" if name == "CIFAR-100" else "labels") or []
    shape = pixels.shape if isinstance(pixels, np.ndarray) else None
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or shape != (len(labels), _RECORD - 1):
        raise ValueError(
            f"{place}: data of shape {shape} with {len(labels)} labels (allowed: uint8 of shape (N, 3072) and N labels)"
        )
    return pixels, labels


def _records(place: str, content: bytes) -> tuple[NDArray, NDArray]:
    """Pixels (N, 3072) and labels of a batch of the binary version, whose records are a label and its pixels."""
    if not content or len(content) % _RECORD:
        raise ValueError(
            f"{place}: {len(content):,} bytes, cut off or no batch of CIFAR-10 (allowed: whole records of"
            f" {_RECORD:,} bytes)"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    return records[:, 1:], records[:, 0]
