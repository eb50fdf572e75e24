"""Ranks of one run: NCCL on GPUs, gloo on CPUs, nothing for a single process."""

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

# DDP imports this module, whose functions have the group as a default. Imported within the group, they would keep the
# group and its threads until Python exits, and Python's exit aborts where a thread of gloo then frees an object.
import torch.distributed.nn.functional


def world_size() -> int:
    """Number of processes that train one network together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process among the ranks, from 0."""
    return int(os.environ.get("RANK", "0"))


def device() -> torch.device:
    """The GPU of this rank, or the CPU without a GPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.device("cpu")


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other ranks, if there are any, for the duration of the block."""
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    if world_size() == 1:
        yield
        return
    # DDP's module holds the group, too, until it is collected, which must not wait for the interpreter's last steps.
    atexit.register(gc.collect)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for every rank."""
    if world_size() > 1:
        dist.barrier()


def slowest(seconds: float) -> float:
    """The longest of the ranks' durations."""
    if world_size() == 1:
        return seconds
    longest = torch.tensor(seconds, dtype=torch.float64, device=device())
    dist.all_reduce(longest, op=dist.ReduceOp.MAX)
    return longest.item()


def mean(value: torch.Tensor) -> float:
    """Mean over the ranks of a scalar on the device."""
    value = value.double().clone()
    if world_size() > 1:
        dist.all_reduce(value)
    return value.item() / world_size()


def averages(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Mean of each tensor over the ranks, equal on all of them, in one exchange."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    if world_size() > 1:
        dist.all_reduce(flat)
    parts = (flat / world_size()).split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def gather(value: object) -> list:
    """Every rank's picklable value, returned on every rank."""
    if world_size() == 1:
        return [value]
    values: list = [None] * world_size()
    dist.all_gather_object(values, value)
    return values
