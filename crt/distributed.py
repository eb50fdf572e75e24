"""Ranks of one run: NCCL where there are GPUs, gloo on CPUs, nothing at all for a single process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist


def world_size() -> int:
    """Processes that train one network together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process among them, from 0."""
    return int(os.environ.get("RANK", "0"))


def device() -> torch.device:
    """The GPU of this rank, or the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.device("cpu")


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other ranks for the duration, where there are any."""
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    if world_size() == 1:
        yield
        return
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
    """The largest of the ranks' durations."""
    if world_size() == 1:
        return seconds
    longest = torch.tensor(seconds, dtype=torch.float64, device=device())
    dist.all_reduce(longest, op=dist.ReduceOp.MAX)
    return longest.item()


def mean(value: torch.Tensor) -> float:
    """The mean over the ranks of a scalar on the device."""
    value = value.double().clone()
    if world_size() > 1:
        dist.all_reduce(value)
    return value.item() / world_size()


def gather(value: object) -> list:
    """Every rank's picklable value, on every rank."""
    if world_size() == 1:
        return [value]
    values: list = [None] * world_size()
    dist.all_gather_object(values, value)
    return values
