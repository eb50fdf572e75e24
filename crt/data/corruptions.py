"""Common corruptions of images (Hendrycks and Dietterich, 2019, https://arxiv.org/abs/1903.12261), computed here.

Formulas and severities are those of CIFAR-10-C for images of up to 64 pixels a side, and those of ImageNet-C for larger
ones. Corrupted pixels are rounded to 8 bits; the authors' are cut off. Random numbers differ from theirs, and each
image has its own.
"""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_LARGE = 65
"""Pixels a side from which the constants of ImageNet-C apply."""
Pixels = NDArray[np.float64]
"""An image (H, W, 3) in [0, 1]."""


def corrupt(image: Pixels, name: str, severity: int, seed: tuple[int, ...]) -> Pixels:
    """The corrupted image, rounded to 8 bits; `severity` is from 1 to 5, and `seed` that of its random numbers."""
    change, small, large = CORRUPTIONS[name]
    strength = (large if min(image.shape[:2]) >= _LARGE else small)[severity - 1]
    changed = change(image, strength, np.random.default_rng(np.random.SeedSequence(seed)))
    return np.round(changed.clip(0, 1) * 255) / 255


def gaussian_noise(x: Pixels, c: float, random: np.random.Generator) -> Pixels:
    """Add normal noise of standard deviation `c`."""
    return x + random.normal(size=x.shape, scale=c)


def shot_noise(x: Pixels, c: float, random: np.random.Generator) -> Pixels:
    """Replace each value by a Poisson count of mean `c` times the value."""
    return random.poisson(x * c) / c


def impulse_noise(x: Pixels, c: float, random: np.random.Generator) -> Pixels:
    """Set a share `c` of the values to 0 or 1."""
    hit, salt = random.random(x.shape) < c, random.random(x.shape) < 0.5
    return np.where(hit, salt.astype(float), x)


def speckle_noise(x: Pixels, c: float, random: np.random.Generator) -> Pixels:
    """Add normal noise of standard deviation `c` times the value."""
    return x + x * random.normal(size=x.shape, scale=c)


def gaussian_blur(x: Pixels, c: float, random: np.random.Generator) -> Pixels:
    """Blur with a normal kernel of standard deviation `c` pixels."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(x, (c, c, 0), mode="nearest")


def brightness(x: Pixels, c: float, random: np.random.Generator) -> Pixels:
    """Raise the value of each pixel, its largest colour, by `c` up to 1, at the same hue and saturation."""
    value = x.max(2, keepdims=True)
    raised = (value + c).clip(0, 1)
    return np.where(value > 0, x * (raised / np.where(value > 0, value, 1)), raised)


def contrast(x: Pixels, c: float, random: np.random.Generator) -> Pixels:
    """Scale the distance to the mean colour by `c`."""
    mean = x.mean((0, 1), keepdims=True)
    return mean + c * (x - mean)


def jpeg(x: Pixels, c: float, random: np.random.Generator) -> Pixels:
    """Compress to a JPEG of quality `c` and decode it."""
    _image(x).save(file := io.BytesIO(), "JPEG", quality=int(c))
    return np.asarray(Image.open(file), np.float64) / 255


def pixelate(x: Pixels, c: float, random: np.random.Generator) -> Pixels:
    """Shrink to a share `c` of each side by averaging, and enlarge again."""
    image = _image(x)
    small = image.resize((int(image.width * c), int(image.height * c)), Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BOX), np.float64) / 255


def _image(x: Pixels) -> Image.Image:
    return Image.fromarray(np.round(x.clip(0, 1) * 255).astype(np.uint8))


Strengths = tuple[float, float, float, float, float]
Change = Callable[[Pixels, float, np.random.Generator], Pixels]
CORRUPTIONS: dict[str, tuple[Change, Strengths, Strengths]] = {
    "gaussian_noise": (gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": (shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": (impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "speckle_noise": (speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6)),
    "gaussian_blur": (gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6)),
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "jpeg": (jpeg, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
    "pixelate": (pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
}
"""Corruptions by name, with the strength of each severity for small and for large images."""
