"""CIFAR-10 in its usual forms: the python version, the binary version, or a tree of images, in folders or archives."""

import hashlib
import io
import posixpath
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crt.data import Dataset
from crt.data.archives import Broken, Tar, Zips, open_archive
from crt.data.batch_files import holds_batches, read_batches
from crt.data.class_folders import class_folders, find_split, first_of
from crt.data.decode import unreadable
from crt.data.files import Archive, Files, Folder, is_hidden
from crt.data.progress import track
from crt.data.sources import Images

_ALLOWED = (
    "cifar-10-batches-py, cifar-10-batches-bin or torchvision's folder, a tree train/CLASS/IMAGE and test/CLASS/IMAGE,"
    " or a tar or zips of one of them"
)
_VERSIONS = ("cifar-10-batches-py", "cifar-10-batches-bin")
_OTHERS = {
    "trainLabels.csv": "Kaggle's CIFAR-10, whose test images have no labels; without --source CIFAR-10 is downloaded",
    "cifar-10-batches-mat": "CIFAR-10 for Matlab",
    "cifar-100-python": "CIFAR-100",
    "cifar-100-binary": "CIFAR-100",
    "fine_label_names.txt": "CIFAR-100",
    "meta": "CIFAR-100",
}
"""Names by which other contents of a folder are recognized."""
_PUBLISHED = {"train": "0b042288facb4ac2bbbf7ac094b03d3b", "test": "2d4b638242c1782d318a6cd0409081b7"}
"""`digest` of CIFAR-10 as published."""


def read_cifar10(dataset: Dataset, source: Path) -> tuple[dict[str, Images], bool]:
    """The train and test images (N, 32, 32, 3) with their labels, and True if the form preserves every pixel.

    ValueError, with the file, for an incomplete source or one that is not CIFAR-10.
    """
    try:
        sources: list[Files] = [open_archive(source) if source.is_file() else Folder(source)]
        batches, trees = _find_batches(sources), _find_trees(sources)
        if batches is None and len(trees) < 2 and source.is_dir():
            sources += _archives(source)
            batches = None if trees else _find_batches(sources)
            trees = _find_trees(sources)
        if batches is not None:
            return read_batches(*batches), True
        members: dict[str, list[tuple[str, int]]] = {}
        for split in ("train", "test"):
            if split not in trees:
                there = _what_is_there(sources)
                raise ValueError(f"{source}: {there}, and no {split}/CLASS/IMAGE (allowed: {_ALLOWED})")
            members[split] = list_tree(dataset, split, *trees[split])
        return {split: read_tree(dataset, split, trees[split][0], members[split]) for split in trees}, False
    except Broken as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        where = getattr(error, "filename", None) or source
        raise ValueError(f"{where}: {reason} (allowed: files that can be read; {_ALLOWED})") from None


def _archives(source: Path) -> list[Files]:
    """All zips of a folder as one, and its tars that are named after CIFAR-10."""
    files = [path for path in sorted(source.iterdir()) if path.is_file() and not is_hidden(path.name)]
    zips = [path for path in files if path.suffix.lower() == ".zip"]
    tars = [path for path in files if path.name.lower().endswith((".tar", ".tgz", ".tar.gz"))]
    tars = [path for path in tars if "cifar" in path.name.lower() and "100" not in path.name]
    return [*([Zips(zips)] if zips else []), *map(Tar, tars)]


def _places(files: Files) -> list[str]:
    """Folders that may hold CIFAR-10's files: the top folder and those below, on a disk only those named after it."""
    named = [
        name
        for name, is_folder in files.entries("").items()
        if is_folder and (isinstance(files, Archive) or "cifar" in name.lower()) and "100" not in name
    ]
    below = [f"{name}/{version}" for name in named for version in _VERSIONS if files.is_folder(f"{name}/{version}")]
    return ["", *named, *below]


def _find_batches(sources: list[Files]) -> tuple[Files, str] | None:
    """The folder of the python or binary version; ValueError for Kaggle's set, which cannot be used."""
    for files in sources:
        for place in _places(files):
            names = files.entries(place)
            if "trainLabels.csv" in names:
                raise ValueError(f"{files.describe(place)}: {_OTHERS['trainLabels.csv']} (allowed: {_ALLOWED})")
            if holds_batches(names):
                return files, place
    return None


def _find_trees(sources: list[Files]) -> dict[str, tuple[Files, str]]:
    """Class folders of each split."""
    trees: dict[str, tuple[Files, str]] = {}
    for split, names in {"train": ("train",), "test": ("test", "val", "valid", "validation")}.items():
        for name, files in ((name, files) for name in names for files in sources):
            if isinstance(files, Archive):
                root = find_split(files, name)
            else:
                roots = (posixpath.join(place, name) for place in _places(files))
                root = next((root for root in roots if files.is_folder(root)), None)
            if root is not None:
                trees.setdefault(split, (files, root))
    return trees


def _what_is_there(sources: list[Files]) -> str:
    names = [name for files in sources for name in files.entries("")]
    other = next((what for name, what in _OTHERS.items() if name in names), None)
    if other or any("cifar-100" in name.lower() for name in names):
        return f"holds {other or 'CIFAR-100'}"
    return f"holds {first_of(names)}" if names else "empty"


def list_tree(dataset: Dataset, split: str, files: Files, root: str) -> list[tuple[str, int]]:
    """Paths and labels of a tree CLASS/IMAGE, sorted by the images' names over all classes.

    A numbered set thus keeps its shuffled order, and its first K images are a representative part. Class folders have
    the classes' names, or their labels as numbers. ValueError for class folders or a number of images that are not the
    dataset's.
    """
    classes, members = class_folders(files, root)
    numbers = [str(label) for label in range(len(dataset.classes))]
    wanted = numbers if set(classes) == set(numbers) else list(dataset.classes)
    extra, missing = sorted(set(classes) - set(wanted)), sorted(set(wanted) - set(classes))
    if extra or missing:
        faults = [f"{first_of(extra)} none of them"] if extra else []
        faults += [f"{first_of(missing)} missing"] if missing else []
        raise ValueError(
            f"{files.describe(root)}: class folders of {dataset.name}: {', '.join(faults)} (allowed:"
            f" {', '.join(dataset.classes)}, or 0 to {len(numbers) - 1})"
        )
    if len(members) != dataset.images(split):
        raise ValueError(f"{files.describe(root)}: {len(members)} images (allowed: {dataset.images(split)})")
    members.sort(key=lambda member: (member[1], member[0]))
    return [(posixpath.join(root, *member), wanted.index(member[0])) for member in members]


def read_tree(dataset: Dataset, split: str, files: Files, members: list[tuple[str, int]]) -> Images:
    """The images of a tree's members; ValueError for a broken or grey image, or one of another size."""
    paths = [path for path, _ in members]
    images, labels = (
        np.empty((len(paths), *dataset.shape[1:], 3), np.uint8),
        np.array([k for _, k in members], np.int64),
    )
    rows = list(range(len(paths)))
    if isinstance(files, Tar):  # a compressed archive is read in its own order
        rows.sort(key=lambda row: files.content(paths[row]) or ())
    grey = []
    for row in track(rows, f"reading {split}", len(paths)):
        image, mode = _decoded(files, paths[row], images.shape[1:])
        images[row] = image
        grey += [paths[row]] if mode in ("1", "L", "LA", "I", "I;16", "F") else []
    if grey and not is_published(split, images, labels):  # some published images are grey, and a tree may store them so
        raise ValueError(f"{files.describe(min(grey))}: greyscale, as are {len(grey) - 1} others (allowed: RGB)")
    return images, labels


def _decoded(files: Files, path: str, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], str]:
    try:
        with Image.open(io.BytesIO(files.read(path))) as opened:
            mode = opened.mode
            image = np.asarray(opened.convert("RGB"))
    except Exception as error:  # a decoder may raise any error on broken bytes
        raise ValueError(f"{files.describe(path)}: {unreadable(error)}") from None
    if image.shape != shape:
        size = "x".join(map(str, image.shape[:2]))
        raise ValueError(f"{files.describe(path)}: an image of {size} (allowed: {shape[0]}x{shape[1]})")
    return image, mode


def digest(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """Digest of the images with their labels, in any order: the sum of their BLAKE2b digests modulo 2**128."""
    pairs = zip(images, labels, strict=True)
    hashes = (hashlib.blake2b(bytes([label]) + image.tobytes(), digest_size=16) for image, label in pairs)
    return f"{sum(int.from_bytes(hasher.digest()) for hasher in hashes) % 2**128:032x}"


def is_published(split: str, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> bool:
    """True for the published images and labels of CIFAR-10, in any order."""
    return digest(images, labels) == _PUBLISHED[split]
