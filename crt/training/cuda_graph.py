"""Training steps as CUDA graphs: recorded once each, then repeated by one launch."""

import gc
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from crt.training.method import Step

Update = Callable[[Tensor, Tensor, Step], Tensor]
"""An optimizer step on images, labels and where in training they are; its loss."""
EAGER = 2
"""Steps of each kind before one is recorded: they make what stays, such as momentum, and choose kernels."""


class Recorder:
    """Records what is done on a stream of its own, in memory that all its recordings share."""

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def eager(self, work: Callable[[], Tensor]) -> Tensor:
        """Do it as it is, on that stream."""
        here = torch.cuda.current_stream()
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            found = work()
        here.wait_stream(self.stream)
        return found

    def record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """A function that repeats it, once a call."""
        graph = torch.cuda.CUDAGraph()
        # A dead recording that is collected meanwhile spoils this one (https://github.com/pytorch/pytorch/pull/161037).
        gc.collect()
        gc.disable()
        try:
            # Loaders' threads may allocate meanwhile.
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                found = work()
        finally:
            gc.enable()

        def again() -> Tensor:
            graph.replay()
            return found

        return again


class Graphs:
    """Does the same as `update`, by a recording for each replay of a batch and each stage between a method's turns.

    A recording holds addresses and numbers: what changes from step to step reaches it in places of its own, and what a
    method or optimizer remembers has to stay where it is. Batches of another size than the first are not recorded.
    """

    def __init__(self, update: Update, optimizer: Optimizer, phase_boundaries: tuple[float, ...], recorder: Recorder):
        self.update, self.optimizer, self.recorder = update, optimizer, recorder
        self.phase_boundaries = phase_boundaries
        self.places: tuple[Tensor, ...] = ()
        """Images, labels, indices, epoch and step size."""
        self.seen: Counter[tuple[int, int]] = Counter()
        self.recorded: dict[tuple[int, int], Callable[[], Tensor]] = {}

    def __call__(self, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """The optimizer's step sizes are numbers before the call, and the place that holds them after it."""
        if not self.places:
            numbers = x.new_zeros(2, dtype=torch.float32)
            self.places = (*map(torch.empty_like, (x, y, step.index)), *numbers)
        images, labels, index, clock, lr = self.places
        clock.fill_(step.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr.fill_(group["lr"])
        if x.shape != images.shape:
            return self.recorder.eager(lambda: self.update(x, y, step._replace(clock=clock)))
        images.copy_(x)
        labels.copy_(y)
        index.copy_(step.index)
        held = Step(step.epoch, index, step.replay, clock)
        return self._done(held, lambda: self.update(images, labels, held))

    def _done(self, step: Step, work: Callable[[], Tensor]) -> Tensor:
        kind = (step.replay, sum(step.epoch >= turn for turn in self.phase_boundaries))
        if kind not in self.recorded:
            self.seen[kind] += 1
            if self.seen[kind] <= EAGER:
                return self.recorder.eager(work)
            self.recorded[kind] = self.recorder.record(work)
        # The next step's loss takes the same place.
        return self.recorded[kind]().clone()
