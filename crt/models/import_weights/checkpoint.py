"""Reading of checkpoints of torch.save or safetensors, whose tensors are read on demand.

The file is mapped into memory, so that optimizer states and other unused weights cost nothing.
"""

import mmap
import zipfile
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from safetensors import safe_open

from crt.models.import_weights.checkpoint_file import file_format
from crt.models.import_weights.inert_pickle import InertUnpickler, Stored, dtype_of


def read(path: Path) -> Any:
    """Read the content of a checkpoint as plain containers, `Record`s and, from safetensors, `Stored`.

    ValueError, without the path, that describes a file that is no checkpoint or is damaged.
    """
    reader = {"zip": _read_zip, "legacy": _read_legacy, "safetensors": _read_safetensors}[file_format(path)]
    try:
        return reader(path)
    except OSError:
        raise
    except Exception as error:  # a reader may raise any error on bytes that are no checkpoint
        raise ValueError(
            f"is truncated or damaged: download or copy it again ({type(error).__name__}: {error})"
        ) from error


def _read_safetensors(path: Path) -> dict[str, Stored]:
    file = safe_open(path, framework="pt")
    kinds = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "BOOL": "bool"}
    kinds |= {
        f"{letter}{bits}": f"{word}{bits}" for letter, word in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
    }
    tensors = {}
    for name in file.keys():
        part = file.get_slice(name)
        kind = kinds.get(part.get_dtype(), part.get_dtype())
        tensors[name] = Stored(kind, tuple(part.get_shape()), partial(file.get_tensor, name))
    return tensors


def _read_zip(path: Path) -> Any:
    """Read a zip file of torch.save: `data.pkl` and a file `data/KEY` for each storage."""
    archive, content = zipfile.ZipFile(path), _mapped(path)
    names = {info.filename: info for info in archive.infolist()}
    pickled = next(name for name in names if name.rsplit("/", 1)[-1] == "data.pkl")
    folder = pickled.removesuffix("data.pkl")
    if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("written on a big-endian machine")

    def find(key: str, size: int) -> tuple[Any, int]:
        info = names[f"{folder}data/{key}"]
        if info.file_size < size:
            raise ValueError(f"{info.filename} has {info.file_size} bytes, not {size}")
        if info.compress_type != zipfile.ZIP_STORED:
            return bytearray(archive.read(info)), 0
        lengths = content[info.header_offset + 26 : info.header_offset + 30]
        # The header in the file may be longer than its copy in the directory, because it aligns the data behind it.
        return content, info.header_offset + 30 + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))

    return InertUnpickler(BytesIO(archive.read(pickled)), find).load()


def _read_legacy(path: Path) -> Any:
    """Read a file of torch.save before 1.6: five pickles, then each storage's number of elements and its elements."""
    content = _mapped(path)
    places: dict[str, int] = {}

    def find(key: str, size: int) -> tuple[Any, int]:
        return content, places[key]

    with path.open("rb") as file:
        for _ in range(3):
            InertUnpickler(file, find).load()
        unpickler = InertUnpickler(file, find)
        tree = unpickler.load()
        keys = InertUnpickler(file, find).load()
        place = file.tell()
    for key in keys:
        places[key] = place + 8
        place += 8 + int.from_bytes(content[place : place + 8], "little") * dtype_of(unpickler.dtypes[key]).itemsize
    if place > len(content):
        raise ValueError(f"has {len(content)} of {place} bytes")
    return tree


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        # A private mapping is writable, as torch.frombuffer requires, but the file is never written.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
