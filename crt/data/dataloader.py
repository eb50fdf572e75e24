"""The loader of torchvision's transforms in torch's DataLoader: where FFCV is not installed, and the reference."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from crt.data.batches import Batch, Loader, pixels
from crt.data.beton import Beton


class Torch(Loader):
    """torchvision's transforms image by image in a DataLoader: the reference for the other two.

    How an image is cropped and flipped depends on seed, epoch and image alone, not on ranks or workers.
    """

    def batches(self, epoch: int) -> Iterator[Batch]:
        data = torch.utils.data.DataLoader(
            Augmented(self.beton, self.transform(), self.order.seed, epoch),
            batch_size=self.batch_size,
            sampler=self.order.of(epoch).tolist(),
            num_workers=self.workers or 0,
            generator=torch.Generator().manual_seed(epoch),  # else it draws from the network's generator
        )
        for x, y, index in data:
            yield pixels(self.own(x)), self.own(y), self.own(index)

    def transform(self) -> Callable[[Tensor], Tensor]:
        """What becomes of an image (C, H, W) uint8."""
        from torchvision.transforms import v2

        size = (self.height, self.width)
        steps = [v2.RandomCrop(size, padding=self.pad)] if self.pad else []
        if self.beton.jpeg:
            steps = [v2.RandomResizedCrop(size)] if self.augment else [self.centre]
        return v2.Compose([v2.Identity(), *steps, *([v2.RandomHorizontalFlip()] if self.flip else [])])

    def centre(self, image: Tensor) -> Tensor:
        """Of an image of any size, the part that FFCV cuts out, resized."""
        from torchvision.transforms.v2 import functional

        height, width = image.shape[1:]
        side = int(self.height / self.resize * min(height, width))
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
