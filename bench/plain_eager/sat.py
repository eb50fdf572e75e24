"""Adversarial training (Madry et al., 2018, https://arxiv.org/abs/1706.06083, equation 2.1)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.awp import WeightPerturbing
from bench.plain_eager.base import Place
from bench.plain_eager.perturbations import moved, start

__all__ = ["SAT"]


class SAT(WeightPerturbing):
    """The attack in eval mode, with gradients for the images alone, and one more forward pass for the last iterate."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h, threat = self.settings, self.threat
        alpha = h.alpha or threat.eps / (5 if threat.norm == "l2" else 4)
        self.model.eval()
        now = (x + start(x, threat)).clamp(0, 1)
        best, most = now, None
        for _ in range(h.K):
            now = now.detach().requires_grad_()
            losses = F.cross_entropy(self.model(now), y, reduction="none")
            (g,) = torch.autograd.grad(losses.mean(), [now])
            if h.best_of:
                best, most = self._better(best, most, now.detach(), losses.detach())
            now = (x + moved(now.detach() - x, g, alpha, threat)).clamp(0, 1)
        if h.best_of:
            with torch.no_grad():
                losses = F.cross_entropy(self.model(now), y, reduction="none")
            now, _ = self._better(best, most, now, losses)
        self.model.train()
        return self.worst(lambda network: F.cross_entropy(network(now), y))

    def _better(self, best: Tensor, most: Tensor | None, now: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Iterate of each image with the larger loss, and that loss."""
        if most is None:
            return now, losses
        higher = losses > most
        return torch.where(higher.view(-1, 1, 1, 1), now, best), torch.where(higher, losses, most)
