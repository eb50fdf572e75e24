"""Base class of training methods: hyperparameters and a loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import field
from typing import ClassVar, NamedTuple, TypeVar

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from crt.models.classifier import Classifier
from crt.models.low_weights import low_weights
from crt.plugins import Plugin
from crt.threat import Threat

Result = TypeVar("Result", Tensor, list[Tensor])

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True, validate_default=True)


class Step(NamedTuple):
    """Place of a batch in training."""

    epoch: float
    """Number of the epoch; compare it only with the method's `phase_boundaries`."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which no step needs
    """Indices of the images in the dataset, for methods that store something for each."""
    replay: int = 0
    """Number of this step among the method's steps on the same images."""
    clock: Tensor | None = None
    """The epoch as a 0-d float32 tensor on the device, for a step that is recorded; see `crt.training.cuda_graph`."""

    @property
    def now(self) -> float | Tensor:
        """The epoch, for quantities that change with it."""
        return self.epoch if self.clock is None else self.clock


@dataclass(kw_only=True, config=STRICT)
class Method(Plugin, ABC):
    """Base class of methods: a subclass defines the loss; its fields are hyperparameters with the paper's defaults."""

    threat: Threat
    teacher: Classifier | None = None
    stream: torch.cuda.Stream | None = field(default=None, init=False, repr=False)
    """CUDA stream of the teacher, if it differs from the student's."""
    label_smoothing: float = field(default=0.0, init=False, repr=False)
    """Share of each label that `cross_entropy` spreads evenly over all classes, as the recipe says."""
    ranks: int = field(default=1, init=False, repr=False)
    """Number of processes that share each batch, for a method that needs the whole of it; the training sets it."""

    needs_teacher: ClassVar[bool] = False
    needs_eps: ClassVar[bool] = False
    """True if the method attacks within the threat's radius, which must then be above 0."""
    epochs_of: ClassVar[tuple[str, ...]] = ()
    """Arguments that count epochs, which a quick run shortens with the recipe."""
    makes_dataset: ClassVar[bool] = False
    """True if it trains on images that are generated from its teacher in a separate job."""
    uses_local_norms: ClassVar[bool] = False
    """True if it bounds Lipschitz constants in the neighbourhood of each image, which `bench.similarity` then shows."""

    @property
    def chunks(self) -> int:
        """Number of parts of a loaded batch, each with its own optimizer step (the m-chunk rule)."""
        return 1

    @property
    def replays(self) -> int:
        """Optimizer steps on each part."""
        return 1

    @property
    def phase_boundaries(self) -> tuple[float, ...]:
        """Epochs at which the method's steps, and so their cost, change."""
        return ()

    @property
    def steady_from_epoch(self) -> float:
        """Epoch from which all steps have the same cost; times and operations are measured there."""
        return 0.0

    @property
    def has_cross_entropy(self) -> bool:
        """True if the loss has a cross-entropy on labels, which a recipe may then smooth.

        The method computes it by `cross_entropy`. Bounds over a ball are none: with smoothed labels they bound nothing.
        """
        return False

    @classmethod
    def may_smooth(cls) -> bool:
        """True if the loss has a cross-entropy on labels, by some of the method's arguments at least."""
        return cls.has_cross_entropy is not Method.has_cross_entropy

    @property
    def required_teacher(self) -> Classifier:
        """Teacher of a method that needs one; ValueError where there is none."""
        if self.teacher is None:
            raise ValueError(f"{type(self).__name__} has no teacher (allowed: a Classifier)")
        return self.teacher

    @abstractmethod
    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """Scalar loss on images `x` (B, C, H, W) in [0, 1] with labels `y` (B,)."""

    def cross_entropy(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy of logits (N, classes) on labels `y` (N,), smoothed as the recipe says.

        Attacks do not use it: they take the label as it is, as in Pang et al., 2021 (https://arxiv.org/abs/2010.00467).
        """
        return F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)

    @torch.no_grad()
    def run_teacher(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Start the teacher's work, without gradients; the returned function waits for its result and returns it."""
        stream = self.stream
        if stream is None:
            with low_weights(self.required_teacher, constant=True):
                result = work()
            return lambda: result
        here = torch.cuda.current_stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream), low_weights(self.required_teacher, constant=True):
            result = work()

        def wait() -> Result:
            here.wait_stream(stream)
            for tensor in [result] if isinstance(result, Tensor) else result:
                tensor.record_stream(here)
            return result

        return wait

    def after(self, model: Classifier) -> None:
        """Hook after each optimizer step, without gradients."""

    def state(self) -> dict[str, Tensor]:
        """Tensors that the method keeps between steps on this rank, for a checkpoint."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore the result of `state`."""


class Objective(nn.Module):
    """A method bound to a model, so that DDP wraps a single call from batch to loss."""

    def __init__(self, method: Method, model: Classifier):
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, x: Tensor, y: Tensor, step: Step) -> Tensor:
        return self.method.loss(self.model, x, y, step)
