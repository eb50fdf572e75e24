"""Base class of evaluations, which measure accuracy and robustness of a trained network image by image."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import ClassVar, Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from crt.judgement import Judgement, Question
from crt.models.classifier import Classifier
from crt.plugins import Plugin
from crt.threat import Threat
from crt.training.precision import products

Kind = Literal["clean", "noisy", "corrupted", "attack", "bound", "smoothing"]
"""The claim that a judgement makes about an image.

- clean: the network classifies the image as this class.
- noisy: the network classifies the image as this class under one draw of noise.
- corrupted: the network classifies the image as this class after one corruption of it.
- attack: no perturbation within eps was found that changes the class; an upper bound of robust accuracy.
- bound: no perturbation within the radius changes the class; a proof.
- smoothing: the smoothed network has this class within the radius; a proof that fails with probability alpha at most.
"""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Evaluation(Plugin, ABC):
    """Base class of evaluations: it judges single images by a network in eval mode, which it does not change.

    A subclass is in a file of `crt/evals` that lists it in `__all__`; manifests refer to it by its name. Its fields are
    its arguments. It declares `kind` and `forwards` and implements `judge_many` or `judge`. If it judges within a ball,
    an argument `eps` may replace the threat's radius. Reports group evaluations by kind.
    """

    threat: Threat

    draws: ClassVar[str | None] = None
    """Name of the argument for the number of noise draws; a quick run reduces it to the time available."""

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """Claim of its judgements; a constant of the class."""

    @property
    @abstractmethod
    def forwards(self) -> int:
        """Largest number of forward passes and gradients that an image needs: its cost in estimates."""

    @property
    def decided_radii(self) -> tuple[float, ...] | None:
        """Radii at which alone a certificate by smoothing decides, ascending from 0; None if it decides at all."""
        return None

    @property
    def out_of_reach(self) -> tuple[float, ...]:
        """Radii among `decided_radii` that not even agreement of all draws certifies."""
        return ()

    @property
    def measures_radius(self) -> bool:
        """True if the radius is a property of the image, so that its mean over images (ACR) has a meaning."""
        return self.kind == "smoothing" and self.decided_radii is None

    @property
    def needs_teacher(self) -> bool:
        """True if it judges by means of the cell's teacher, which is then an argument `teacher`."""
        return False

    @property
    def budget(self) -> tuple[int, int]:
        """Effort of an attack: the number of different attacks, then steps x restarts. A larger budget is stronger."""
        return 1, 0

    def judge(self, model: Classifier, x: torch.Tensor, y: int, generator_seed: tuple[int, int]) -> Judgement:
        """Judge one image (C, H, W) in [0, 1] with label `y`; its draws have the seed (run's seed, image's index)."""
        return next(iter(self.judge_many(model, [(x, y, generator_seed)])))

    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Yield judgements of the images in their order, each computed on demand."""
        if type(self).judge is Evaluation.judge:
            raise NotImplementedError(f"{type(self).__name__} implements neither judge nor judge_many")
        for x, y, seed in questions:
            yield self.judge(model, x, y, seed)

    def arithmetic(self) -> AbstractContextManager[None]:
        """Context in which judgements are computed.

        Products of float32 keep all their bits; by default, a GPU rounds the inputs of convolutions to TF32.
        """
        return products("fp32", trial=False)

    def check_device(self, where: str, device: torch.device) -> None:
        """Raise ValueError, with the argument's place `where`, for what the device or installation does not support."""


def judge_each(evaluation: Evaluation, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
    """Judgements in the order of the questions, each computed on demand and in the evaluation's arithmetic."""
    judgements = iter(evaluation.judge_many(model, questions))
    while True:
        # Not around the loop, so that the arithmetic of the consuming code does not change.
        with evaluation.arithmetic():
            judgement = next(judgements, None)
        if judgement is None:
            return
        yield judgement
