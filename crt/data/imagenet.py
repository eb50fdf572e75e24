"""Conversion of ImageNet or a part of it, from a class tree or a tar, to .beton files: resumable, in bounded memory."""

import fcntl
import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from crt.data import Dataset, digest, layout
from crt.data.progress import progress, say
from crt.data.trees import FOLDERS, Tree, trees_of

_ROUND = 512
"""Images between two saves of the notes."""
_DONE = np.dtype([("image", layout.IMAGE), ("label", "<i8"), ("size", "<u8")])
"""Note of a written image; an unreadable one has size 0."""

Encoded = tuple[int, int, int, bytes]
"""Mode, height, width and bytes of an image for the file."""


def convert(
    dataset: Dataset, source: Path, data: Path, side: int, quality: int, labels: Path | None = None
) -> list[str]:
    """Write the splits that `source` holds and `data` does not; an interrupted write continues.

    Training images become JPEGs whose longer side is at most `side`, in an order shuffled once and for all, so that the
    first K are a representative part. Test images become raw pixels: the shorter side is resized, the centre is
    cropped, and nothing is compressed again. They keep ImageFolder's order, so that `every: 100, images: 500` evaluates
    the 500 images of https://github.com/locuslab/smoothing. `labels` assigns classes to validation images without class
    folders. Returns a line for each split that is neither in `source` nor in `data`. ValueError where the class folders
    are not the dataset's.
    """
    trees = trees_of(dataset, source, labels)

    def jpeg(image: Image.Image) -> Encoded:
        image.thumbnail((side, side))
        image.save(content := io.BytesIO(), "JPEG", quality=quality)
        return layout.JPEG, image.height, image.width, content.getvalue()

    def centre(image: Image.Image) -> Encoded:
        from torchvision.transforms.v2 import functional

        image = functional.center_crop(functional.resize(image, [dataset.resize]), list(dataset.shape[1:]))
        return layout.RAW, image.height, image.width, image.tobytes()

    for split, folder in FOLDERS.items():
        path = dataset.path(split, data)
        if split not in trees:
            continue
        tree = trees[split]
        encode, settings = (jpeg, f"jpeg {side} {quality}") if split == "train" else (centre, "centre")
        try:
            data.mkdir(parents=True, exist_ok=True)
            left_out = write(path, tree, encode, settings, shuffle=split == "train")
        except OSError as error:
            raise ValueError(
                f"{error.filename or path}: {error.strerror} (what is done is kept: the same command goes on)"
            ) from None
        if left_out is None:
            say(f"{path}: there already (to write it anew, remove it)")
            continue
        images = len(tree.images) - len(left_out)
        say(f"{path}: {images} images" + (f", {len(left_out)} unreadable and left out" if left_out else ""))
        for name in left_out:
            say(f"left out: {folder}/{name}", sys.stderr)
    absent = {split: dataset.path(split, data) for split in FOLDERS if not dataset.path(split, data).exists()}
    there = [str(dataset.path(split, data)) for split in FOLDERS if split not in absent]
    return [
        f"{path}: not written: {source} holds no images under {FOLDERS[split]}; {', '.join(there)}: written (allowed: a"
        f" source with {FOLDERS[split]} too, or the same command with one that has it)"
        for split, path in absent.items()
    ]


def write(
    path: Path, tree: Tree, encode: Callable[[Image.Image], Encoded], settings: str, shuffle: bool
) -> list[str] | None:
    """Write the tree's images with `encode`, which takes upright RGB images; continue an interrupted write.

    `settings` describe `encode`. Returns the names of unreadable images, or None where `path` exists already.
    ValueError where another process is writing or no image can be read; OSError where a disk fails.
    """
    part, journal = (path.with_name(f".{path.name}.{suffix}") for suffix in ("part", "done"))
    part.touch()
    with open(part, "r+b") as file, open(journal, "a+b") as notes:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{part}: another process is writing it") from None
        if path.exists():  # checked under the lock, since another process may have just finished the opened file
            part.unlink(missing_ok=True)
            journal.unlink(missing_ok=True)
            return None
        version = hashlib.sha256(repr((settings, tree.classes, tree.images)).encode()).digest()
        done = _resume(file, notes, version, len(tree.images))
        pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        try:
            with progress(f"writing {path.name}", len(tree.images)) as advance:
                for first in range(len(done), len(tree.images), _ROUND):
                    advance(first)
                    images = tree.images[first : first + _ROUND]
                    encoded = pool.map(lambda image: _encoded(tree.read(*image), encode), images)
                    new = _append(file, encoded, _end(done, len(tree.images)))
                    new["label"] = [tree.classes[kind] for kind, _ in images]
                    notes.write(new.tobytes())
                    notes.flush()
                    done = np.concatenate([done, new])
                advance(len(tree.images))
        finally:
            pool.shutdown(cancel_futures=True)  # so that an interruption does not wait for a round
        kept = done[done["size"] > 0]
        if len(kept) == 0:
            raise ValueError(f"{path}: none of {len(done)} images can be read")
        if shuffle:
            kept = kept[np.random.default_rng(0).permutation(len(kept))]
        rows = np.zeros(len(kept), layout.ROW)
        rows["image"], rows["label"], rows["index"] = kept["image"], kept["label"], np.arange(len(kept))
        layout.seal(file, rows, kept["size"])
        digest.place(part, path)
        journal.unlink()
    return ["/".join(tree.images[k]) for k in np.flatnonzero(done["size"] == 0)]


def _resume(file: BinaryIO, notes: BinaryIO, version: bytes, images: int) -> NDArray:
    """Notes of the images that `file` already holds; none, and both emptied, if images or settings differ."""
    notes.seek(0)
    written, content = notes.read(len(version)), notes.read()
    whole = len(content) // _DONE.itemsize * _DONE.itemsize  # the last note may be incomplete
    done = np.frombuffer(content[:whole], _DONE)
    if written != version or os.fstat(file.fileno()).st_size < _end(done, images):
        done = done[:0]
        file.truncate(0)
        notes.truncate(0)
        notes.write(version)
    else:
        notes.truncate(len(version) + whole)
    return done


def _end(done: NDArray, images: int) -> int:
    """Offset where the next image may begin."""
    return max([layout.start(images), *(done["image"]["pointer"] + done["size"])[-1:].tolist()])


def _append(file: BinaryIO, encoded: Iterable[Encoded | None], end: int) -> NDArray:
    """Write images from `end` on, none across two pages, and sync them to disk; their notes, without labels."""
    notes = []
    for image in encoded:
        mode, height, width, content = image or (0, 0, 0, b"")
        if end % layout.PAGE + len(content) > layout.PAGE:
            end = -(-end // layout.PAGE) * layout.PAGE
        file.seek(end)
        file.write(content)
        notes.append(((mode, width, height, end), 0, len(content)))
        end += len(content)
    file.flush()
    os.fsync(file.fileno())
    return np.array(notes, _DONE)


def _encoded(content: bytes, encode: Callable[[Image.Image], Encoded]) -> Encoded | None:
    """The image in `content`, of any format, colours and orientation; None where it cannot be read."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return encode(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception:  # a decoder may raise any error on broken bytes
        return None
