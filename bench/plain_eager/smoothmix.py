"""SmoothMix (Jeong et al., 2021, https://arxiv.org/abs/2111.09277, algorithm 1)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Chunked, Place, kl, length, rise

__all__ = ["SmoothMix"]


class SmoothMix(Chunked):
    """The attack takes the noises one after the other, as in the authors' code, where the weights have no gradients."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h, warm = self.settings, rise(place.epoch, self.settings.warmup)
        noises = [torch.randn_like(x) * self.threat.sigma for _ in range(h.m)]
        iterates = self._attack(x, y, noises)
        if h.mix_step == 1 and h.T > 1:
            delta = iterates[0] - x
            x = (x + delta * (warm * h.alpha / length(delta).clamp(min=1e-12)).clamp(max=1)).clamp(0, 1)
        share = 0.5 * torch.rand((len(x), 1, 1, 1), dtype=x.dtype, device=x.device)
        clean = self.model(torch.cat([x + noise for noise in noises]))
        smoothed = torch.stack(clean.softmax(1).chunk(h.m)).mean(0)
        mixed = (1 - share) * x + share * iterates[-1]
        logits = self.model(torch.cat([mixed + noise for noise in noises]))
        share = share.view(-1, 1)
        target = (1 - share) * smoothed + share / smoothed.shape[1]
        right = (smoothed.argmax(1) == y).to(x.dtype)
        mixing = kl(target.repeat(h.m, 1), logits) * right.repeat(h.m)
        return F.cross_entropy(clean, y.repeat(h.m)) + h.eta * warm * mixing.mean()

    def _attack(self, x: Tensor, y: Tensor, noises: list[Tensor]) -> list[Tensor]:
        """Images after each step of the attack."""
        h, iterates = self.settings, []
        self.model.eval().requires_grad_(False)
        for _ in range(h.T):
            x = x.detach().requires_grad_()
            p = sum(self.model(x + noise).softmax(1) for noise in noises) / h.m
            loss = -p.gather(1, y[:, None]).clamp(min=1e-20).log().sum()
            (g,) = torch.autograd.grad(loss, x)
            x = (x.detach() + h.alpha * g / (length(g) + 1e-8)).clamp(0, 1)
            iterates.append(x)
        self.model.train().requires_grad_(True)
        return iterates
