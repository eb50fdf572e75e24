"""Trees of images in class folders, and the part of a tree that a dataset uses."""

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from crt.data import Dataset
from crt.data.archives import COMPRESSIONS, SYNSET, Tar, form_of, open_archive
from crt.data.class_folders import class_folders, find_split, first_of, holds_images, is_flat
from crt.data.files import Files, Folder, is_image
from crt.data.synsets import SYNSETS
from crt.data.val_labels import read_labels

FOLDERS = {"train": "train", "test": "val"}
"""Folder of each split in the source; ImageNet's own test images have no labels."""
OFFICIAL = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
"""Archives in which ImageNet is published: one of class tars, one of images without folders."""
_FORMS = "train/CLASS/IMAGE and val/CLASS/IMAGE in a folder, an uncompressed tar or a zip, or ILSVRC2012_img_*.tar"
_SORT = (
    "allowed: val/CLASS/IMAGE, as soumith's valprep.sh sorts them, or --val-labels FILE with the class of each, such as"
    " LOC_val_solution.csv"
)


@dataclass(frozen=True)
class Tree:
    """A split's images (class, name), sorted by class and then by name, like torchvision's ImageFolder."""

    classes: dict[str, int]
    """Label of each class folder."""
    images: list[tuple[str, str]]
    read: Callable[[str, str], bytes]


def trees_of(dataset: Dataset, source: Path, labels: Path | None = None) -> dict[str, Tree]:
    """The dataset's splits in a folder, a tar or a zip; `labels` assigns classes to a `val` without class folders.

    ValueError for class folders that are not the dataset's, and for images that cannot be assigned or reached.
    """
    try:
        trees = _chosen(dataset, _all_trees(source, labels))
    except OSError as error:
        raise ValueError(f"{error.filename or source}: {error.strerror} (allowed for --source: {_FORMS})") from None
    for split, tree in trees.items():
        others = set().union(*(other.classes for other in trees.values()))
        if missing := sorted(others - tree.classes.keys()):
            raise ValueError(
                f"{source}: no class folders under {FOLDERS[split]} for {first_of(missing)} (allowed: the same class"
                f" folders under {' and '.join(FOLDERS.values())}; they may be empty)"
            )
        check_classes(dataset, source, FOLDERS[split], tree.classes)
    return trees


def _all_trees(source: Path, labels: Path | None) -> dict[str, Tree]:
    files = open_source(source)
    trees, sorted_by = {}, labels
    for split, name in FOLDERS.items():
        root, holder = find_split(files, name), files
        if root is None and (source / OFFICIAL[name]).is_file():
            holder = Tar(source / OFFICIAL[name])
            root = find_split(holder, name)
        if root is None:
            if name == "val":
                _check_aliases(files)
            continue
        if name != "val" or not is_flat(holder, root):
            trees[split] = _tree(holder, root)
        elif labels is None:
            raise ValueError(f"{holder.describe(root)}: its images lie in no class folders ({_SORT})")
        else:
            trees[split], sorted_by = _sorted(holder, root, labels), None
    trees = {split: tree for split, tree in trees.items() if tree.images}
    if not trees:
        raise ValueError(f"{source}: {_what_is_there(files)} (allowed: {_FORMS})")
    if sorted_by is not None:
        raise ValueError(f"{sorted_by}: {source} has no val that it could sort (leave it out)")
    return trees


def open_source(source: Path) -> Files:
    """The files of a folder, an uncompressed tar or a zip."""
    if source.is_dir():
        return Folder(source)
    if (form := form_of(source)) in COMPRESSIONS:
        raise ValueError(
            f"{source}: compressed ({form}), in which images cannot be found quickly (allowed: an uncompressed tar;"
            " uncompress or unpack it)"
        )
    return open_archive(source)


def _tree(files: Files, root: str) -> Tree:
    classes, images = class_folders(files, root)
    return Tree(_numbered(classes), images, lambda *image: files.read(posixpath.join(root, *image)))


def _sorted(files: Files, root: str, labels: Path) -> Tree:
    """Tree of a folder without class folders, from a file of its labels."""
    names = [name for name, is_folder in files.entries(root).items() if not is_folder and is_image(name)]
    kinds = read_labels(labels, names)
    images = sorted((kinds[name], name) for name in names)
    return Tree(_numbered(set(kinds.values())), images, lambda _, name: files.read(posixpath.join(root, name)))


def _numbered(classes: Iterable[str]) -> dict[str, int]:
    return {kind: place for place, kind in enumerate(sorted(classes))}


def _chosen(dataset: Dataset, trees: dict[str, Tree]) -> dict[str, Tree]:
    """The dataset's part of the trees: all of them, or its superclasses' folders with their labels."""
    if dataset.superclasses is None:
        return trees
    ranges = list(enumerate(dataset.superclasses))
    chosen = {}
    for split, tree in trees.items():
        labels = {kind: label for kind in tree.classes for label, (low, high, _) in ranges if low <= kind <= high}
        chosen[split] = Tree(labels, [image for image in tree.images if image[0] in labels], tree.read)
    return chosen


def check_classes(dataset: Dataset, source: Path, folder: str, classes: dict[str, int]) -> None:
    """Raise ValueError, with the extra and missing names, where the class folders are not the dataset's."""
    names = classes.keys()
    counts = [count for *_, count in dataset.superclasses or ()] or [1] * len(dataset.classes)
    ranges = dataset.superclasses or (("n", "o", 0),)
    published = {kind for kind in SYNSETS if any(low <= kind <= high for low, high, _ in ranges)}
    extra, missing = sorted(names - published), sorted(published - names)
    if 2 * len(missing) >= len(published):  # the folders are named in another way, and most of them alike
        shapes = {name: re.sub(r"\d+", "0", name) for name in names}
        common = Counter(shapes.values()).most_common(1)
        extra, missing = sorted(name for name in names if (shapes[name], sum(counts)) not in common), []
        extra = extra if len(extra) < len(names) else []
    elif not extra and not missing:
        return
    if extra or missing or Counter(classes.values()) != Counter(dict(enumerate(counts))):
        faults = [f"{first_of(extra)} none of them"] if extra else []
        faults += [f"{first_of(missing)} missing"] if missing else []
        raise ValueError(
            f"{source}: {len(names)} class folders of {dataset.name} under {folder}{', ' if faults else ''}"
            f"{', '.join(faults)}"
            f" (allowed: {sum(counts)}, for labels go by the folders' names; those of classes left out may be empty)"
        )


def _check_aliases(files: Files) -> None:
    """Raise ValueError for validation images in a folder of another name; the official test images have no labels."""
    for alias in ("validation", "valid", "test"):
        root = find_split(files, alias)
        if root is not None and holds_images(files, root) and not (alias == "test" and is_flat(files, root)):
            raise ValueError(
                f"{files.describe(root)}: validation images under another name? (allowed: the folder val; rename it"
                " if they are, else move it away)"
            )


def _what_is_there(files: Files) -> str:
    """Contents of a source without train and val, with a remedy where one is known."""
    entries = files.entries("")
    if not entries:
        return "empty"
    classes = [name for name, is_folder in entries.items() if is_folder]
    below = [name for name in (*classes, "Data/CLS-LOC") if files.is_folder(f"{name}/train")]
    if below:
        return f"holds train in the folder {below[0]}: give that folder"
    if sum(bool(SYNSET.fullmatch(name)) for name in entries) > len(entries) / 2:
        return f"holds class folders ({min(classes, default='')}, …) without train or val above them"
    return f"holds {first_of(list(entries))}, and no train and no val"
