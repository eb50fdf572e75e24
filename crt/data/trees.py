"""Trees of images in class folders, or tars of them, and the part of one that a dataset takes."""

import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from crt.data import Dataset
from crt.data.sources import SUFFIXES

FOLDERS = {"train": "train", "test": "val"}
"""Each split's folder in the source: ImageNet's own test images have no labels."""


@dataclass(frozen=True)
class Tree:
    """A split's images (class, name), sorted by class and then by name, as torchvision's ImageFolder has them."""

    classes: dict[str, int]
    """The label of each class folder."""
    images: list[tuple[str, str]]
    read: Callable[[str, str], bytes]


def trees_of(dataset: Dataset, source: Path) -> dict[str, Tree]:
    """The dataset's splits that a folder or a tar holds; ValueError where class folders of it are missing."""
    try:
        trees = _chosen(dataset, _tar(source) if source.is_file() else _folder(source))
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"{source}: {error} (allowed for --source: a folder or an uncompressed tar)") from None
    _same_classes(dataset, source, trees)
    return {split: tree for split, tree in trees.items() if tree.images}


def _chosen(dataset: Dataset, trees: dict[str, Tree]) -> dict[str, Tree]:
    """The dataset's part of the trees: all of them, or what its superclasses hold under their labels."""
    if dataset.superclasses is None:
        return trees
    ranges = list(enumerate(dataset.superclasses))
    chosen = {}
    for split, tree in trees.items():
        labels = {kind: label for kind in tree.classes for label, (low, high, _) in ranges if low <= kind <= high}
        chosen[split] = Tree(labels, [image for image in tree.images if image[0] in labels], tree.read)
    return chosen


def _same_classes(dataset: Dataset, source: Path, trees: dict[str, Tree]) -> None:
    if not trees:
        allowed = " and ".join(f"{folder}/CLASS/IMAGE" for folder in FOLDERS.values())
        raise ValueError(f"{source}: holds no images (allowed: {allowed}, in a folder or an uncompressed tar)")
    counts = [count for *_, count in dataset.superclasses or ()] or [1] * len(dataset.classes)
    for split, tree in trees.items():
        if Counter(tree.classes.values()) != Counter(dict(enumerate(counts))):
            raise ValueError(
                f"{source}: {len(tree.classes)} class folders of {dataset.name} under {FOLDERS[split]} (allowed:"
                f" {sum(counts)}, for labels go by the folders' names; those of classes left out may be empty)"
            )
    if len({tuple(tree.classes) for tree in trees.values()}) > 1:
        one, other = (set(tree.classes) for tree in trees.values())
        raise ValueError(f"{source}: {min(one ^ other)} is a class folder of only one of {', '.join(FOLDERS.values())}")


def _folder(source: Path) -> dict[str, Tree]:
    trees = {}
    for split, name in FOLDERS.items():
        root = source / name
        if root.is_dir():
            classes = {entry.name for entry in os.scandir(root) if entry.is_dir()}
            files = ((kind, file) for kind in sorted(classes) for file in sorted(os.listdir(root / kind)))
            images = [image for image in files if _is_image(image[1])]
            trees[split] = Tree(
                _numbered(classes), images, lambda *image, root=root: root.joinpath(*image).read_bytes()
            )
    return {split: tree for split, tree in trees.items() if tree.images}


def _tar(source: Path) -> dict[str, Tree]:
    places: dict[str, dict[tuple[str, str], tuple[int, int]]] = {name: {} for name in FOLDERS.values()}
    classes: dict[str, set[str]] = {name: set() for name in places}
    with tarfile.open(source, "r:") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # else a million of them are kept
            parts = PurePosixPath(member.name).parts
            if member.isdir() and len(parts) > 1 and parts[-2] in places:
                classes[parts[-2]].add(parts[-1])
            elif member.isfile() and len(parts) > 2 and parts[-3] in places and _is_image(parts[-1]):
                classes[parts[-3]].add(parts[-2])
                places[parts[-3]][parts[-2:]] = (member.size, member.offset_data)
    file = os.open(source, os.O_RDONLY)

    def read(name: str) -> Callable[[str, str], bytes]:
        return lambda kind, image: os.pread(file, *places[name][kind, image])

    return {
        split: Tree(_numbered(classes[name]), sorted(places[name]), read(name))
        for split, name in FOLDERS.items()
        if places[name]
    }


def _numbered(classes: Iterable[str]) -> dict[str, int]:
    return {kind: place for place, kind in enumerate(sorted(classes))}


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)
