"""The contract of loaders: an order of images, and batches of it on the device."""

import math
from collections.abc import Iterator
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
    """This rank's images of an epoch, int64: every `world`-th of one order that depends on seed and epoch alone.

    The ranks' k-th batches together are the k-th batch of one process. What `world` does not divide is left out.
    """
    order = np.random.default_rng((seed, epoch)).permutation(n) if shuffle else np.arange(n)
    return order[: n - n % world][rank::world].copy()


class Order:
    """Which images a rank delivers, epoch by epoch."""

    def __init__(self, n: int, seed: int, rank: int, world: int, shuffle: bool):
        self.n, self.seed, self.rank, self.world, self.shuffle = n, seed, rank, world, shuffle

    def of(self, epoch: int) -> np.ndarray:
        """See `epoch_order`."""
        return epoch_order(self.n, self.seed, epoch, self.rank, self.world, self.shuffle)


class Loader:
    """Batches of (images (B, C, H, W) float32 in [0, 1], labels (B,) int64, indices (B,) int64) on the device.

    A batch is the consumer's to keep, and the last one may be smaller. Each iteration takes the order of `epoch` and
    moves it on by one; set it to resume. `images` is what one epoch of this rank delivers.
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
        self.images = order.n // order.world
        self.epoch = 0

    def __len__(self) -> int:
        return math.ceil(self.images / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self.batches(epoch)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """One epoch."""
        raise NotImplementedError

    def changes(self, epoch: int, **others) -> Changes:
        """The augmentation of an epoch's cropped images; `others` are fields of another pipeline."""
        return Changes(replace(self.pipeline, **others), self.order.n, self.order.seed, epoch, self.device)

    def own(self, tensor: Tensor) -> Tensor:
        """A copy on the device; through pinned memory of its own to a GPU, so that nobody waits for the copy."""
        if self.device.type != "cuda":
            return tensor.to(self.device, copy=True)
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return pinned.copy_(tensor).to(self.device, non_blocking=True)

    def close(self) -> None:
        """Let go of threads and memory."""
