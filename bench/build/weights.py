"""Writing and reading of the weights and checkpoints of cells, each with the digest of its content."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crt.sealed import DamagedError, is_sealed, reading, writing


def save(path: Path, state: dict, owner: str, keep: Path | None = None) -> None:
    """Write a state dict, or a dictionary of several, of the cell with the id `owner`; see `crt.disk.replacing`."""
    with writing(path, owner, keep) as stream:
        torch.save(state, stream)


def load(path: Path, owner: str) -> Any:
    """Read what `save` wrote, on the CPU; DamagedError, which names the file, where it is not as it was written."""
    with reading(path, owner) as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # torch.load raises many kinds of errors on bytes that are no checkpoint
            reason = (str(error).splitlines() or [""])[0]
            raise DamagedError(f"{path}: damaged: {type(error).__name__}: {reason}") from None


def load_network(path: Path, owner: str, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read a network's state dict with the names and shapes of `wanted`; DamagedError for any other content."""
    state = load(path, owner)
    if problem := mismatch(state, wanted):
        raise DamagedError(f"{path}: {problem}")
    # The digest vouches for weights of a training that diverged.
    if (name := with_nan(state)) and not is_sealed(path):
        raise DamagedError(f"{path}: {name} holds NaN, and the file has no digest")
    return state


def mismatch(state: object, wanted: Mapping[str, Tensor]) -> str | None:
    """The difference in names, shapes or types between a state dict and the wanted one; None without one."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        return "holds no dictionary of tensors"
    for kind, names in (("lacks", wanted.keys() - state.keys()), ("has the unknown", state.keys() - wanted.keys())):
        if names:
            return f"{kind} {min(map(str, names))}"
    for name, tensor in wanted.items():
        found = state[name]
        if (found.shape, found.dtype) != (tensor.shape, tensor.dtype):
            return f"{name} has shape {tuple(found.shape)} {found.dtype}, not {tuple(tensor.shape)} {tensor.dtype}"
    return None


def with_nan(state: Mapping[str, Tensor]) -> str | None:
    """Name of a tensor that holds NaN; None without one."""
    return next((name for name, tensor in state.items() if tensor.isnan().any()), None)
