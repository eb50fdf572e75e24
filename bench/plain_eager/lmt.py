"""Lipschitz-margin training (Tsuzuku et al., 2018, https://arxiv.org/abs/1802.04034).

With the schedule and the full margin of its comparison by Lee et al., 2020 (https://arxiv.org/abs/2010.06182).
"""

from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place
from bench.plain_eager.chains import Bounded, ball_translation, has_weights, layers, ramp, scale

__all__ = ["LMT"]


class LMT(Bounded):
    """Forward pass that multiplies the layers' norms."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h = self.settings
        if place.epoch < h.warmup:
            return F.cross_entropy(self.model(x), y)
        share = ramp(place.epoch, h.warmup, h.ramp)
        features, rho = self.model.normalize(x), share * self.threat.eps * scale(self.model)
        for position, layer in enumerate(layers(self.model.body)):
            if has_weights(layer):
                rho = rho * self.norms.norm(position, layer, features.shape[1:])
            features = layer(features)
        logits = self.model.head(features)
        moved = ball_translation(self.model.head, rho)[:, y].T
        if h.margin == "original":
            own = logits.gather(1, y[:, None])
            # A class's own margin, 0 / 0, allows all of it.
            borne = ((own - logits) / moved).detach().nan_to_num(1.0).clamp(0, 1).min(1, keepdim=True).values
            return F.cross_entropy(logits + borne * moved, y)
        kappa = 1 - (1 - h.kappa_final) * share
        return kappa * F.cross_entropy(logits, y) + (1 - kappa) * F.cross_entropy(logits + moved, y)
