"""Changes of colours and angles in whole batches of training images, on the device."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from crt.data import Pipeline

CONTRAST, SATURATION = 1, 2
"""Kinds of jitter; brightness is 0."""
VARIANCES = np.array((0.2175, 0.0188, 0.0045))
COLOURS = np.array(((-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203)))
"""ImageNet's principal colours, one in each row, and the variance along each (Krizhevsky et al., 2012, section 4.1)."""


class Changes:
    """A pipeline's augmentation in one epoch, after crop and flip: from bytes to float32 in [0, 1].

    It depends only on seed, epoch and image. Colours and angles change in whole values of 0 to 255, as in torchvision
    on bytes, so that the pixels of every loader are multiples of 1/255 until `lighting` shifts them.
    """

    def __init__(self, pipeline: Pipeline, n: int, seed: int, epoch: int, own: Callable[[Tensor], Tensor]):
        """`own` copies a tensor to the device on which images are augmented."""
        random = np.random.default_rng((seed, epoch, 2))
        self.pipeline = pipeline
        if pipeline.jitter:
            self.kinds = own(torch.from_numpy(random.permuted(np.tile(np.arange(3), (n, 1)), axis=1)))
            factors = random.uniform(1 - pipeline.jitter, 1 + pipeline.jitter, (n, 3))
            self.factors = own(torch.from_numpy(factors).float())
        if pipeline.degrees:
            angles = random.uniform(-pipeline.degrees, pipeline.degrees, n)
            self.angles = own(torch.from_numpy(angles).float())
        if pipeline.lighting:
            shifts = random.normal(0, pipeline.lighting, (n, 3)) * VARIANCES @ COLOURS
            self.shifts = own(torch.from_numpy(shifts).float())

    def __call__(self, x: Tensor, index: Tensor) -> Tensor:
        """Augment images `index`: bytes (B, H, W, 3) to float32 (B, 3, H, W)."""
        x = x.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        if self.pipeline.jitter:
            x = jitter(x, self.kinds[index], self.factors[index])
        if self.pipeline.degrees:
            x = rotate(x, self.angles[index])
        x = x.div_(255)
        return lighting(x, self.shifts[index]) if self.pipeline.lighting else x


def jitter(x: Tensor, kinds: Tensor, factors: Tensor) -> Tensor:
    """`x` after three in-place changes in the order of `kinds` (B, 3), each by its kind's factor in `factors` (B, 3).

    Each change is a blend: with black, with the mean grey, or with each pixel's grey.
    """
    for kind in kinds.unbind(1):
        factor = factors.gather(1, kind[:, None])[:, :, None, None]
        kind = kind[:, None, None, None]
        r, g, b = x.split(1, 1)
        grey = (0.2989 * r).add_(g, alpha=0.587).add_(b, alpha=0.114).floor_()
        mean = grey.mean((1, 2, 3), keepdim=True)
        blended = grey.mul_(kind == SATURATION).add_(mean * (kind == CONTRAST))
        x.mul_(factor).addcmul_(blended, 1 - factor).clamp_(0, 255).floor_()
    return x


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Each image rotated counterclockwise about its centre, with the nearest pixel, or black outside the image."""
    height, width = x.shape[2:]
    radians = torch.deg2rad(degrees)[:, None, None]
    cos, sin = torch.cos(radians), torch.sin(radians)
    across = torch.arange(width, device=x.device)[None, None, :] - (width - 1) / 2
    down = torch.arange(height, device=x.device)[None, :, None] - (height - 1) / 2
    grid = torch.stack([(across * cos - down * sin) * (2 / width), (across * sin + down * cos) * (2 / height)], -1)
    return grid_sample(x, grid, mode="nearest", align_corners=False)


def lighting(x: Tensor, shifts: Tensor) -> Tensor:
    """Pixels in [0, 1], with all pixels of an image shifted by its colour of `shifts` (B, 3).

    Values outside [0, 1] are clipped, since methods rely on this range.
    """
    return x.add(shifts[:, :, None, None]).clamp_(0, 1)
