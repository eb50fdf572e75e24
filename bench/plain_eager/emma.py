"""Efficient margin maximization (EMMA; Hu et al., 2023, https://arxiv.org/abs/2301.12549)."""

from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place
from bench.plain_eager.chains import Bounded, has_weights, layers, ramp, scale

__all__ = ["EMMA"]


class EMMA(Bounded):
    """Forward pass that multiplies the layers' norms, and logits relative to that of the image's class."""

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
        behind = logits - logits.gather(1, y[:, None])
        slopes = constant * (head.weight[y][:, None] - head.weight[None]).norm(dim=2)
        full = self.threat.eps * (0.1 + (h.widening - 0.1) * ramp(place.epoch, h.warmup, h.ramp))
        # The radius at which a class reaches the image's own, at least a hundredth of the full one.
        radii = (-behind / slopes.clamp(min=1e-300)).clamp(0.01 * full, full)
        return F.cross_entropy(behind + radii.detach() * slopes, y)
