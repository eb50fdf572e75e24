"""Base class of restatements: the plain training loop."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from crt.models.classifier import Classifier
from crt.threat import Threat


class Batches(Protocol):
    """Batches of an epoch: images (B, C, H, W) in [0, 1], labels (B,) and indices in the dataset (B,)."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]: ...


class Place(NamedTuple):
    """Place of a batch in training."""

    epoch: float
    """Number of epochs before this batch."""
    share: float
    """Share of an epoch that the batch takes."""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which no restatement needs
    """Indices of the images in the dataset."""


class Restatement(ABC):
    """Trains a network by a method written in plain PyTorch; a subclass defines the loss, or all steps on a batch."""

    def __init__(
        self,
        model: Classifier,
        optimizer: Optimizer,
        schedule: Callable[[Optimizer, float], None],
        threat: Threat,
        settings: Any,
        teacher: Classifier | None = None,
    ):
        self.model, self.optimizer, self.threat, self.settings = model, optimizer, threat, settings
        self.schedule = schedule
        """Sets the optimizer's step size for an epoch."""
        self._teacher = teacher

    @property
    def teacher(self) -> Classifier:
        """The teacher, in eval mode; ValueError without one."""
        if self._teacher is None:
            raise ValueError(f"the restatement of {type(self).__name__} has no teacher (allowed: a Classifier)")
        return self._teacher

    def epoch(self, batches: Batches, epoch: int) -> Tensor:
        """Train on every batch; the mean loss."""
        self.model.train()
        losses: list[Tensor] = []
        for number, (x, y, index) in enumerate(batches):
            losses += self.batch(x, y, Place(epoch + number / len(batches), 1 / len(batches), index))
        return torch.stack(losses).mean()

    def batch(self, x: Tensor, y: Tensor, place: Place) -> list[Tensor]:
        """Train on a loaded batch; the loss of each optimizer step."""
        return [self.step(self.loss(x, y, place), place.epoch)]

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        """Scalar loss of one optimizer step on images `x` (B, C, H, W) with labels `y` (B,)."""

    def step(self, loss: Tensor, epoch: float) -> Tensor:
        """Update the weights; the loss without its graph."""
        self.schedule(self.optimizer, epoch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class Chunked(Restatement):
    """Splits a loaded batch in `m` parts, each with its own optimizer step; images that are left over are dropped."""

    def batch(self, x: Tensor, y: Tensor, place: Place) -> list[Tensor]:
        losses, size = [], len(x) // self.settings.m
        for k in range(self.settings.m if size else 0):
            part = slice(k * size, (k + 1) * size)
            losses.append(self.step(self.loss(x[part], y[part], place), place.epoch))
        return losses


def rise(epoch: float, warmup: int) -> float:
    """Share of the full value that a warm-up over whole epochs allows: 1 / warmup in the first."""
    return min(1.0, (int(epoch) + 1) / warmup)


def kl(target: Tensor, logits: Tensor) -> Tensor:
    """KL divergence (B,) of softmax(logits) from `target`, both (B, classes).

    Its gradient is finite where the target is 0, unlike that of `kl_div`, which the authors use.
    """
    log = target.clamp(min=torch.finfo(target.dtype).tiny).log()
    return (target * (log - logits.log_softmax(1))).sum(1)


def gradient(leaf: Tensor) -> Tensor:
    """The gradient that a backward pass left in `leaf`; RuntimeError where it left none."""
    if leaf.grad is None:
        raise RuntimeError("the loss does not depend on the perturbation")
    return leaf.grad


def length(values: Tensor) -> Tensor:
    """The l2 norm of each image (B, C, H, W), of shape (B, 1, 1, 1)."""
    return values.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
