"""The loader that holds the images on the device: for small datasets on fast devices."""

from collections.abc import Iterator

import numpy as np
import torch

from crt.data.batches import Batch, Loader


class Device(Loader):
    """The images lie on the device as bytes, zero-padded once; a batch is one gather of crops.

    How an image is cropped and flipped depends on seed, epoch and image alone, not on the number of ranks.
    """

    def __init__(self, *args):
        super().__init__(*args)
        if self.beton.jpeg:
            raise ValueError(f"loader device: {self.file} holds JPEGs of any size (allowed for it: ffcv, torch)")
        pad, n = self.pad, self.order.n
        padded = np.pad(self.beton.images(np.arange(n)), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        images = torch.from_numpy(padded).to(self.device)
        image, row, pixel, value = images.stride()
        # Every crop of every image, (n, top, left, H, W, C), in the same memory.
        sizes = (n, 2 * pad + 1, 2 * pad + 1, self.height, self.width, images.shape[3])
        self._crops = images.as_strided(sizes, (image, row, pixel, row, pixel, value))
        self._labels = torch.from_numpy(self.beton.labels[:n]).to(self.device)

    def batches(self, epoch: int) -> Iterator[Batch]:
        order = self.order.of(epoch)
        changes = self.changes(epoch)
        random = np.random.default_rng((self.order.seed, epoch, 1))
        corner = random.integers(0, 2 * self.pad + 1, (self.order.n, 2))[order]
        mirrored = (random.random(self.order.n) < 0.5 * self.flip)[order]
        drawn = (torch.from_numpy(a).to(self.device) for a in (order, *corner.T, mirrored))
        for index, top, left, mirror in zip(*(a.split(self.batch_size) for a in drawn), strict=True):
            index = index.clone()
            x = self._crops[index, top, left]
            x = torch.where(mirror[:, None, None, None], x.flip(2), x)
            yield changes(x, index), self._labels[index], index

    def close(self) -> None:
        self._crops = self._labels = None
