"""Base class of loaders: an order of images, and their batches on the device."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crt.data import Dataset, Pipeline
from crt.data.augment import Changes
from crt.data.beton_file import Beton

Batch = tuple[Tensor, Tensor, Tensor]


def epoch_order(n: int, seed: int, epoch: int, rank: int = 0, world: int = 1, shuffle: bool = True) -> np.ndarray:
    """This rank's images of an epoch, int64: every `world`-th of an order that depends only on seed and epoch.

    The k-th batches of all ranks together are the k-th batch of one process. The remainder of n / `world` is left out.
    """
    order = np.random.default_rng((seed, epoch)).permutation(n) if shuffle else np.arange(n)
    return order[: n - n % world][rank::world].copy()


class Order:
    """Order of the images that a rank delivers in each epoch."""

    def __init__(self, n: int, seed: int, rank: int, world: int, shuffle: bool, held_out: Collection[int] = ()):
        self.n, self.seed, self.rank, self.world, self.shuffle = n, seed, rank, world, shuffle
        self.kept = np.setdiff1d(np.arange(n), list(held_out)) if len(held_out) else None
        """The images that are delivered, where some of the first `n` are held out."""

    @property
    def images(self) -> int:
        """Number of images that this rank delivers in an epoch."""
        return (self.n if self.kept is None else len(self.kept)) // self.world

    def of(self, epoch: int) -> np.ndarray:
        """The order of one epoch; see `epoch_order`."""
        n = self.n if self.kept is None else len(self.kept)
        order = epoch_order(n, self.seed, epoch, self.rank, self.world, self.shuffle)
        return order if self.kept is None else self.kept[order]


class Loader(ABC):
    """Batches of (images (B, C, H, W) float32 in [0, 1], labels (B,) int64, indices (B,) int64) on the device.

    A batch belongs to the consumer; the last one of an epoch may be smaller. Each iteration uses the order of `epoch`
    and increments it; set `epoch` to resume. `images` is the number of images that this rank delivers in an epoch.
    """

    def __init__(
        self,
        file: Path,
        beton: Beton,
        dataset: Dataset,
        pipeline: Pipeline,
        order: Order,
        batch_size: int,
        device: torch.device,
        workers: int | None,
    ):
        self.beton, self.order, self.batch_size, self.device, self.workers = beton, order, batch_size, device, workers
        self.file, self.height, self.width = file, *dataset.shape[1:]
        self.pipeline, self.resize = pipeline, dataset.resize
        self.pad = dataset.pad if pipeline.crop else 0
        self.flip = dataset.flip and pipeline.crop
        self.images = order.images
        self.epoch = 0

    def __len__(self) -> int:
        return math.ceil(self.images / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self.batches(epoch)

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""

    def changes(self, epoch: int, **others) -> Changes:
        """Augmentation of an epoch's cropped images; `others` replace fields of the pipeline."""
        return Changes(replace(self.pipeline, **others), self.order.n, self.order.seed, epoch, self.own)

    def own(self, tensor: Tensor) -> Tensor:
        """A copy on the device; to a GPU, through its own pinned memory, so that the copy is asynchronous."""
        if self.device.type != "cuda":
            return tensor.to(self.device, copy=True)
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return pinned.copy_(tensor).to(self.device, non_blocking=True)

    def close(self) -> None:  # noqa: B027  # not every loader holds any
        """Release threads and memory."""
