"""The contract of training methods: hyperparameters and a loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import field
from typing import ClassVar, NamedTuple, TypeVar

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from crt.models.classifier import Classifier
from crt.plugins import Plugin
from crt.threat import Threat

Told = TypeVar("Told", Tensor, list[Tensor])

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True, validate_default=True)


class Step(NamedTuple):
    """The place of a batch in training."""

    epoch: float
    """Compare it with the method's `phase_boundaries` alone."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, for which nobody asks a step
    """The images' places in the dataset, for methods that remember something of each."""
    replay: int = 0
    """Which of the method's steps on the same images this is."""
    clock: Tensor | None = None
    """The epoch as a 0-d float32 of the device, where a recorded step is repeated; see `crt.training.cuda_graph`."""

    @property
    def now(self) -> float | Tensor:
        """The epoch, for amounts that change with it."""
        return self.epoch if self.clock is None else self.clock


@dataclass(kw_only=True, config=STRICT)
class Method(Plugin, ABC):
    """Subclasses say what to minimize; their fields are hyperparameters, defaulting to the paper's."""

    threat: Threat
    teacher: Classifier | None = None
    stream: torch.cuda.Stream | None = field(default=None, init=False, repr=False)
    """CUDA stream of the teacher, if not the student's."""

    needs_teacher: ClassVar[bool] = False
    needs_eps: ClassVar[bool] = False
    """True where it attacks within the threat's radius, which must then be above 0."""
    epochs_of: ClassVar[tuple[str, ...]] = ()
    """Arguments that count epochs, which a quick run shortens with the recipe."""
    makes_dataset: ClassVar[bool] = False
    """True where it trains on images that are made from its teacher, in a job of their own."""
    has_bare_loop: ClassVar[bool] = False
    """True where `bench.measure.bare_loop` has a plain training loop that does the same, to compare with."""

    @property
    def chunks(self) -> int:
        """Parts that a loaded batch is split in, each with an optimizer step of its own (the m-chunk rule)."""
        return 1

    @property
    def replays(self) -> int:
        """Optimizer steps on each part."""
        return 1

    @property
    def phase_boundaries(self) -> tuple[float, ...]:
        """The epochs from which on a step does something else."""
        return ()

    @property
    def steady_from_epoch(self) -> float:
        """The epoch from which on every step costs the same: times and operations are taken there."""
        return 0.0

    @property
    def required_teacher(self) -> Classifier:
        """The teacher of a method that needs one; ValueError where there is none."""
        if self.teacher is None:
            raise ValueError(f"{type(self).__name__} has no teacher (allowed: a Classifier)")
        return self.teacher

    @abstractmethod
    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """The scalar to minimize on images `x` (B, C, H, W) in [0, 1] with labels `y` (B,)."""

    @torch.no_grad()
    def run_teacher(self, work: Callable[[], Told]) -> Callable[[], Told]:
        """Begin what the teacher computes, without gradients; a call gives it, and waits for it where it must."""
        stream = self.stream
        if stream is None:
            found = work()
            return lambda: found
        here = torch.cuda.current_stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            found = work()

        def wait() -> Told:
            here.wait_stream(stream)
            for tensor in [found] if isinstance(found, Tensor) else found:
                tensor.record_stream(here)
            return found

        return wait

    def after(self, model: Classifier) -> None:
        """Hook after each optimizer step, without gradients."""

    def state(self) -> dict[str, Tensor]:
        """Tensors that the method keeps between steps on this rank, for a checkpoint."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""


class Objective(nn.Module):
    """A method bound to a model, so that what DDP wraps is one call: batch in, loss out."""

    def __init__(self, method: Method, model: Classifier):
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, x: Tensor, y: Tensor, step: Step) -> Tensor:
        return self.method.loss(self.model, x, y, step)
