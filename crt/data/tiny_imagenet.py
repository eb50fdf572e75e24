"""Tiny-ImageNet, 200 classes of ImageNet at 64x64, from `tiny-imagenet-200` in a folder, a zip or a tar."""

import posixpath
from functools import partial
from pathlib import Path

from PIL import Image

from crt.data import Dataset
from crt.data.archives import SYNSET, Broken
from crt.data.class_folders import first_of
from crt.data.files import Files, is_image
from crt.data.raw_trees import write_trees
from crt.data.trees import Tree, open_source

_TOP, _ANNOTATIONS = "tiny-imagenet-200", "val_annotations.txt"
_ALLOWED = (
    f"{_TOP} with train/CLASS/images/* and val/images/* with val/{_ANNOTATIONS}, or val/CLASS/*, in a folder, a zip or"
    " an uncompressed tar"
)


def convert_tiny_imagenet(dataset: Dataset, source: Path, data: Path) -> list[str]:
    """Write the training images, and the validation images as test images; ValueError, with the place, for others."""
    try:
        files = open_source(source)
        top = _TOP if files.is_folder(_TOP) else ""
        for split in ("train", "val"):
            if not files.is_folder(posixpath.join(top, split)):
                there = first_of(list(files.entries(top))) or "nothing"
                raise ValueError(f"{source}: holds {there}, and no folder {split} (allowed: {_ALLOWED})")
        train = _class_images(files, posixpath.join(top, "train"))
        val = _val_images(files, posixpath.join(top, "val"))
    except Broken as error:
        raise ValueError(f"{source}: {error} (allowed: files that can be read; {_ALLOWED})") from None
    classes = sorted({kind for kind, _ in train})
    if len(classes) != len(dataset.classes) or not all(map(SYNSET.fullmatch, classes)):
        words = f"{len(classes)} class folders, {first_of(classes) or 'none'}"
        raise ValueError(f"{source}: train: {words} (allowed: {len(dataset.classes)}, named after WordNet IDs)")
    if unlike := sorted({kind for kind, _ in val} ^ set(classes)):
        raise ValueError(f"{source}: {first_of(unlike)}: a class of train or of val alone (allowed: the same classes)")
    labels = {kind: label for label, kind in enumerate(classes)}
    trees = {}
    for split, paths in (("train", train), ("test", val)):
        if len(paths) != dataset.images(split):
            raise ValueError(f"{source}: {len(paths)} images of {split} (allowed: {dataset.images(split)})")
        # By the images' names, so that all forms of a copy give the same order.
        images = sorted(paths, key=lambda image: (image[1], image[0]))
        trees[split] = Tree(labels, images, partial(_read, files, paths))
    return write_trees(dataset, trees, partial(_as_it_is, dataset), source, data)


def _read(files: Files, paths: dict[tuple[str, str], str], *image: str) -> bytes:
    return files.read(paths[image[0], image[1]])


def _as_it_is(dataset: Dataset, image: Image.Image) -> Image.Image:
    if (image.height, image.width) != dataset.shape[1:]:
        raise ValueError(f"an image of {image.height}x{image.width}")
    return image


def _class_images(files: Files, root: str) -> dict[tuple[str, str], str]:
    """Path of each image (class, name) in `CLASS/images/` or `CLASS/`."""
    paths: dict[tuple[str, str], str] = {}
    for kind, is_folder in files.entries(root).items():
        if not is_folder:
            continue
        folder = posixpath.join(root, kind)
        inner = posixpath.join(folder, "images")
        folder = inner if files.is_folder(inner) else folder
        paths |= {(kind, name): posixpath.join(folder, name) for name in files.entries(folder) if is_image(name)}
    return paths


def _val_images(files: Files, root: str) -> dict[tuple[str, str], str]:
    """Path of each validation image (class, name), by the annotations, or by class folders where they are sorted."""
    images = posixpath.join(root, "images")
    if not files.is_folder(images):
        return _class_images(files, root)
    file = posixpath.join(root, _ANNOTATIONS)
    names = [name for name in files.entries(images) if is_image(name)]
    if _ANNOTATIONS not in files.entries(root):
        raise ValueError(f"{files.describe(root)}: no {_ANNOTATIONS} beside images (allowed: {_ALLOWED})")
    kinds = {}
    for number, line in enumerate(files.read(file).decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) < 2 or not SYNSET.fullmatch(words[1]):
            raise ValueError(f"{files.describe(file)}:{number}: {line[:60]!r} (allowed: an image and its WordNet ID)")
        kinds[words[0]] = words[1]
    if missing := [name for name in names if name not in kinds]:
        raise ValueError(f"{files.describe(file)}: no class of {first_of(missing)} (allowed: one of each image)")
    return {(kinds[name], name): posixpath.join(images, name) for name in names}
