"""What an evaluation says of one image, and how it is asked about many."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from crt.classifier import Classifier
from crt.switches import products

Question = tuple[Tensor, int, tuple[int, int]]
"""An image (C, H, W) in [0, 1], its label, and the seed (run's, image's index) of what is drawn for it."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A class, or -1 for an abstention, and the radius it is certified in, in units of pixels in [0, 1]."""

    prediction: int
    radius: float
    skipped: bool = False
    """Not certified, because the prediction was seen to be wrong."""
    details: dict[str, Any] = field(default_factory=dict)


def judge_each(evaluation: Any, model: Classifier, questions: Iterable[Question]) -> Iterator[Judgement]:
    """Judgements in the order of the questions, by `judge_many` where an evaluation has it, else one by one.

    Both the questions and the judgements are made as they are asked for. Products of float32 have all their bits,
    unless the evaluation's precision is tf32: by itself a GPU rounds the inputs of convolutions to TF32.
    """
    if hasattr(evaluation, "judge_many"):
        answers = evaluation.judge_many(model, questions)
    else:
        answers = (evaluation.judge(model, *question) for question in questions)
    precision, steady = getattr(evaluation, "precision", "fp32"), getattr(evaluation, "steady", False)
    while True:
        # Not round the loop: who takes an answer is left as they were.
        with products(precision, trial=steady):
            found = next(answers, None)
        if found is None:
            return
        yield found
