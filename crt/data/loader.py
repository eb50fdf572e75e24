"""Three loaders behind one interface: FFCV, torchvision's transforms in a DataLoader, and a dataset on the device."""

from pathlib import Path

import torch

from crt.data import PIPELINES, Dataset
from crt.data.batches import Loader, Order, epoch_order
from crt.data.beton import Beton, ensure
from crt.data.dataloader import Torch
from crt.data.ffcv import FFCV
from crt.data.memory import Memory

__all__ = ["LOADERS", "epoch_order", "loader"]

KINDS = {"ffcv": FFCV, "torch": Torch, "memory": Memory}
LOADERS = tuple(KINDS)


def loader(
    kind: str,
    dataset: Dataset,
    split: str,
    *,
    data: Path,
    pipeline: str,
    batch_size: int,
    device: torch.device | str,
    seed: int,
    images: int | None = None,
    rank: int = 0,
    world: int = 1,
    workers: int | None = None,
    shuffle: bool = True,
) -> Loader:
    """The loader of one rank; `batch_size` is this rank's, `images` are the first of the file.

    `workers` are FFCV's threads or the DataLoader's processes. ValueError lists what is allowed.
    """
    if kind not in LOADERS:
        raise ValueError(f"unknown loader {kind!r} (allowed: {', '.join(LOADERS)})")
    if pipeline not in PIPELINES:
        raise ValueError(f"unknown pipeline {pipeline!r} (allowed: {', '.join(PIPELINES)})")
    file = ensure(dataset, split, Path(data))
    beton = Beton(file)
    if images is not None and not world <= images <= len(beton):
        raise ValueError(f"{file}: {images} images asked for, from {world} to {len(beton)} allowed")
    if images is None and len(beton) != dataset.images(split):
        raise ValueError(
            f"{file}: holds {len(beton)} of {dataset.images(split)} images (allowed: images: N, N at most {len(beton)})"
        )
    order = Order(images or len(beton), seed, rank, world, shuffle)
    return KINDS[kind](file, beton, dataset, pipeline == "crt", order, batch_size, torch.device(device), workers)
