"""Training with local Lipschitz bounds and boxes (Huang et al., 2021, https://arxiv.org/abs/2111.01395, section 3)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.plain_eager.base import Place
from bench.plain_eager.boxes import Passed, propagate, translation
from bench.plain_eager.chains import Bounded, adjoint, has_weights, linear, ramp, scale, weights
from crt.models.activations import MaxMin, ReLUTheta

__all__ = ["LocalBCP"]


class LocalBCP(Bounded):
    """Global bounds give the boxes; each image's own power iterations give the ball of the features.

    The clean loss has its own forward pass. Vectors that are kept for images stay in the host's memory, as by the
    authors, in half precision. The authors differentiate the iterations, too, see `PowerIterations`.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.own: dict[int, Tensor] = {}
        """Each image's own vectors, by the layer's position."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h, head = self.settings, self.model.head
        clean = F.cross_entropy(self.model(x), y)
        if place.epoch < h.warmup:
            return clean
        share = ramp(place.epoch, h.warmup, h.ramp)
        eps = share * h.widening * self.threat.eps
        passed = propagate(self.model, x, eps, self.norms)
        rho, varying = eps * scale(self.model), torch.ones_like(x)
        for position, at in enumerate(passed):
            if has_weights(at.layer):
                behind = _outputs(passed[position + 1])
                rho = rho * self._norm(position, at, varying, behind, place.index)
            else:
                varying = at.layer(varying) if isinstance(at.layer, nn.Flatten) else _varying(at)
        region = passed[-1].after._replace(rho=rho)
        worst = head(region.mu) + translation(head, y, region)
        kappa = 1 - (1 - h.kappa_final) * share
        return kappa * clean + (1 - kappa) * F.cross_entropy(worst, y)

    def step(self, loss: Tensor, epoch: float) -> Tensor:
        loss = super().step(loss, epoch)
        for layer in self.model.modules():
            if isinstance(layer, ReLUTheta):
                layer.theta.data.clamp_(min=0)
        return loss

    def _norm(self, position: int, at: Passed, inner: Tensor, outer: Tensor, index: Tensor) -> Tensor:
        """Norms (B,) of the layer between the inputs and the outputs that vary, which the masks mark by 1."""
        layer, weight, shape = at.layer, weights(at.layer), at.before.mu.shape[1:]
        with torch.no_grad():
            v = inner * self._first(position, inner, index)
            for _ in range(self.settings.power_iterations):
                u = inner * adjoint(layer, outer * linear(layer, v, weight), weight, shape)
                size = _sizes(u)
                v = torch.where(size > 0, u / size, v)
            if self.settings.stored:
                self.own[position][index.cpu() % self.settings.stored] = v.half().cpu()
        return _sizes(outer * linear(layer, v, weight)).flatten()

    def _first(self, position: int, inner: Tensor, index: Tensor) -> Tensor:
        """The images' own vectors, or the network's where an image has none."""
        common = self.norms.vectors[position].expand_as(inner)
        if not self.settings.stored:
            return common
        if position not in self.own:
            self.own[position] = torch.zeros((self.settings.stored, *inner.shape[1:]), dtype=torch.half)
        kept = self.own[position][index.cpu() % self.settings.stored].to(inner)
        return torch.where(_sizes(kept) > 0, kept, common)


def _varying(at: Passed) -> Tensor:
    """1 for outputs of an activation that are not constant in the box, else 0 (section 3.1)."""
    if isinstance(at.layer, MaxMin):
        low, high = at.after.low.chunk(2, 1)[0], at.after.high.chunk(2, 1)[1]
        return torch.cat([low < at.layer.high, high > at.layer.low], 1).to(low.dtype)
    varies = at.before.high > 0
    if isinstance(at.layer, ReLUTheta):
        varies = varies & (at.before.low < at.layer.theta)
    return varies.to(at.before.mu.dtype)


def _outputs(behind: Passed) -> Tensor:
    """Mask of a layer's outputs, by the activation behind it; MaxMin, which mixes them, leaves all."""
    return torch.ones_like(behind.before.mu) if isinstance(behind.layer, MaxMin) else _varying(behind)


def _sizes(v: Tensor) -> Tensor:
    """The l2 norm of each image's part, shaped to broadcast over tensors (B, ...)."""
    return v.flatten(1).norm(dim=1).view(-1, *[1] * (v.dim() - 1))
