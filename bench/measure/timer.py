"""The clock, the same for every method; it waits for the device at both ends."""

import resource
from time import perf_counter

import torch

from crt import distributed


class Timer:
    """Times the enclosed block: `seconds` of the slowest of ranks that start together or, if `alone`, of this rank.

    `memory` is the GPU's peak in the block in MB, `host_memory` this process's peak since its start in MB.
    """

    seconds: float
    memory: float | None = None
    host_memory: float | None = None

    def __init__(self, alone: bool = False):
        self._alone = alone

    def __enter__(self) -> "Timer":
        self._gpu = torch.cuda.is_available()
        if not self._alone:
            distributed.barrier()
        if self._gpu:
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        self._start = perf_counter()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._gpu:
            torch.cuda.synchronize()
        self.seconds = perf_counter() - self._start
        if kind is None:
            self.seconds = self.seconds if self._alone else distributed.slowest(self.seconds)
            self.memory = torch.cuda.max_memory_allocated() / 2**20 if self._gpu else None
            self.host_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
