"""Training images that a cell holds out, so that the epoch to keep is not chosen by test images."""

import numpy as np
from numpy.typing import NDArray

from bench.cell import Cell


def held_out(cell: Cell) -> NDArray[np.int64]:
    """Numbers of the images that the cell holds out, rising; empty without a validation split.

    They are drawn uniformly from those that it may use, by its seed: methods of one seed hold out the same images.
    """
    available = cell.images or cell.data.train_images
    # The orders of epochs and their crops are drawn from (seed, epoch) and (seed, epoch, 1).
    random = np.random.default_rng((cell.seed, 0, 2))
    return np.sort(random.choice(available, cell.held_out, replace=False))
