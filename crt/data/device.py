"""Loader that holds the images on the device, for small datasets on fast devices."""

from collections.abc import Iterator

import numpy as np
import torch

from crt.data.batches import Batch, Loader

_TOGETHER = 1024
"""Number of images made at once if batches are smaller: launching the work for 32 images takes longer than the work."""


class Device(Loader):
    """Holds the images on the device as bytes, zero-padded once; one gather makes the crops of several batches.

    The crop and flip of an image depend only on seed, epoch and image, not on the number of ranks.
    """

    def __init__(self, *args):
        super().__init__(*args)
        if self.beton.jpeg:
            raise ValueError(f"loader device: {self.file} holds JPEGs of any size (allowed for it: ffcv, torch)")
        pad, n = self.pad, self.order.n
        # A fourth byte makes a pixel one int32, which is gathered and mirrored as one number instead of three.
        padded = np.pad(self.beton.images(np.arange(n)), ((0, 0), (pad, pad), (pad, pad), (0, 1)))
        pixels = torch.from_numpy(padded.view(np.int32)[..., 0]).to(self.device)
        image, row, pixel = pixels.stride()
        # A view of every crop of every image, (n, top, left, H, W), in the same memory.
        sizes = (n, 2 * pad + 1, 2 * pad + 1, self.height, self.width)
        self._crops = pixels.as_strided(sizes, (image, row, pixel, row, pixel))
        self._labels = torch.from_numpy(self.beton.labels[:n]).to(self.device)

    def batches(self, epoch: int) -> Iterator[Batch]:
        order = self.order.of(epoch)
        changes = self.changes(epoch)
        random = np.random.default_rng((self.order.seed, epoch, 1))
        corner = random.integers(0, 2 * self.pad + 1, (self.order.n, 2))[order]
        mirrored = (random.random(self.order.n) < 0.5 * self.flip)[order]
        drawn = (self.own(torch.from_numpy(a)) for a in (order, *corner.T, mirrored))
        together = self.batch_size * max(1, _TOGETHER // self.batch_size)
        for index, top, left, mirror in zip(*(a.split(together) for a in drawn), strict=True):
            pixels = self._crops[index, top, left]
            pixels = torch.where(mirror[:, None, None], pixels.flip(2), pixels)
            x = pixels.view(torch.uint8).unflatten(2, (self.width, 4))[..., :3]
            made = changes(x, index), self._labels[index], index.clone()
            yield from zip(*(tensor.split(self.batch_size) for tensor in made), strict=True)

    def close(self) -> None:
        self._crops = self._labels = None
