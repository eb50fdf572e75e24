"""CROWN-IBP in l2 and l-infinity balls (Zhang et al., 2020, https://arxiv.org/abs/1906.06316, section 3)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement
from bench.plain_eager.chains import adjoint, has_weights, ramp
from bench.plain_eager.intervals import (
    Images,
    Part,
    ball,
    interval_margins,
    intervals,
    passed,
    regularizers,
    rows,
    worst_losses,
)

__all__ = ["CROWNIBP"]

Box = tuple[Tensor, Tensor]


class CROWNIBP(Restatement):
    """Intervals forwards, and one linear bound of every margin backwards.

    The clean forward pass and the margins of intervals are computed whatever their weights, as in the authors' code.
    """

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h = self.settings
        if place.epoch < h.warmup:
            return F.cross_entropy(self.model(x), y)
        share = ramp(place.epoch, h.warmup, h.ramp)
        parts, logits = passed(self.model, x)
        images = ball(x, share * self.threat.eps, self.threat.norm)
        inputs = intervals(self.model, parts, images)
        robust = worst_losses(self._margins(parts, images, inputs, y, self._beta(share))).mean()
        kappa = 0 if h.kappa_final is None else 1 - (1 - h.kappa_final) * share
        loss = kappa * F.cross_entropy(logits, y) + (1 - kappa) * robust
        return loss + h.regularize * (1 - share) * regularizers(parts, inputs) if h.regularize else loss

    def _beta(self, share: float) -> float:
        """Weight of the linear bounds."""
        return 1 - (1 - self.settings.beta_final) * share

    def _margins(self, parts: list[Part], images: Images, inputs: list[Box], y: Tensor, beta: float) -> Tensor:
        """Lower bounds (B, classes - 1) of the margins of `y`."""
        bounds = interval_margins(self.model, y, inputs[-1])
        if beta < 1e-5:
            return bounds
        return beta * self._backward(parts, images, inputs, *rows(self.model, y)) + (1 - beta) * bounds

    def _backward(
        self,
        parts: list[Part],
        images: Images,
        inputs: list[Box],
        slopes: Tensor,
        constants: Tensor,
    ) -> Tensor:
        """Lower bounds (B, rows) of `slopes` times the features plus `constants`, by lines through each ReLU."""
        count = slopes.shape[:2]
        for (layer, weight, bias), (low, high) in reversed(list(zip(parts, inputs[:-1], strict=True))):
            if has_weights(layer):
                along = slopes.flatten(3).sum(3) if slopes.dim() > 3 else slopes
                constants = constants + along @ bias
                slopes = adjoint(layer, slopes.flatten(0, 1), weight, low.shape[1:]).unflatten(0, count)
            elif isinstance(layer, nn.ReLU):
                below, above = low.clamp(max=0), high.clamp(min=0)
                upper = (above / (above - below).clamp(min=torch.finfo(low.dtype).tiny))[:, None]
                lower = (upper > 0.5).to(low.dtype)
                negative, positive = slopes.clamp(max=0), slopes.clamp(min=0)
                constants = constants - (negative * upper * below[:, None]).flatten(2).sum(2)
                slopes = positive * lower + negative * upper
            else:
                slopes = slopes.view(*count, *low.shape[1:])
        normalize = self.model.normalize
        slopes = slopes / normalize.std
        values = (slopes * (images.centre - normalize.mean)[:, None]).flatten(2).sum(2) + constants
        if isinstance(images.half, Tensor):
            return values - (slopes.abs() * images.half[:, None]).flatten(2).sum(2)
        return values - images.half * slopes.flatten(2).norm(dim=2)
