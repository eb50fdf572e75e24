"""Class folders of a split, at any depth of the source, and their images."""

import posixpath

from crt.data.files import SUFFIXES, Archive, Files, is_image
from crt.data.progress import track


def find_split(files: Files, name: str) -> str | None:
    """Path of a split's folder; None where there is none. ValueError where there are several.

    In archives it may lie below other folders; the topmost folder that holds images counts. A folder or an archive that
    holds only ILSVRC2012_val_* is itself `val`.
    """
    if isinstance(files, Archive):
        folders = files.find(name)
        folders = [path for path in folders if not path.startswith(folders[0] + "/")]
        if len(folders) > 1:  # folders of the same name beside the images may hold annotations
            folders = [path for path in folders if holds_images(files, path)]
            folders = [path for path in folders if path.count("/") == folders[0].count("/")]
        if len(folders) > 1:
            raise ValueError(f"{files.describe(folders[0])}: {folders[1]} is there too (allowed: one folder {name})")
        if folders:
            return folders[0]
    elif files.is_folder(name):
        return name
    top = files.entries("") if name == "val" else {}
    return "" if any(entry.startswith("ILSVRC2012_val_") for entry in top) else None


def holds_images(files: Files, folder: str, levels: int = 4) -> bool:
    """True for a folder with an image in it or at most `levels` levels below."""
    entries = files.entries(folder)
    below = (posixpath.join(folder, name) for name, is_folder in entries.items() if is_folder)
    return any(map(is_image, entries)) or (levels > 0 and any(holds_images(files, path, levels - 1) for path in below))


def is_flat(files: Files, root: str) -> bool:
    """True for a folder of images that holds no class folders."""
    entries = files.entries(root)
    return any(is_image(name) for name in entries) and not any(entries.values())


def class_folders(files: Files, root: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The class folders of a split, and its images (class, name), both sorted.

    ValueError, with the place, for images outside class folders or in a folder below one.
    """
    entries = files.entries(root)
    for name, is_folder in entries.items():
        if not is_folder and (is_image(name) or name.endswith(".tar")):
            remedy = f"unpack it into {name[:-4]}/" if name.endswith(".tar") else "images in class folders"
            raise ValueError(f"{files.describe(posixpath.join(root, name))}: in no class folder (allowed: {remedy})")
    classes = [name for name, is_folder in entries.items() if is_folder]
    images = []
    for kind in track(classes, f"listing {posixpath.basename(root)}", len(classes), "class folders"):
        folder = posixpath.join(root, kind)
        content = files.entries(folder)
        names = [name for name, is_folder in content.items() if not is_folder and is_image(name)]
        for below in (posixpath.join(folder, name) for name, is_folder in content.items() if is_folder):
            if holds_images(files, below):
                raise ValueError(
                    f"{files.describe(below)}: images in a folder below a class folder (allowed: CLASS/IMAGE; move them"
                    " up)"
                )
        others = [name for name, is_folder in content.items() if not is_folder]
        if others and not names:
            raise ValueError(
                f"{files.describe(posixpath.join(folder, others[0]))}: no image, nor is any other file beside it"
                f" (allowed: {', '.join(SUFFIXES)}, in any case)"
            )
        images += [(kind, name) for name in names]
    return classes, images


def first_of(names: list[str]) -> str:
    """The first three names, and the number of the others."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
