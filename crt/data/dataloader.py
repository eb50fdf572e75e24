"""The loader of torchvision's transforms in torch's DataLoader: where FFCV is not installed, and the reference."""

from collections.abc import Iterator

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
            Augmented(self.beton, (self.height, self.width), self.pad, self.flip, self.order.seed, epoch),
            batch_size=self.batch_size,
            sampler=self.order.of(epoch).tolist(),
            num_workers=self.workers or 0,
            generator=torch.Generator().manual_seed(epoch),  # else it draws from the network's generator
        )
        for x, y, index in data:
            yield pixels(self.own(x)), self.own(y), self.own(index)


class Augmented(torch.utils.data.Dataset):
    """Images (H, W, 3) uint8 with label and index, for one epoch."""

    def __init__(self, beton: Beton, size: tuple[int, int], pad: int, flip: bool, seed: int, epoch: int):
        from torchvision.transforms import v2

        crop = [v2.RandomCrop(size, padding=pad)] if pad else []
        self.transform = v2.Compose([v2.Identity(), *crop, *([v2.RandomHorizontalFlip()] if flip else [])])
        self.beton, self.seed, self.epoch = beton, seed, epoch

    def __len__(self) -> int:
        return len(self.beton)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        image = torch.from_numpy(self.beton.images(np.array([index]))[0]).permute(2, 0, 1)
        state = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the generator that training noise comes from
            torch.default_generator.manual_seed(int(state[0]))
            return self.transform(image).permute(1, 2, 0), int(self.beton.labels[index]), index
