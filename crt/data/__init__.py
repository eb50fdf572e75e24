"""Datasets by name: shape, classes, constants, augmentation and where their files are."""

from dataclasses import dataclass
from pathlib import Path

PIPELINES = ("crt", "plain")
"""crt: zero padding, random crop and, where the dataset says so, a flip; plain: the images as they are.

Of images of any size, crt takes a random part and plain the centre, resized.
"""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A set of uint8 images; `mean` and `std` (of pixels in [0, 1]) are what the network's first layer takes."""

    name: str
    classes: tuple[str, ...]
    train_images: int
    test_images: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    measured: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    """Mean and standard deviation of the training pixels, against which a written file is checked."""
    flip: bool
    shape: tuple[int, int, int] = (3, 32, 32)
    pad: int = 4
    resize: int | None = None
    """Where images are of any size: what the shorter side becomes before the centre of `shape` is cut out.

    Of such a dataset a file may hold a part.
    """

    def images(self, split: str) -> int:
        """How many images a split has."""
        return self.train_images if split == "train" else self.test_images

    def path(self, split: str, data: Path) -> Path:
        """The .beton file of a split."""
        return data / f"{self.name}-{split}.beton"


_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="cifar10",
            classes=_CIFAR10,
            train_images=50_000,
            test_images=10_000,
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
            measured=((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
            flip=True,
        ),
        Dataset(
            name="digits",
            classes=tuple("0123456789"),
            train_images=1_437,
            test_images=360,
            mean=(0.3055,) * 3,
            std=(0.3759,) * 3,
            measured=((0.3055,) * 3, (0.3759,) * 3),
            flip=False,
        ),
        Dataset(
            name="imagenet",
            classes=tuple(map(str, range(1000))),
            train_images=1_281_167,
            test_images=50_000,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            flip=True,
            shape=(3, 224, 224),
            pad=0,
            resize=256,
        ),
    )
}
