"""Images without a source of the user's: the bundled digits, and CIFAR-10 by download."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images (N, H, W, 3) and labels (N)."""
_TRAIN_DIGITS = 1_437


def digits(split: str) -> Images:
    """scikit-learn's 1,797 handwritten digits, 8x8 enlarged 4x to 32x32x3, with a fixed split of 1,437 / 360."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    chosen = order[:_TRAIN_DIGITS] if split == "train" else order[_TRAIN_DIGITS:]
    small = np.round(images[chosen].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    large = small.repeat(4, axis=1).repeat(4, axis=2)
    return np.stack([large] * 3, axis=-1), labels[chosen].astype(np.int64)


def download(data: Path) -> Path:
    """Folder of CIFAR-10's python version, downloaded into `data` unless it is there and complete.

    ValueError without a network.
    """
    from torchvision.datasets import CIFAR10

    try:
        data.mkdir(parents=True, exist_ok=True)
        return Path(CIFAR10(str(data), download=True).root) / CIFAR10.base_folder
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"CIFAR-10 from the network into {data}: {error} (allowed for --source: cifar-10-batches-py or -bin, a tree"
            " train/CLASS/*, test/CLASS/*, or an archive of one)"
        ) from None
