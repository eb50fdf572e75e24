"""FGSM with gradient alignment (Andriushchenko and Flammarion, 2020, https://arxiv.org/abs/2007.02617)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from crt.attacks.common import l2
from crt.attacks.pgd import ascend, losses, project, start
from crt.models.classifier import Classifier
from crt.models.gradients_of_gradients import GradientsOfGradients
from crt.quantity import NonNegative
from crt.training.method import STRICT, Method, Step

__all__ = ["GradAlign"]


@dataclass(kw_only=True, config=STRICT)
class GradAlign(Method):
    """Cross-entropy after one attack step of length eps from the image, plus the misalignment of input gradients.

    It is 1 - the cosine of the loss's gradients at the image and at a random point of the ball, over the images whose
    gradients are not 0. The network stays in train mode. As in the authors' code, the attack takes the gradient at the
    image that the regularizer takes; their random point is not clamped to [0, 1]. The paper is about linf. With
    `compile`, it computes as without.
    """

    lbd: NonNegative = 0.2
    """Weight of the misalignment (the paper's lambda); the authors use 0.2 for eps 8/255 on CIFAR-10."""

    needs_eps: ClassVar[bool] = True
    has_cross_entropy = True

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        eps, norm = self.threat.eps, self.threat.norm
        with _differentiable_twice(model):
            here = _gradient(model, x, y)
            adversarial = project(x + eps * ascend(here.detach(), norm), x, eps, norm)
            cross_entropy = losses(model, adversarial, y, self.label_smoothing).mean()
            there = _gradient(model, start(x, eps, norm), y)
        return cross_entropy + self.lbd * _misalignment(here, there)


def _gradient(model: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Gradient (B, C, H, W) of each image's cross-entropy, which itself has gradients with respect to the weights."""
    x = x.detach().requires_grad_()
    # torch's counter of operations cannot hook a leaf whose gradient is requested by name.
    with GradientsOfGradients():
        scores = losses(model, x.view_as(x), y)
    return torch.autograd.grad(scores, x, torch.ones_like(scores), create_graph=True)[0]


def _misalignment(a: Tensor, b: Tensor) -> Tensor:
    """1 - the mean cosine of gradients (B, C, H, W), over the images where neither is 0."""
    lengths, tiny = (l2(a), l2(b)), torch.finfo(a.dtype).tiny
    one, other = (g / length.clamp_min(tiny) for g, length in zip((a, b), lengths, strict=True))
    present = ((lengths[0] > 0) & (lengths[1] > 0)).flatten()
    return (present * (1 - (one * other).flatten(1).sum(1))).sum() / present.sum().clamp_min(1)


@contextmanager
def _differentiable_twice(model: Classifier) -> Iterator[None]:
    """Context of passes whose gradients have gradients, which neither compiled code nor fused attention has.

    A compiled pass in between would write into BatchNorm's running statistics, which the graph of the others holds.
    """
    with sdpa_kernel(SDPBackend.MATH):
        if model.body._compiled_call_impl is None:
            yield
        else:
            with torch.compiler.set_stance("force_eager"):
                yield
