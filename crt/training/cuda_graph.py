"""Training steps as CUDA graphs, each recorded once and then repeated by one launch."""

import gc
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from crt.training.method import Step

Update = Callable[[Tensor, Tensor, Step], Tensor]
"""An optimizer step on images, labels and their place in training; its loss."""
EAGER = 2
"""Steps of each kind before one is recorded: they create lasting state, such as momentum, and choose kernels."""


class Recorder:
    """Recorder of work on its own stream, in memory that all its recordings share."""

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def eager(self, work: Callable[[], Tensor]) -> Tensor:
        """Run the work on that stream without recording it."""
        here = torch.cuda.current_stream()
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            result = work()
        here.wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """A function that repeats the work once each call."""
        graph = torch.cuda.CUDAGraph()
        # Garbage collection of a dead recording would spoil this one (https://github.com/pytorch/pytorch/pull/161037).
        gc.collect()
        gc.disable()
        try:
            # Loaders' threads may allocate memory during the recording.
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                result = work()
        finally:
            gc.enable()

        def repeat() -> Tensor:
            graph.replay()
            return result

        return repeat


class Graphs:
    """Does the same as `update`, with a recording for each replay of a batch and each phase of the method.

    A recording holds addresses and numbers: values that change between steps are copied to fixed addresses, and lasting
    state of a method or optimizer must keep its address. Batches of another size than the first are not recorded.
    """

    def __init__(self, update: Update, optimizer: Optimizer, phase_boundaries: tuple[float, ...], recorder: Recorder):
        self.update, self.optimizer, self.recorder = update, optimizer, recorder
        self.phase_boundaries = phase_boundaries
        self.places: tuple[Tensor, ...] = ()
        """Tensors at fixed addresses: images, labels, indices, epoch and step size."""
        self.seen: Counter[tuple[int, int]] = Counter()
        self.recorded: dict[tuple[int, int], Callable[[], Tensor]] = {}

    def __call__(self, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """Run one step; the optimizer's step sizes are numbers before it, and a tensor at a fixed address after it."""
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
        # The next step's loss has the same address.
        return self.recorded[kind]().clone()
