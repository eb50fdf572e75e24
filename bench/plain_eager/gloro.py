"""Globally robust networks (Leino et al., 2021, https://arxiv.org/abs/2102.08452, section 2)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, kl
from bench.plain_eager.chains import Bounded, has_weights, layers, ramp, scale

__all__ = ["GloRo"]


class GloRo(Bounded):
    """Forward pass that multiplies the layers' norms, and one more logit."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h, head = self.settings, self.model.head
        if place.epoch < h.warmup:
            return F.cross_entropy(self.model(x), y)
        features, constant = self.model.normalize(x), scale(self.model)
        for position, layer in enumerate(layers(self.model.body)):
            if has_weights(layer):
                constant = constant * self.norms.norm(position, layer, features.shape[1:])
            features = layer(features)
        logits = head(features)
        predicted = logits.argmax(1)
        differences = head.weight[None] - head.weight[predicted][:, None]
        reached = logits + self._radius(place.epoch) * constant * differences.norm(dim=2)
        others = F.one_hot(predicted, logits.shape[1]) == 0
        bottom = torch.where(others, reached, -torch.inf).max(1, keepdim=True).values
        extended = torch.cat([logits, bottom], 1)
        if h.objective == "ce":
            return F.cross_entropy(extended, y)
        clean = torch.cat([logits.softmax(1), torch.zeros_like(bottom)], 1)
        return F.cross_entropy(logits, y) + h.lbd * kl(clean, extended).mean()

    def _radius(self, epoch: float) -> float:
        """Training radius: it rises with the logarithm of the epoch."""
        h, first = self.settings, math.exp(0.01)
        return h.widening * self.threat.eps * math.log(first + (math.e - first) * ramp(epoch, h.warmup, h.ramp))
