"""Unpickling without running anything: every name in a pickle becomes a record.

A pickle is a program: it names classes and functions, and the usual unpickler imports and calls them. An allow-list of
harmless ones (`torch.load(weights_only=True)`) refuses many common files, because of a `defaultdict`, a configuration
object or a NumPy number beside the weights. Here the pickle machine only produces plain containers and `Record`s: every
name becomes a new class that stores its arguments. Nothing is imported, looked up or called, and no list can be wrong.
Afterwards, records that represent tensors are read as descriptions of tensors.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

_STORAGES = {
    **{"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16"},
    **{"LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8"},
    **{"ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8"},
    **{"ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128"},
    **{"QInt8Storage": "qint8", "QUInt8Storage": "quint8", "QInt32Storage": "qint32"},
}
"""Element type of each of torch.save's storage classes."""


class Record(dict):
    """Record of an object that a pickle would create: its items, its arguments and its state."""

    __slots__ = ("args", "state")
    args: tuple[Any, ...]
    state: Any
    path = ""
    """Class or function that the pickle names."""

    def __new__(cls, *args, **_kwargs):
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *_args, **_kwargs):
        super().__init__()

    def __setstate__(self, state):
        self.state = state

    def __call__(self, *args):
        return Record(self, *args)

    def append(self, _item):
        """Add an item, as to an object of a subclass of list."""

    extend = add = append
    __hash__, __eq__ = object.__hash__, object.__eq__  # type: ignore[assignment]  # a dict has no hash, a record has

    @property
    def is_module(self) -> bool:
        """True if the record represents a pickled nn.Module."""
        return isinstance(self.state, dict) and "_modules" in self.state


class _Storage(NamedTuple):
    """A contiguous run of numbers in a checkpoint."""

    dtype: str
    numel: int
    offset: int
    """Number of elements before its first, if it is a view of another storage."""
    find: Callable[[int], tuple[Any, int]]
    """Function from a number of bytes to the buffer and the offset of the storage, if it has so many bytes."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Description of a tensor in a checkpoint, with which it can be read."""

    kind: str
    """Element type by torch's name, or another kind of tensor: `sparse`, `quantized`, `meta`, …"""
    shape: tuple[int, ...]
    load: Callable[[], Tensor]


class InertUnpickler(pickle.Unpickler):
    """Unpickler that creates a record for everything that a pickle names."""

    def __init__(self, file: BinaryIO, find: Callable[[str, int], tuple[Any, int]]):
        super().__init__(file, encoding="latin-1")  # Python 2's strings
        self.find = find
        self.classes: dict[str, type[Record]] = {}
        self.dtypes: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> type[Record]:
        path = f"{module}.{name}"
        if path not in self.classes:
            self.classes[path] = type("Record", (Record,), {"__slots__": (), "path": path})
        return self.classes[path]

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("storage", type() as kind, str(key), _, int(numel), *view) if issubclass(kind, Record):
                # Other kinds of storage raise an error when their tensor is read.
                dtype = self.dtypes[key] = _STORAGES.get(kind.path.rsplit(".", 1)[-1], kind.path)
                # Before torch 0.4, a view of a storage was saved with its key, offset and size.
                offset, numel = view[0][1:3] if view and view[0] else (0, numel)
                return _Storage(dtype, numel, offset, lambda size: self.find(key, size))
            case ("module", type() as kind, *_):
                return kind
        raise pickle.UnpicklingError("a persistent id that torch.save does not write")


def stored(value: Any) -> Stored | None:
    """Tensor that a value in a checkpoint represents; None if it is none."""
    if not isinstance(value, Record):
        return value if isinstance(value, Stored) else None
    function, args = value.path.rsplit(".", 1)[-1], value.args
    match function, args:
        case ("_rebuild_tensor" | "_rebuild_tensor_v2", (_Storage() as storage, int(offset), size, stride, *_)):
            return _dense(storage, storage.dtype, offset, size, stride)
        case ("_rebuild_tensor_v3", (_Storage() as storage, int(offset), size, stride, _, _, type() as dtype, *_)) if (
            issubclass(dtype, Record)
        ):
            return _dense(storage, dtype.path.removeprefix("torch."), offset, size, stride)
        case ("_rebuild_parameter" | "_rebuild_parameter_with_state" | "Parameter", (data, *_)):
            return stored(data)
        case ("_rebuild_from_type_v2", (type() as inner, _, tuple(inner_args), *_)):
            return stored(inner(*inner_args))
    if value.path.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_")) or function == "DTensor":
        kind = function.removeprefix("_rebuild_").removesuffix("_no_storage").removesuffix("_tensor")
        return Stored({"qtensor": "quantized"}.get(kind, kind), _first_size(args), lambda: _refuse(kind))
    return None


def _dense(storage: _Storage, dtype: str, offset: int, size: tuple, stride: tuple) -> Stored:
    def load() -> Tensor:
        itemsize, kind = dtype_of(storage.dtype).itemsize, dtype_of(dtype)
        count = storage.numel * itemsize // kind.itemsize
        start = storage.offset * itemsize
        content, place = storage.find(start + storage.numel * itemsize)
        flat = (
            torch.frombuffer(content, dtype=kind, count=count, offset=place + start)
            if count
            else torch.empty(0, dtype=kind)
        )
        return flat.as_strided(size, stride, offset)

    return Stored(dtype, _first_size((size,)), load)


def dtype_of(name: str) -> torch.dtype:
    """Element type of a storage; ValueError where torch has none of that name."""
    dtype = vars(torch).get(name)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"a storage of {name}")
    return dtype


def _refuse(kind: str) -> Tensor:
    raise ValueError(f"a {kind} tensor")


def _first_size(args: Any) -> tuple[int, ...]:
    """First shape among a tensor's arguments."""
    for value in args if isinstance(args, tuple | list) else ():
        value = value.args[0] if isinstance(value, Record) and value.path == "torch.Size" and value.args else value
        if isinstance(value, tuple) and all(isinstance(length, int) for length in value):
            return value
        if inner := _first_size(value):
            return inner
    return ()
