"""Summary of an evaluated checkpoint: its guarantee, accuracies with intervals, and settings, as JSON."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bench.cell import Spec
from bench.commands.checkpoint import Checkpoint
from bench.measure.provenance import provenance
from bench.records import Provenance
from bench.results.statistics import CONFIDENCE, Interval


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Model):
    """A figure and the ends of its interval; None (null) where there are too few values for one."""

    estimate: float | None
    low: float | None
    high: float | None
    level: float = CONFIDENCE
    interval: Literal["Wilson", "Student's t"]
    """How the interval was made; it is over the evaluated images."""


class EstimateAtRadius(Estimate):
    """An accuracy at a radius, in units of pixels in [0, 1]."""

    radius: float


class Network(_Model):
    """The file of weights, and its network as the command describes it."""

    file: str
    sha256: str
    arch: str
    dataset: str
    pipeline: str
    normalize: bool | None
    key: str | None


class Images(_Model):
    """The evaluated test images."""

    evaluated: int
    available: int
    choice: str
    """Numbers and indices in words."""


class Summary(_Model):
    """Result of `bench.attack` or `bench.certify`; shares are in [0, 1]."""

    command: Literal["attack", "certify"]
    guarantee: str
    """The statement that the figures allow, in words."""
    proof: bool
    """True if the accuracies are certified; false if they are upper bounds."""
    network: Network
    threat: dict[str, str | float]
    evaluation: str
    arguments: dict[str, Any]
    seed: int
    images: Images
    clean_accuracy: Estimate
    """Without a perturbation; of the smoothed network, where one was certified."""
    robust_accuracy: tuple[EstimateAtRadius, ...] = ()
    """Under the attack: an upper bound."""
    certified_accuracy: tuple[EstimateAtRadius, ...] = ()
    average_certified_radius: Estimate | None = None
    """None for a grid of radii, which measures no radius."""
    draws_per_image: float | None = None
    """Mean number of noise draws, where a grid of radii ends them early."""
    abstained: Estimate | None = None
    """None where wrong images were skipped, since it is unknown whether the network would have abstained."""
    images_skipped: int | None = None
    images_broken: int | None = None
    seconds: float
    """Time of the evaluation, over all calls that made the table."""
    table: str
    """File of the results by image."""
    machine: Provenance
    """Machine and software of the last call."""

    @property
    def images_per_second(self) -> float:
        return self.images.evaluated / self.seconds


def share(interval: Interval) -> Estimate:
    """A share of images with Wilson's interval."""
    return Estimate(**_ends(interval), interval="Wilson")


def share_at(radius: float, interval: Interval) -> EstimateAtRadius:
    """A share of images at a radius with Wilson's interval."""
    return EstimateAtRadius(**_ends(interval), interval="Wilson", radius=radius)


def mean(interval: Interval) -> Estimate:
    """A mean over images with Student's t interval."""
    return Estimate(**_ends(interval), interval="Student's t")


def common(
    checkpoint: Checkpoint, digest: str, spec: Spec, seed: int, choice: Images, seconds: float, table: Path
) -> dict[str, Any]:
    """Fields of a summary that do not depend on the command; `digest` is the SHA-256 of the file."""
    network = Network(
        file=str(checkpoint.file),
        sha256=digest,
        arch=checkpoint.arch,
        dataset=checkpoint.dataset,
        pipeline=checkpoint.pipeline,
        normalize=checkpoint.normalize,
        key=checkpoint.key,
    )
    arguments = spec.args | {"every": spec.every, "images": spec.images}
    return dict(network=network, evaluation=spec.name, arguments=arguments, seed=seed, images=choice,
                seconds=seconds, table=str(table), machine=provenance())  # fmt: skip


def check_files(files: dict[str, Path | None], table: Path, checkpoint: Path) -> None:
    """Raise ValueError, before any image is evaluated, for a file to write, by its option, that cannot be written.

    The files of the table and of the network are refused.
    """
    kept = {table: "the table", table.with_suffix(".json"): "the table's settings", checkpoint: "the network"}
    taken = {file.resolve(): content for file, content in kept.items()}
    for option, file in files.items():
        if not file:
            continue
        if file.resolve() in taken:
            raise ValueError(f"{option} {file}: holds {taken[file.resolve()]} (allowed: another file)")
        if not file.parent.is_dir():
            raise ValueError(f"{option} {file}: no folder {file.parent}")
        if file.is_dir():
            raise ValueError(f"{option} {file}: is a folder (allowed: a file)")
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise ValueError(f"{option} {file}: cannot be written (allowed: a file that can)")
        taken[file.resolve()] = f"what {option} writes"


def _ends(interval: Interval) -> dict[str, float | None]:
    # NaN is no JSON, and is unequal to itself.
    return {
        name: None if value != value else float(value)
        for name, value in zip(("estimate", "low", "high"), interval, strict=True)
    }
