"""Write and read .beton files: `python -m crt.data.beton cifar10 --source FOLDER --data data`."""

import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from crt.data import DATASETS, Dataset
from crt.data.sources import digits, folder, pickles

_HEADER = np.dtype(
    [("version", "<u2"), ("fields", "<u2"), ("page", "<u4"), ("images", "<u8"), ("table", "<u8")], align=True
)
_FIELD = np.dtype([("type", "<u1"), ("name", ("<u1", 16)), ("arguments", ("<u1", (1024,)))], align=True)
_IMAGE = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("pointer", "<u8")])
_ROW = np.dtype([("image", _IMAGE), ("label", "<i8"), ("index", "<i8")], align=True)
_FIELDS = [(2, "image"), (1, "label"), (1, "index")]
_ALLOCATION = np.dtype([("image", "<u8"), ("pointer", "<u8"), ("size", "<u8")])
"""The table with which a whole file ends: an entry an image."""
_VERSION, _RAW = 2, 1
_PAGE = 2**23
_TOLERANCE = 2e-3


class Beton:
    """The raw images of a .beton file by number, read without FFCV; ValueError that names a file that is not whole."""

    def __init__(self, path: Path):
        self.file = path
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        size = path.stat().st_size
        if size < _HEADER.itemsize:
            raise ValueError(f"{path}: {size} bytes, too short for a .beton file")
        header = np.fromfile(path, _HEADER, 1)[0]
        count = int(header["images"])
        if header["version"] != _VERSION or header["fields"] != len(_FIELDS):
            raise ValueError(f"{path}: not a .beton file of this project (allowed: fields image, label, index)")
        fields = np.fromfile(path, _FIELD, len(_FIELDS), offset=_HEADER.itemsize)
        found = [(int(f["type"]), bytes(f["name"]).split(b"\0")[0].decode(errors="replace")) for f in fields]
        if found != _FIELDS:
            raise ValueError(f"{path}: holds the fields {found} (allowed: {_FIELDS})")
        if header["table"] == 0 or size < int(header["table"]) + count * _ALLOCATION.itemsize:
            raise ValueError(f"{path}: cut off after {size} bytes (write it again: python -m crt.data.beton)")
        rows = np.fromfile(path, _ROW, count, offset=_HEADER.itemsize + fields.nbytes)
        image = rows["image"]
        if count == 0 or (image["mode"] != _RAW).any():
            raise ValueError(f"{path}: holds no raw images")
        self.labels: NDArray[np.int64] = rows["label"].astype(np.int64)
        self.height, self.width = int(image["height"][0]), int(image["width"][0])
        self._pointers = image["pointer"].astype(np.int64)
        if self._pointers.min() < 0 or self._pointers.max() + 3 * self.height * self.width > size:
            raise ValueError(f"{path}: images lie outside the file (write it again: python -m crt.data.beton)")
        if (image["height"] != self.height).any() or (image["width"] != self.width).any():
            raise ValueError(f"{path}: images of several sizes")
        self._bytes = np.memmap(path, np.uint8, "r")

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """The images at `indices`, of shape (B, H, W, 3)."""
        shape = (self.height, self.width, 3)
        length = int(np.prod(shape))
        out = np.empty((len(indices), *shape), np.uint8)
        for row, index in enumerate(indices):
            start = self._pointers[index]
            out[row] = self._bytes[start : start + length].reshape(shape)
        return out


def ensure(dataset: Dataset, split: str, data: Path) -> Path:
    """The split's whole .beton file; digits are written on first use, others must have been. ValueError if not."""
    path = dataset.path(split, data)
    if dataset.name == "digits" and not path.exists():
        write(dataset, split, data, *digits(split), show=False)
    if not path.exists():
        raise ValueError(f"{path}: missing (write it: python -m crt.data.beton {dataset.name} --data {data})")
    found = len(Beton(path))
    if found != dataset.images(split):
        raise ValueError(f"{path}: {found} images, {dataset.name}-{split} has {dataset.images(split)}")
    return path


def write(
    dataset: Dataset, split: str, data: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], show: bool = True
) -> Path:
    """Check and write a split of images (N, H, W, 3); several processes may do so at once. ValueError if unlike."""
    check(dataset, split, images, labels)
    path = dataset.path(split, data)
    part = None
    try:
        data.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=data, delete=False) as file:
            part = Path(file.name)
            _lay_out(file, images, labels, show)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        raise ValueError(
            f"{path}: {error.strerror} (allowed: a folder for --data with room that can be written)"
        ) from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return path


def _lay_out(file: BinaryIO, images: NDArray[np.uint8], labels: NDArray[np.int64], show: bool) -> None:
    """Header, fields, a row an image, pages of whole images, the allocation table.

    FFCV's own writer is not used: it forks, and on a full disk it waits for ever.
    """
    count, size = len(images), images[0].nbytes
    fields = np.zeros(len(_FIELDS), _FIELD)
    for field, (kind, name) in zip(fields, _FIELDS, strict=True):
        field["type"] = kind
        field["name"][: len(name)] = list(name.encode())
    start = -(-(_HEADER.itemsize + fields.nbytes + count * _ROW.itemsize) // _PAGE) * _PAGE
    page, place = np.divmod(np.arange(count), _PAGE // size)
    pointers = start + page * _PAGE + place * size
    table = int(pointers[-1]) + size
    rows = np.zeros(count, _ROW)
    rows["image"]["mode"] = _RAW
    rows["image"]["height"], rows["image"]["width"] = images.shape[1:3]
    rows["image"]["pointer"] = pointers
    rows["label"], rows["index"] = labels, np.arange(count)
    allocations = np.zeros(count, _ALLOCATION)
    allocations["image"], allocations["pointer"], allocations["size"] = np.arange(count), pointers, size
    header = np.array((_VERSION, len(_FIELDS), _PAGE, count, table), _HEADER)
    for part in (header, fields, rows):
        file.write(part.tobytes())
    pages = range(int(page[-1]) + 1)
    for number in track(pages, f"writing {Path(file.name).name[1:-9]}", console=_console(), disable=not show):
        file.seek(start + number * _PAGE)
        file.write(images[page == number].tobytes())
    file.seek(table)
    file.write(allocations.tobytes())


def _console() -> Console:
    return Console(stderr=True, quiet=not sys.stderr.isatty())


def check(dataset: Dataset, split: str, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """ValueError where number, shape, classes or channel statistics are not the dataset's."""
    where = f"{dataset.name}-{split}"
    expected = (dataset.images(split), *dataset.shape[1:], 3)
    if images.shape != expected or images.dtype != np.uint8:
        raise ValueError(f"{where}: images of shape {images.shape} {images.dtype} (allowed: {expected} uint8)")
    classes = np.unique(labels)
    if not np.array_equal(classes, np.arange(len(dataset.classes))):
        raise ValueError(f"{where}: labels {classes.tolist()} (allowed: each of 0 to {len(dataset.classes) - 1})")
    if split == "train":
        flat = images.reshape(-1, 3)
        mean = flat.mean(0, dtype=np.float64) / 255
        std = np.sqrt((flat.astype(np.float32) ** 2).mean(0, dtype=np.float64) / 255**2 - mean**2)
        for name, found, wanted in zip(("mean", "std"), (mean, std), dataset.measured, strict=True):
            if np.abs(found - wanted).max() > _TOLERANCE:
                raise ValueError(f"{where}: channel {name} {found.round(4).tolist()} (expected: {list(wanted)})")


app = typer.Typer(add_completion=False)


@app.command()
def main(
    dataset: Annotated[str, typer.Argument(help=f"One of {', '.join(DATASETS)}.")],
    source: Annotated[Path | None, typer.Option(help="torchvision's folder, an image tree, or zips of one.")] = None,
    data: Annotated[Path, typer.Option(help="Where the .beton files go.")] = Path("data"),
) -> None:
    """Write a dataset's train and test .beton files; without --source, download it by torchvision."""
    try:
        if dataset not in DATASETS:
            raise ValueError(f"dataset: {dataset!r} (allowed: {', '.join(DATASETS)})")
        convert(DATASETS[dataset], source, data)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def convert(dataset: Dataset, source: Path | None, data: Path) -> None:
    """Read, check and write both splits; without `source`, download them. ValueError where they are others."""
    if source is not None and not source.is_dir():
        raise ValueError(f"{source}: no such folder (allowed for --source: a folder of the images)")
    # Both splits are read and checked before either is written.
    splits = {}
    for split in ("train", "test"):
        if dataset.name == "digits":
            splits[split] = digits(split)
        elif source is None or (source / "cifar-10-batches-py").is_dir():
            splits[split] = pickles(split, source, data)
        else:
            bar = partial(track, description=f"reading {split}", console=_console())
            splits[split] = folder(dataset, split, source, bar)
        check(dataset, split, *splits[split])
    for split, (images, labels) in splits.items():
        path = write(dataset, split, data, images, labels)
        print(f"{path}: {len(labels)} images")


if __name__ == "__main__":
    app()
