"""The loader that holds the images on the device: for small datasets on fast devices."""

from collections.abc import Iterator

import numpy as np
import torch

from crt.data.batches import Batch, Loader


class Device(Loader):
    """The images lie on the device as bytes, zero-padded once; a batch is one gather.

    How an image is cropped and flipped depends on seed, epoch and image alone, not on the number of ranks.
    """

    def __init__(self, *args):
        super().__init__(*args)
        if self.beton.jpeg:
            raise ValueError(f"loader device: {self.file} holds JPEGs of any size (allowed for it: ffcv, torch)")
        pad, n = self.pad, self.order.n
        padded = np.pad(self.beton.images(np.arange(n)), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        self._images = torch.from_numpy(padded).to(self.device)
        self._labels = torch.from_numpy(self.beton.labels[:n]).to(self.device)

    def batches(self, epoch: int) -> Iterator[Batch]:
        order = self.order.of(epoch)
        changes = self.changes(epoch)
        random = np.random.default_rng((self.order.seed, epoch, 1))
        corner = random.integers(0, 2 * self.pad + 1, (self.order.n, 2))[order]
        mirrored = (random.random(self.order.n) < 0.5 * self.flip)[order]
        rows = corner[:, :1] + np.arange(self.height)
        columns = corner[:, 1:] + np.arange(self.width)
        columns[mirrored] = columns[mirrored, ::-1]
        order, rows, columns = (torch.from_numpy(a).to(self.device) for a in (order, rows, columns))
        for index, r, c in zip(*(a.split(self.batch_size) for a in (order, rows, columns)), strict=True):
            index = index.clone()
            x = self._images[index[:, None, None], r[:, :, None], c[:, None, :]]
            yield changes(x, index), self._labels[index], index

    def close(self) -> None:
        self._images = self._labels = None
