"""Layout of a .beton file: header, fields, one row for each image, pages of whole images, and the table of allocations.

FFCV's own writer is not used, because it forks and waits forever on a full disk.
"""

import os
from typing import IO

import numpy as np
from numpy.typing import NDArray

HEADER = np.dtype(
    [("version", "<u2"), ("fields", "<u2"), ("page", "<u4"), ("images", "<u8"), ("table", "<u8")], align=True
)
FIELD = np.dtype([("type", "<u1"), ("name", ("<u1", 16)), ("arguments", ("<u1", (1024,)))], align=True)
IMAGE = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("pointer", "<u8")])
ROW = np.dtype([("image", IMAGE), ("label", "<i8"), ("index", "<i8")], align=True)
FIELDS = [(2, "image"), (1, "label"), (1, "index")]
ALLOCATION = np.dtype([("image", "<u8"), ("pointer", "<u8"), ("size", "<u8")])
"""Table at the end of a complete file, with an entry for each image."""
VERSION, PAGE = 2, 2**23
JPEG, RAW = 0, 1
"""Modes of an image."""


def start(images: int) -> int:
    """Offset of the first page in a file of at most this many images."""
    return -(-(HEADER.itemsize + len(FIELDS) * FIELD.itemsize + images * ROW.itemsize) // PAGE) * PAGE


def seal(file: IO[bytes], rows: NDArray, sizes: NDArray[np.uint64]) -> None:
    """Write all but the images, which already lie where the rows (of `ROW`) point, and sync the file to disk."""
    fields = np.zeros(len(FIELDS), FIELD)
    for field, (kind, name) in zip(fields, FIELDS, strict=True):
        field["type"] = kind
        field["name"][: len(name)] = list(name.encode())
    allocations = np.zeros(len(rows), ALLOCATION)
    allocations["image"], allocations["pointer"] = np.arange(len(rows)), rows["image"]["pointer"]
    allocations["size"] = sizes
    table = int((allocations["pointer"] + allocations["size"]).max())
    header = np.array((VERSION, len(FIELDS), PAGE, len(rows), table), HEADER)
    file.seek(0)
    for part in (header, fields, rows):
        file.write(part.tobytes())
    file.seek(table)
    file.write(allocations.tobytes())
    file.truncate()
    file.flush()
    os.fsync(file.fileno())
