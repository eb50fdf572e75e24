"""Robust representation matching (Vaishnavi et al., 2022, https://arxiv.org/abs/2202.09994, equation 5)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement

__all__ = ["RRM"]


class RRM(Restatement):
    """The teacher runs its last layer, too, whose output is not used, as in the authors' code."""

    def batch(self, x: Tensor, y: Tensor, place: Place) -> list[Tensor]:
        replays = self.settings.replays
        with torch.no_grad():
            target = self.teacher.features(x)
            self.teacher.logits(target)
        losses = []
        for k in range(replays):
            losses.append(self.step(self._loss(x, y, target), place.epoch + k / replays * place.share))
        return losses

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        with torch.no_grad():
            return self._loss(x, y, self.teacher.features(x))

    def _loss(self, x: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """Loss for features `target` (B, width) of the teacher."""
        h, features = self.settings, self.model.features(x)
        cross_entropy = F.cross_entropy(self.model.logits(features), y)
        if h.distance == "cosine":
            return h.lbd * cross_entropy - F.cosine_similarity(features, target, eps=1e-6).mean()
        distance = torch.norm(features - target, dim=1)
        if h.distance == "relative":
            distance = distance / torch.norm(target, dim=1)
        return h.lbd * cross_entropy + distance.mean()
