"""Gaussian augmentation (Cohen et al., 2019, https://arxiv.org/abs/1902.02918, section 3.3)."""

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from crt.models.classifier import Classifier
from crt.training.method import STRICT, Method, Step

__all__ = ["Gaussian"]


@dataclass(kw_only=True, config=STRICT)
class Gaussian(Method):
    """Cross-entropy of one noisy copy of each image."""

    has_cross_entropy = True

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        return self.cross_entropy(model(x + self.threat.sigma * torch.randn_like(x)), y)
