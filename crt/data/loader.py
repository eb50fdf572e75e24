"""Loaders behind one interface: FFCV, torchvision's transforms in a DataLoader, and a dataset on the device."""

from collections.abc import Collection
from pathlib import Path

import torch

from crt.data import LOADERS, PIPELINES, Dataset
from crt.data.batches import Loader, Order, epoch_order
from crt.data.beton_file import Beton, ensure
from crt.data.dataloader import Torch
from crt.data.device import Device
from crt.data.ffcv import FFCV

__all__ = ["LOADERS", "epoch_order", "loader"]

KINDS = {"ffcv": FFCV, "torch": Torch, "device": Device}


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
    held_out: Collection[int] = (),
) -> Loader:
    """The loader of one rank; `batch_size` is this rank's; `images` selects the first of the file.

    The images whose numbers are in `held_out` are not delivered.

    A file of images of any size may lack one in a thousand, because some copies contain unreadable images; to train on
    fewer, set `images`. `workers` are FFCV's threads or the DataLoader's processes. ValueError lists the allowed
    values.
    """
    if kind not in LOADERS:
        raise ValueError(f"unknown loader {kind!r} (allowed: {', '.join(LOADERS)})")
    if pipeline not in PIPELINES:
        raise ValueError(f"unknown pipeline {pipeline!r} (allowed: {', '.join(PIPELINES)})")
    if not PIPELINES[pipeline].takes(dataset):
        fitting = [name for name, candidate in PIPELINES.items() if candidate.takes(dataset)]
        raise ValueError(f"pipeline {pipeline!r} is not for {dataset.name} (allowed: {', '.join(fitting)})")
    file = ensure(dataset, split, Path(data))
    beton = Beton(file)
    if images is not None and not world <= images <= len(beton):
        raise ValueError(f"{file}: {images} images asked for, from {world} to {len(beton)} allowed")
    published = dataset.images(split)
    if images is None and abs(len(beton) - published) > published // 1000:
        raise ValueError(
            f"{file}: holds {len(beton)} of {published} images (allowed: images: N, N at most {len(beton)})"
        )
    order = Order(images or len(beton), seed, rank, world, shuffle, held_out)
    return KINDS[kind](file, beton, dataset, PIPELINES[pipeline], order, batch_size, torch.device(device), workers)
