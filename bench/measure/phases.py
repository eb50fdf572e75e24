"""Time of an epoch by phase, measured in an epoch of its own, since the measurement costs time."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from crt.data.batches import Batch, Loader


class Phases:
    """Wraps a loader and times this rank's loading, transfer, compute and all-reduce while it is iterated over.

    `host` and `device` (None without a GPU) are seconds by phase, which add up to the epoch's time; `compute` is the
    remainder. Here each bucket's all-reduce is waited for, so that its whole time is measured: in a timed epoch the
    backward pass hides much of it.
    """

    def __init__(self, loader: Loader, objective: torch.nn.Module):
        self._loader, self._gpu = loader, loader.device.type == "cuda"
        self._spans: dict[str, list[tuple]] = {"next": [], "transfer": [], "all_reduce": []}
        # The attribute hides the class's method until it is deleted after the epoch.
        loader.own = self._around("transfer", loader.own)  # type: ignore[method-assign]
        if isinstance(objective, DistributedDataParallel):
            objective.register_comm_hook(None, self._all_reduce)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        begin = self._now()
        batches = iter(self._loader)
        while True:
            with self._span("next"):
                batch = next(batches, None)
            if batch is None:
                break
            yield batch
        end = self._now()
        if self._gpu:
            torch.cuda.synchronize()
        drained = perf_counter() - end[0]
        host = lambda begin, end: end[0] - begin[0]  # noqa: E731
        self.host = self._split(host, begin, end) | ({"drain": drained} if self._gpu else {})
        device = lambda begin, end: begin[1].elapsed_time(end[1]) / 1000  # noqa: E731
        self.device = self._split(device, begin, end) if self._gpu else None
        del self._loader.own  # uncovers the class's method

    def _split(self, between: Callable, begin: tuple, end: tuple) -> dict[str, float]:
        spent = Counter({name: sum(between(*span) for span in spans) for name, spans in self._spans.items()})
        return {
            "loader": spent["next"] - spent["transfer"],
            "transfer": spent["transfer"],
            "compute": between(begin, end) - spent["next"] - spent["all_reduce"],
            "all_reduce": spent["all_reduce"],
        }

    def _now(self) -> tuple[float, torch.cuda.Event | None]:
        event = torch.cuda.Event(enable_timing=True) if self._gpu else None
        if event:
            event.record()
        return perf_counter(), event

    @contextmanager
    def _span(self, name: str) -> Iterator[None]:
        begin = self._now()
        yield
        self._spans[name].append((begin, self._now()))

    def _around(self, name: str, function: Callable) -> Callable:
        def timed(*args):
            with self._span(name):
                return function(*args)

        return timed

    def _all_reduce(self, _state: None, bucket) -> torch.futures.Future[torch.Tensor]:
        gradients = bucket.buffer().div_(torch.distributed.get_world_size())
        with self._span("all_reduce"):
            torch.distributed.all_reduce(gradients)
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        done.set_result(gradients)
        return done
