"""A GPU that stands in for a real one: CPU tensors that claim to be on cuda:0, and a log of what makes the host wait.

Within `gpu()`, operations on tensors of both devices fail as on a GPU. Copies between the devices are logged, and so
are questions, whose answer the host needs before it can go on, each with the file and line of this project that caused
it. Values and gradients are the CPU's. Compilation and NCCL are not covered.
"""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch._dynamo import trace_rules
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ROOT = Path(__file__).parents[1]
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
QUESTION, TO_HOST, TO_DEVICE, ASYNCHRONOUS = "question", "copy to host", "copy to device", "asynchronous copy"
WAITS = (QUESTION, TO_HOST, TO_DEVICE)
"""Kinds of events for which the host waits; it does not wait for an asynchronous copy, which pinned memory allows."""
_ASKING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "repeat_interleave", "allclose"}
_SOLVERS = {"_linalg_svd", "_linalg_eigh", "_linalg_eigvals", "linalg_eig", "linalg_qr", "linalg_lstsq"}
"""Operations that wait for the device to learn a value, a size or an error."""
_READ_BY_HOST = {"tolist", "numpy", "__array__", "__format__", "__repr__"}
_SHAPES = {"view_as", "expand_as", "reshape_as", "is_same_size", "_has_compatible_shallow_copy_type"}
"""Functions that take another tensor's shape alone, wherever it is."""
_group = torch._C._group_tensors_by_device_and_dtype


class Event(NamedTuple):
    """Something that the host did with the device."""

    kind: str
    what: str
    place: str
    """File and line."""


class Log:
    """Counts of events. With `strict`, an event for which the host waits raises RuntimeError, as under torch's
    `set_sync_debug_mode("error")`."""

    def __init__(self) -> None:
        self.events: Counter[Event] = Counter()
        self.strict = False
        self.busy = 0
        """Depth of calls with tensors on the device."""

    def note(self, kind: str, what: str) -> None:
        event = Event(kind, what, _place())
        self.events[event] += 1
        if self.strict and kind in WAITS:
            raise RuntimeError(f"called a synchronizing CUDA operation: {kind}: {what} at {event.place}")

    def waits(self) -> Counter[Event]:
        """The events for which the host waited."""
        return Counter({event: n for event, n in self.events.items() if event.kind in WAITS})

    def count(self, *kinds: str) -> int:
        """Number of events of these kinds; by default, of those for which the host waited."""
        return sum(n for event, n in self.events.items() if event.kind in (kinds or WAITS))


_log = Log()


def current() -> Log:
    """The log of the innermost `gpu()`, or of the last one."""
    return _log


def _place() -> str:
    """The innermost line of this project outside this file."""
    frame = sys._getframe(1)
    while frame:
        path = frame.f_code.co_filename
        if path.startswith(f"{ROOT}/") and path != __file__ and "site-packages" not in path:
            return f"{path.removeprefix(f'{ROOT}/')}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


class OnDevice(torch.Tensor):
    """A CPU tensor that claims to be on cuda:0."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict) -> "OnDevice":
        if id(self) not in memo:
            with torch._C.DisableTorchFunction():
                copied = self.detach().clone().as_subclass(OnDevice).requires_grad_(self.requires_grad)
            copied.__dict__.update(self.__dict__)
            memo[id(self)] = copied
        return memo[id(self)]


class _Functions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    """Logs the questions among the operations of calls with tensors on the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if _log.busy:
            name = func.overloadpacket.__name__
            masks = name.startswith(("index", "_index_put")) and any(_is_mask(t) for t in tree_leaves(args[1:2]))
            # A mask that gets a single value is filled without counting its entries.
            if (
                name in _ASKING | _SOLVERS
                or name.startswith(("unique", "_unique"))
                or (masks and not (len(args) > 2 and args[2].numel() == 1))
            ):
                _log.note(QUESTION, f"{name} by mask" if masks else name)
        return func(*args, **(kwargs or {}))


def _is_mask(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in (torch.bool, torch.uint8)


def _on_device(value: Any) -> Any:
    def mark(leaf: Any) -> Any:
        plain = isinstance(leaf, torch.Tensor) and not isinstance(leaf, OnDevice) and not leaf.is_meta
        return leaf.as_subclass(OnDevice) if plain else leaf

    # A torch.Size would come back as a tuple.
    return tree_map(mark, value) if any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(value)) else value


def _on_host(value: Any) -> Any:
    return tree_map(lambda leaf: leaf.as_subclass(torch.Tensor) if isinstance(leaf, OnDevice) else leaf, value)


def _call(func: Callable, args: tuple, kwargs: dict) -> Any:
    """Call torch's function as if its tensors were where they claim to be."""
    name = getattr(func, "__name__", str(func))
    with torch._C.DisableTorchFunction():
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        device = any(isinstance(tensor, OnDevice) for tensor in tensors)
        if name in ("__get__", "__set__"):
            return _attribute(func, args)
        if name in ("to", "cpu", "cuda", "type_as") and tensors:
            return _moved(name, args, kwargs)
        if name == "copy_" and isinstance(args[0], OnDevice) != isinstance(args[1], OnDevice):
            pinned = any(_is_pinned(tensor) for tensor in args[:2]) and (kwargs.get("non_blocking") or True in args[2:])
            _transfer(isinstance(args[0], OnDevice), args[1], pinned)
            return func(*args, **kwargs)
        if name == "is_pinned":
            return _is_pinned(args[0])
        if name == "pin_memory":
            return _pin(args[0].clone())
        return _compute(func, name, args, dict(kwargs), tensors, device)


def _attribute(func: Callable, args: tuple) -> Any:
    """Read or set an attribute of a tensor."""
    if not isinstance(args[0], OnDevice):
        return func(*args)
    claims = {"device": CUDA, "is_cuda": True, "is_cpu": False}
    name = getattr(getattr(func, "__self__", None), "__name__", "")
    return claims[name] if name in claims else _on_device(func(*args))


def _compute(func: Callable, name: str, args: tuple, kwargs: dict, tensors: list, device: bool) -> Any:
    wanted = kwargs.get("device")
    pinned = kwargs.pop("pin_memory", False)
    made_there = wanted is not None and torch.device(wanted).type == "cuda"
    made_elsewhere = wanted is not None and not made_there
    if made_there:
        kwargs["device"] = "cpu"
        if name in ("tensor", "as_tensor", "asarray", "new_tensor"):
            _transfer(True, torch.as_tensor(args[-1]), pinned=False)
    _check_generator(kwargs.get("generator"), made_there or (device and not made_elsewhere))
    if device and not made_elsewhere:
        _check_devices(name, args, tensors)
    if device and name in _READ_BY_HOST:
        if name in ("numpy", "__array__"):
            raise TypeError(f"can't convert cuda:0 device type tensor to numpy at {_place()}")
        _log.note(QUESTION, name)
        return func(*_on_host(args), **kwargs)
    _log.busy += device
    try:
        result = func(*args, **kwargs)
    finally:
        _log.busy -= device
    if made_elsewhere:
        return _on_host(result)
    if made_there or device:
        return _on_device(result)
    return _pin(result) if pinned else result


def _check_devices(name: str, args: tuple, tensors: list) -> None:
    """Fail for tensors of both devices; a scalar may be on either, and so may an index of a tensor on the device."""
    others = [t for t in tensors if not isinstance(t, OnDevice) and not t.is_meta and t.dim() > 0]
    if not others or name in _SHAPES:
        return
    indexing = name in ("__getitem__", "__setitem__", "index_put_") and isinstance(args[0], OnDevice)
    if not indexing:
        shapes = [tuple(t.shape) for t in others]
        raise RuntimeError(f"{name}: tensors on cuda:0 and on cpu, the latter of shapes {shapes}, at {_place()}")
    for other in others:
        _transfer(True, other, pinned=False)


def _check_generator(generator: Any, device: bool) -> None:
    if isinstance(generator, Generator) and (generator.device.type == "cuda") != device:
        raise RuntimeError(f"a generator on {generator.device} for tensors on the other device at {_place()}")


def _moved(name: str, args: tuple, kwargs: dict) -> torch.Tensor:
    """The result of `to` and its relatives."""
    source, rest = args[0], list(args[1:])
    target = {"cpu": CPU, "cuda": CUDA}.get(name, kwargs.pop("device", None))
    for value in tuple(rest):
        if isinstance(value, (str, torch.device, int)) and not isinstance(value, bool):
            target = value
            rest.remove(value)
        elif isinstance(value, torch.Tensor):
            target = CUDA if isinstance(value, OnDevice) else value.device
            rest[rest.index(value)] = value.dtype
    if isinstance(target, int):
        target = torch.device("cuda", target)
    target = torch.device(target) if target is not None else None
    asynchronous = kwargs.pop("non_blocking", False)
    if target is not None and target.type == "meta":
        return torch.Tensor.to(_on_host(source), target, *rest, **kwargs)
    there, before = isinstance(source, OnDevice) if target is None else target.type == "cuda", _on_host(source)
    dtype = next((value for value in rest if isinstance(value, torch.dtype)), kwargs.pop("dtype", None) or source.dtype)
    moves = there != isinstance(source, OnDevice)
    kwargs["copy"] = kwargs.get("copy", False) or moves or (len(rest) > 1 and rest[-1] is True)
    if moves:
        _transfer(there, source, _is_pinned(source) and asynchronous)
    result = before.to(dtype, **{key: value for key, value in kwargs.items() if value is not None})
    if result is before:
        return source
    if moves and source.is_leaf and source.requires_grad:
        result = result.detach().requires_grad_()
    return _on_device(result) if there else result


def _transfer(to_device: bool, tensor: torch.Tensor, pinned: bool) -> None:
    kind = ASYNCHRONOUS if pinned else TO_DEVICE if to_device else TO_HOST
    _log.note(kind, f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}")


def _pin(tensor: torch.Tensor) -> torch.Tensor:
    tensor.pinned = True  # type: ignore[attr-defined]
    return tensor


def _is_pinned(tensor: torch.Tensor) -> bool:
    return tensor.__dict__.get("pinned", False)


class Generator(torch.Generator):
    """A generator that remembers the device it was made for; its numbers are the CPU's."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made = super().__new__(cls)
        made.place = CUDA if torch.device(device).type == "cuda" else CPU
        return made

    def __init__(self, device: Any = "cpu"):
        pass

    @property
    def device(self) -> torch.device:
        return self.place


class Autocast(torch.autocast):
    """Autocast of the CPU where the GPU's is meant."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any):
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


class _Stub:
    """A stream, an event or a recording, which does nothing."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __getattr__(self, name: str) -> Callable:
        return lambda *args, **kwargs: 1.0


def _cpu_autocast(query: Callable) -> Callable:
    return lambda device_type="cuda": query("cpu" if device_type == "cuda" else device_type)


def _group_tensors(lists: list, with_indices: bool = False) -> dict:
    """Groups of an optimizer's tensors by the device that they claim to be on, and their type."""
    claims = {}
    for (device, dtype), group in _group(lists, with_indices).items():
        there = any(isinstance(tensor, OnDevice) for tensor in tree_leaves(group))
        claims[CUDA if there else device, dtype] = group
    return claims


def _debug(mode: str | int) -> None:
    _log.strict = mode in ("error", 2)


_PROPERTIES = SimpleNamespace(
    name="stand-in", major=9, minor=0, multi_processor_count=132, total_memory=80 << 30, uuid="0", pci_domain_id=0,
    pci_bus_id=1, pci_device_id=0,
)  # fmt: skip
_CUDA: dict[str, Any] = {
    **dict.fromkeys(("is_available", "is_initialized", "is_bf16_supported"), lambda *_: True),
    **dict.fromkeys(("set_device", "synchronize", "reset_peak_memory_stats", "empty_cache"), lambda *_: None),
    **dict.fromkeys(("manual_seed", "manual_seed_all", "_lazy_init"), lambda *_: None),
    **dict.fromkeys(("Stream", "Event", "CUDAGraph"), _Stub),
    **dict.fromkeys(("current_stream", "default_stream", "graph_pool_handle"), _Stub),
    **dict.fromkeys(("stream", "graph"), lambda *_, **__: contextlib.nullcontext()),
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_capability": lambda *_: (9, 0),
    "get_device_name": lambda *_: _PROPERTIES.name,
    "get_device_properties": lambda *_: _PROPERTIES,
    "max_memory_allocated": lambda *_: 2**20,
    "get_rng_state": lambda *_: torch.get_rng_state(),
    "set_rng_state": lambda state, *_: torch.set_rng_state(state),
    "set_sync_debug_mode": _debug,
}
_TORCH: dict[str, Any] = {
    "cudnn_convolution_relu": lambda x, *layer: torch.relu(torch.conv2d(x, *layer)),
    "cudnn_convolution_add_relu": lambda x, weight, other, alpha, *layer: torch.relu(
        torch.conv2d(x, weight, *layer) + alpha * other
    ),
    "Generator": Generator,
    "autocast": Autocast,
    "is_autocast_enabled": _cpu_autocast(torch.is_autocast_enabled),
    "get_autocast_dtype": _cpu_autocast(torch.get_autocast_dtype),
}


@contextlib.contextmanager
def gpu() -> Iterator[Log]:
    """Context in which a GPU is present; its log is empty at the start."""
    # The compiler's rules refer to torch's functions by identity; they are made once, of the real ones.
    trace_rules.get_torch_obj_rule_map()
    replaced = [
        *((torch.cuda, _CUDA), (torch, _TORCH)),
        (torch._C, {"_group_tensors_by_device_and_dtype": _group_tensors}),
        (torch.Tensor, {"record_stream": lambda self, stream: None}),
    ]
    before = [(module, {name: getattr(module, name) for name in names}) for module, names in replaced]
    conversion = torch.__future__.get_overwrite_module_params_on_conversion()
    _log.events.clear()
    _log.strict, _log.busy = False, 0
    try:
        for module, names in replaced:
            for name, value in names.items():
                setattr(module, name, value)
        # A module's own tensors cannot become tensors of the device, so a move replaces them.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        with _Operations(), _Functions():
            yield _log
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(conversion)
        for module, names in before:
            for name, value in names.items():
                setattr(module, name, value)
