"""Reading, checking and writing of .beton files."""

import io
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crt.data import Dataset, digest, layout
from crt.data.progress import progress
from crt.data.sources import digits
from crt.sealed import DamagedError
from crt.text import invocation

_TOLERANCE = 2e-3


def _again() -> str:
    return f"write it again: {invocation('crt.data.beton')}"


class Beton:
    """The images of a .beton file by number, read without FFCV; ValueError that names an incomplete file.

    Raw images have one `height` and `width`; if `jpeg`, the images are JPEGs of any size.
    """

    def __init__(self, path: Path):
        self.file = path
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        size = path.stat().st_size
        if size < layout.HEADER.itemsize:
            raise ValueError(f"{path}: {size} bytes, too short for a .beton file")
        header = np.fromfile(path, layout.HEADER, 1)[0]
        count, table = int(header["images"]), int(header["table"])
        if header["version"] != layout.VERSION or header["fields"] != len(layout.FIELDS):
            raise ValueError(f"{path}: not a .beton file of this project (allowed: fields image, label, index)")
        fields = np.fromfile(path, layout.FIELD, len(layout.FIELDS), offset=layout.HEADER.itemsize)
        found = [(int(f["type"]), bytes(f["name"]).split(b"\0")[0].decode(errors="replace")) for f in fields]
        if found != layout.FIELDS:
            raise ValueError(f"{path}: holds the fields {found} (allowed: {layout.FIELDS})")
        first = layout.HEADER.itemsize + fields.nbytes
        if table == 0 or size < max(table + count * layout.ALLOCATION.itemsize, first + count * layout.ROW.itemsize):
            raise ValueError(f"{path}: cut off after {size} bytes (write it again: {invocation('crt.data.beton')})")
        rows = np.fromfile(path, layout.ROW, count, offset=first)
        image = rows["image"]
        self.jpeg = count > 0 and bool((image["mode"] == layout.JPEG).all())
        if count == 0 or not (self.jpeg or (image["mode"] == layout.RAW).all()):
            raise ValueError(f"{path}: holds neither raw images nor JPEGs alone")
        self.labels: NDArray[np.int64] = rows["label"].astype(np.int64)
        self.height, self.width = int(image["height"][0]), int(image["width"][0])
        if not self.jpeg and ((image["height"] != self.height).any() or (image["width"] != self.width).any()):
            raise ValueError(f"{path}: raw images of several sizes")
        if (rows["index"] != np.arange(count)).any():
            raise ValueError(f"{path}: damaged: its images are not numbered in their order ({_again()})")
        self._pointers = image["pointer"].astype(np.int64)
        self._sizes = self._read_sizes(image["pointer"], table)
        if self._pointers.min() < first + rows.nbytes or (self._pointers > size - self._sizes).any():
            raise ValueError(f"{path}: images lie outside the file ({_again()})")
        page = int(header["page"])
        if page < self._sizes.max() or page & (page - 1):
            allowed = "a power of two, no smaller than an image"
            raise ValueError(f"{path}: damaged: pages of {page} bytes (allowed: {allowed}; {_again()})")
        self._bytes = np.memmap(path, np.uint8, "r")

    def _read_sizes(self, pointers: NDArray[np.uint64], table: int) -> NDArray[np.int64]:
        """Bytes of each image, from the table of allocations; ValueError for one that is not that of the images.

        FFCV finds an image's size by its pointer and trusts both: with a wrong one it would read outside the file.
        """
        allocations = np.fromfile(self.file, layout.ALLOCATION, len(pointers), offset=table)
        images, sizes = allocations["image"].astype(np.int64), np.zeros(len(pointers), np.int64)
        if (
            not np.array_equal(np.sort(images), np.arange(len(pointers)))
            or (allocations["pointer"] != pointers[images]).any()
        ):
            raise ValueError(f"{self.file}: damaged: the table at its end is not that of its images ({_again()})")
        sizes[images] = allocations["size"]
        least = 1 if self.jpeg else 3 * self.height * self.width
        if sizes.min() < least or (not self.jpeg and sizes.max() > least):
            raise ValueError(f"{self.file}: damaged: the size of an image is wrong ({_again()})")
        return sizes

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image at `index`, of shape (H, W, 3)."""
        start = self._pointers[index]
        content = self._bytes[start : start + self._sizes[index]]
        if self.jpeg:
            return np.array(Image.open(io.BytesIO(content.data)))
        return content.reshape(self.height, self.width, 3)

    def images(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """The raw images at `indices`, of shape (B, H, W, 3)."""
        out = np.empty((len(indices), self.height, self.width, 3), np.uint8)
        for row, index in enumerate(indices):
            out[row] = self.image(index)
        return out


def ensure(dataset: Dataset, split: str, data: Path) -> Path:
    """The split's complete .beton file; digits are written on first use.

    ValueError where it is missing, unfit or not as it was written.
    """
    path = dataset.path(split, data)
    if dataset.name == "digits" and not path.exists():
        write(dataset, split, data, *digits(split), show=False)
    beton = Beton(dataset.existing(split, data))
    if not dataset.resize and len(beton) != dataset.images(split):
        raise ValueError(f"{path}: {len(beton)} images, {dataset.name}-{split} has {dataset.images(split)}")
    allowed = dataset.shape[1:]
    if (dataset.resize is None or split == "test") and (beton.jpeg or (beton.height, beton.width) != allowed):
        raise ValueError(f"{path}: images of {beton.height}x{beton.width} (allowed: raw, {allowed[0]}x{allowed[1]})")
    classes = len(dataset.classes)
    if beton.labels.min() < 0 or beton.labels.max() >= classes:
        wrong = int(beton.labels[(beton.labels < 0) | (beton.labels >= classes)][0])
        raise ValueError(f"{path}: damaged: the label {wrong} (allowed: 0 to {classes - 1}; {_again()})")
    try:
        digest.check(path)
    except DamagedError as error:
        raise ValueError(f"{error} (restore it from a copy, or remove it and {_again()})") from None
    return path


def write(
    dataset: Dataset, split: str, data: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], show: bool = True
) -> Path:
    """Check and write a split of images (N, H, W, 3), safely for several processes at once; ValueError from `check`."""
    check(dataset, split, images, labels)
    path = dataset.path(split, data)
    part = None
    try:
        data.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=data, delete=False) as file:
            part = Path(file.name)
            _lay_out(file, path.name, images, labels, show)
        part.chmod(0o644)
        digest.place(part, path)
    except OSError as error:
        raise ValueError(
            f"{path}: {error.strerror} (allowed: a folder for --data with room that can be written)"
        ) from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return path


def _lay_out(file: IO[bytes], name: str, images: NDArray[np.uint8], labels: NDArray[np.int64], show: bool) -> None:
    count, size = len(images), images[0].nbytes
    start = layout.start(count)
    page, place = np.divmod(np.arange(count), layout.PAGE // size)
    rows = np.zeros(count, layout.ROW)
    rows["image"]["mode"] = layout.RAW
    rows["image"]["height"], rows["image"]["width"] = images.shape[1:3]
    rows["image"]["pointer"] = start + page * layout.PAGE + place * size
    rows["label"], rows["index"] = labels, np.arange(count)
    with progress(f"writing {name}", count) if show else nullcontext(lambda done: None) as advance:
        for number in range(int(page[-1]) + 1):
            file.seek(start + number * layout.PAGE)
            file.write(images[page == number].tobytes())
            advance(int((page <= number).sum()))
    layout.seal(file, rows, np.full(count, size, np.uint64))


def check(dataset: Dataset, split: str, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Raise ValueError where number, shape, classes or channel statistics differ from the dataset's known ones."""
    where = f"{dataset.name}-{split}"
    expected = (dataset.images(split), *dataset.shape[1:], 3)
    if images.shape != expected or images.dtype != np.uint8:
        raise ValueError(f"{where}: images of shape {images.shape} {images.dtype} (allowed: {expected} uint8)")
    if dataset.measured is None:
        return
    classes = np.unique(labels)
    if not np.array_equal(classes, np.arange(len(dataset.classes))):
        raise ValueError(f"{where}: labels {classes.tolist()} (allowed: each of 0 to {len(dataset.classes) - 1})")
    if split == "train":
        flat = images.reshape(-1, 3)
        mean = flat.mean(0, dtype=np.float64) / 255
        std = np.sqrt((flat.astype(np.float32) ** 2).mean(0, dtype=np.float64) / 255**2 - mean**2)
        for name, measured, wanted in zip(("mean", "std"), (mean, std), dataset.measured, strict=True):
            if np.abs(measured - wanted).max() > _TOLERANCE:
                raise ValueError(f"{where}: channel {name} {measured.round(4).tolist()} (expected: {list(wanted)})")
