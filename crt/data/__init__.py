"""Datasets and pipelines by name: shape, classes, constants, augmentation and location of the files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crt.text import invocation

_NEEDS_NO_SOURCE = ("cifar10", "digits")
"""Datasets that are bundled or downloaded."""
Constants = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation of each channel for pixels in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A set of uint8 images; the network's first layer normalizes with `mean` and `std` (of pixels in [0, 1])."""

    name: str
    classes: tuple[str, ...]
    train_images: int
    test_images: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    measured: Constants | None = None
    """Mean and standard deviation of the training pixels, which a written file is checked against."""
    flip: bool
    shape: tuple[int, int, int] = (3, 32, 32)
    pad: int = 4
    resize: int | None = None
    """Length of the shorter side before the centre of `shape` is cropped; None for images of one size.

    A file may hold a part of a dataset whose images are of any size.
    """
    superclasses: tuple[tuple[str, str, int], ...] | None = None
    """Ranges of ImageNet's classes that form each class: first and last WordNet ID, and number of classes."""
    source: Path | None = None
    """Image folder that the files are written from; None for a dataset of `DATASETS`."""

    def images(self, split: str) -> int:
        """Number of images in a split."""
        return self.train_images if split == "train" else self.test_images

    def path(self, split: str, data: Path) -> Path:
        """The .beton file of a split."""
        return data / f"{self.name}-{split}.beton"

    def existing(self, split: str, data: Path) -> Path:
        """The .beton file of a split; ValueError with the command that writes it where it is missing."""
        path = self.path(split, data)
        if not path.exists():
            write_it = invocation("crt.data.beton", *self._words(), "--data", data)
            raise ValueError(f"{path}: missing (write it: {write_it})")
        return path

    def _words(self) -> list[str | Path]:
        """The words with which `crt.data.beton` writes the files."""
        if self.source:
            flip = [] if self.flip else ["--no-flip"]
            return ["folder", "--source", self.source, "--size", str(self.shape[1]), *flip]
        return [self.name, *([] if self.name in _NEEDS_NO_SOURCE else ["--source", "FOLDER"])]


_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""
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
        # The constants of the next three are those in common use; no files of theirs were measured here.
        Dataset(
            name="cifar100",
            classes=tuple(_CIFAR100.split()),
            train_images=50_000,
            test_images=10_000,
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
            flip=True,
        ),
        Dataset(
            name="svhn",
            classes=tuple("0123456789"),
            train_images=73_257,
            test_images=26_032,
            mean=(0.4377, 0.4438, 0.4728),
            std=(0.1980, 0.2010, 0.1970),
            flip=False,
        ),
        Dataset(
            name="tiny_imagenet",
            classes=tuple(map(str, range(200))),
            train_images=100_000,
            test_images=10_000,
            mean=(0.4802, 0.4481, 0.3975),
            std=(0.2770, 0.2691, 0.2821),
            flip=True,
            shape=(3, 64, 64),
            pad=8,
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
        # Classes and constants of https://github.com/MadryLab/robustness
        Dataset(
            name="restricted_imagenet",
            classes=("dog", "cat", "frog", "turtle", "bird", "primate", "fish", "crab", "insect"),
            train_images=257_748,
            test_images=10_150,
            mean=(0.4717, 0.4499, 0.3837),
            std=(0.2600, 0.2516, 0.2575),
            flip=True,
            shape=(3, 224, 224),
            pad=0,
            resize=256,
            superclasses=(
                ("n02085620", "n02113978", 118),
                ("n02123045", "n02124075", 5),
                ("n01641577", "n01644900", 3),
                ("n01664065", "n01669191", 5),
                ("n01795545", "n01860187", 21),
                ("n02480495", "n02494079", 18),
                ("n02514041", "n02655020", 9),
                ("n01978287", "n01981276", 4),
                ("n02165105", "n02268443", 20),
            ),
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Augmentation of training images, in the order of the fields, and normalization in the network's first layer."""

    name: str
    datasets: tuple[str, ...] | None = None
    """Names of the datasets that the pipeline is for; None for every dataset."""
    crop: bool = True
    """Zero padding, a random crop and, if the dataset allows it, a flip; for images of any size, a resized crop."""
    jitter: float = 0.0
    """Brightness, contrast and saturation, in random order, each by a factor of 1 ± jitter."""
    degrees: float = 0.0
    """Largest angle by which an image is rotated in either direction."""
    lighting: float = 0.0
    """Standard deviation of a shift along ImageNet's principal colours."""
    constants: Mapping[str, Constants] = field(default_factory=dict)
    """Mean and standard deviation of the first layer, by dataset; the dataset's own by default."""
    clamp: bool = False
    """True if the first layer clamps pixels to [0, 1] that an attack or noise moved outside."""

    def takes(self, dataset: Dataset) -> bool:
        """True if the pipeline is for this dataset."""
        return self.datasets is None or dataset.name in self.datasets

    def normalization(self, dataset: Dataset) -> Constants:
        """Mean and standard deviation that the network's first layer normalizes with."""
        return self.constants.get(dataset.name, (dataset.mean, dataset.std))


_SMALL = ("cifar10", "digits")
_UNNORMALIZED = (*_SMALL, "cifar100", "svhn", "tiny_imagenet")
_RAW = ((0.0,) * 3, (1.0,) * 3)

PIPELINES = {
    pipeline.name: pipeline
    for pipeline in (
        Pipeline(name="crt"),
        Pipeline(name="plain", crop=False),
        # https://github.com/Ethos-lab/robust-representation-matching: its scripts for the two norms differ in std, too
        Pipeline(
            name="rrm-linf",
            datasets=_SMALL,
            constants={"cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))},
            clamp=True,
        ),
        Pipeline(
            name="rrm-l2",
            datasets=_SMALL,
            jitter=0.25,
            degrees=2.0,
            clamp=True,
        ),
        Pipeline(
            name="rrm-imagenet",
            datasets=("imagenet", "restricted_imagenet"),
            jitter=0.1,
            lighting=0.05,
            clamp=True,
        ),
        Pipeline(name="duet", datasets=_UNNORMALIZED, constants=dict.fromkeys(_UNNORMALIZED, _RAW)),
    )
}

LOADERS = ("ffcv", "torch", "device")
"""Names of the loaders in `crt.data.loader`."""
