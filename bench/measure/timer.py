"""The clock: the same for every method, on a drained device at both ends."""

import resource
from time import perf_counter

import torch

from crt import distributed


class Timer:
    """Seconds of the enclosed block on the slowest rank, started together; of this rank's own, where `alone`.

    `memory` is the GPU's peak in it in MB, `host_memory` this process's since it began.
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
