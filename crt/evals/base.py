"""The contract of evaluations: how often a trained network is right, and how robust it is, image by image."""

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

Kind = Literal["clean", "noisy", "attack", "bound", "smoothing"]
"""The claim that a judgement makes of an image.

- clean: the network classifies the image as this class.
- noisy: it classifies the image so under one draw of noise.
- attack: no perturbation within eps was found that changes the class; an upper bound of robust accuracy.
- bound: no perturbation within the radius changes the class; a proof.
- smoothing: the smoothed network has this class within the radius; a proof that fails with probability alpha at most.
"""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Evaluation(Plugin, ABC):
    """Judges single images by a network in eval mode, which it leaves as it is.

    A subclass stands in a file of `crt/evals` that names it in `__all__`; manifests find it by that name. Its fields
    are its arguments. It declares `kind` and `forwards` and implements `judge_many` or `judge`. Where it judges within
    a ball, an argument `eps` may stand for the threat's radius. Reports place it by its kind.
    """

    threat: Threat

    draws: ClassVar[str | None] = None
    """The argument that counts draws of noise; a quick run takes as many draws as its time allows."""

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """The claim that its judgements make; a constant of the class."""

    @property
    @abstractmethod
    def forwards(self) -> int:
        """Forward passes of an image, and gradients, that a judgement takes at most: its cost in estimates."""

    @property
    def measures_radius(self) -> bool:
        """True where the radius is the image's own, so that its mean over images (ACR) has a meaning."""
        return self.kind == "smoothing"

    @property
    def budget(self) -> tuple[int, int]:
        """How much an attack tries: the number of different attacks, then steps x restarts. Larger is stronger."""
        return 1, 0

    def judge(self, model: Classifier, x: torch.Tensor, y: int, generator_seed: tuple[int, int]) -> Judgement:
        """Judge one image (C, H, W) in [0, 1] with label `y`; the seed of its draws is (run's seed, image's index)."""
        return next(iter(self.judge_many(model, [(x, y, generator_seed)])))

    def judge_many(self, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
        """Judge images in their order, as the judgements are asked for."""
        if type(self).judge is Evaluation.judge:
            raise NotImplementedError(f"{type(self).__name__} implements neither judge nor judge_many")
        for x, y, seed in questions:
            yield self.judge(model, x, y, seed)

    def arithmetic(self) -> AbstractContextManager[None]:
        """Context in which judgements are computed.

        Products of float32 have all their bits; by itself a GPU rounds the inputs of convolutions to TF32.
        """
        return products("fp32", trial=False)

    def check_device(self, where: str, device: torch.device) -> None:
        """ValueError, which names an argument behind `where`, for what this device or installation cannot do."""


def judge_each(evaluation: Evaluation, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
    """Judgements in the order of the questions, each computed when it is asked for, in the evaluation's arithmetic."""
    judgements = iter(evaluation.judge_many(model, questions))
    while True:
        # Not round the loop: the arithmetic of the code that takes a judgement stays as it is.
        with evaluation.arithmetic():
            judgement = next(judgements, None)
        if judgement is None:
            return
        yield judgement
