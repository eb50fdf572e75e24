"""Training on a robust dataset (Ilyas et al., 2019, https://arxiv.org/abs/1905.02175, section 3.1)."""

from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.attacks.pgd import losses
from crt.models.classifier import Classifier
from crt.quantity import Count, Positive
from crt.training.method import STRICT, Method, Step

__all__ = ["RDT"]


@dataclass(kw_only=True, config=STRICT)
class RDT(Method):
    """Cross-entropy on images that contain the features of a robust teacher.

    `crt.attacks.robust_images` generates them before training.
    """

    steps: Count = 1000
    """Descents for each image, starting from another image drawn uniformly from the training set."""
    step: Positive = 0.1
    """l2 length of a descent, in pixels of [0, 1]."""

    needs_teacher: ClassVar[bool] = True
    makes_dataset: ClassVar[bool] = True
    quick: ClassVar[dict[str, int]] = {"steps": 20}
    has_cross_entropy = True

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        return losses(model, x, y, self.label_smoothing).mean()
