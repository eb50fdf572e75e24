"""SmoothAdv (Salman et al., 2019, https://arxiv.org/abs/1906.04584, algorithm 1 and equation 8)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Chunked, Place, gradient, length, rise

__all__ = ["SmoothAdv"]


class SmoothAdv(Chunked):
    """The attack's copies stand side by side; the weights have no gradients in it, as in the authors' code."""

    def batch(self, x: Tensor, y: Tensor, place: Place) -> list[Tensor]:
        if self.settings.update == "multi-noise":
            return super().batch(x, y, place)
        return [self.step(self.loss(x, y, place), place.epoch)]

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h = self.settings
        # The noise is drawn copy by copy, not image by image as by the authors, whose numbers are other ones.
        noise = torch.randn((h.m, *x.shape), dtype=x.dtype, device=x.device).transpose(0, 1) * self.threat.sigma
        if h.update == "multi-noise":
            adversarial = self._attack(x, y, noise, place)
            inputs = adversarial.repeat_interleave(h.m, 0) + noise.flatten(0, 1)
            return F.cross_entropy(self.model(inputs), y.repeat_interleave(h.m))
        size = math.ceil(len(x) / h.m)
        parts = zip(x.split(size), y.split(size), noise.split(size), strict=True)
        adversarial = torch.cat([self._attack(*part, place) for part in parts])
        return F.cross_entropy(self.model(adversarial + noise[:, 0]), y)

    def _attack(self, x: Tensor, y: Tensor, noise: Tensor, place: Place) -> Tensor:
        """Adversarial images under noise (B, m, C, H, W)."""
        h, m = self.settings, self.settings.m
        eps = h.eps * rise(place.epoch, h.warmup)
        self.model.eval().requires_grad_(False)
        delta = torch.zeros_like(x)
        for _ in range(h.T):
            delta.requires_grad_()
            logits = self.model((x + delta).repeat_interleave(m, 0) + noise.flatten(0, 1))
            if m == 1:
                loss = F.cross_entropy(logits, y, reduction="sum")
            else:
                p = logits.softmax(1).view(len(x), m, -1).mean(1)
                loss = -p.gather(1, y[:, None]).clamp(min=1e-20).log().sum()
            loss.backward()
            g, delta = gradient(delta), delta.detach()
            size = length(g)
            g = g / size
            if (size == 0).any():
                g = torch.where(size == 0, torch.randn_like(g), g)
            delta = (x + delta + 2 * eps / h.T * g).clamp(0, 1) - x
            # torch.renorm, which the authors use, would leave the ball's border by 1e-7.
            delta = delta * (eps / length(delta).clamp(min=1e-12)).clamp(max=1)
        self.model.train().requires_grad_(True)
        return x + delta
