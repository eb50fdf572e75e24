"""Loader of torchvision's transforms in torch's DataLoader: the reference, and the loader for machines without FFCV."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from crt.data.batches import Batch, Loader
from crt.data.beton_file import Beton


class Torch(Loader):
    """torchvision's transforms for each image in a DataLoader: the reference for the other two loaders.

    The changes to an image depend only on seed, epoch and image, not on ranks or workers. Lighting, which torchvision
    lacks, is added to whole batches.
    """

    def batches(self, epoch: int) -> Iterator[Batch]:
        data = torch.utils.data.DataLoader(
            Augmented(self.beton, self.transform(), self.order.seed, epoch),
            batch_size=self.batch_size,
            sampler=self.order.of(epoch).tolist(),
            num_workers=self.workers or 0,
            generator=torch.Generator().manual_seed(epoch),  # otherwise it would draw from the network's generator
        )
        changes = self.changes(epoch, jitter=0.0, degrees=0.0)
        for x, y, index in data:
            index = self.own(index)
            yield changes(self.own(x), index), self.own(y), index

    def transform(self) -> Callable[[Tensor], Tensor]:
        """Transform an image (C, H, W) uint8."""
        from torchvision.transforms import v2

        size, pipeline = (self.height, self.width), self.pipeline
        steps = [v2.RandomCrop(size, padding=self.pad)] if self.pad else []
        if self.beton.jpeg:
            steps = [v2.RandomResizedCrop(size)] if pipeline.crop else [self.centre]
        if self.flip:
            steps.append(v2.RandomHorizontalFlip())
        if pipeline.jitter:
            steps.append(v2.ColorJitter(*[pipeline.jitter] * 3))
        if pipeline.degrees:
            steps.append(v2.RandomRotation(pipeline.degrees))
        return v2.Compose([v2.Identity(), *steps])

    def centre(self, image: Tensor) -> Tensor:
        """The centre crop of a resized image of any size, as FFCV takes it."""
        from torchvision.transforms.v2 import functional

        height, width = image.shape[1:]
        side = int(self.height / (self.resize or self.height) * min(height, width))
        corner = (height - side) // 2, (width - side) // 2
        return functional.resized_crop(image, *corner, side, side, [self.height, self.width])


class Augmented(torch.utils.data.Dataset):
    """Images (H, W, 3) uint8 with label and index, for one epoch."""

    def __init__(self, beton: Beton, transform: Callable[[Tensor], Tensor], seed: int, epoch: int):
        self.beton, self.transform, self.seed, self.epoch = beton, transform, seed, epoch

    def __len__(self) -> int:
        return len(self.beton)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        image = torch.tensor(self.beton.image(index)).permute(2, 0, 1)
        state = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the generator that training noise comes from
            torch.default_generator.manual_seed(int(state[0]))
            return self.transform(image).permute(1, 2, 0), int(self.beton.labels[index]), index
