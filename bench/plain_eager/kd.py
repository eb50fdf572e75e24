"""Knowledge distillation from a robust teacher (RRM's equation 6, https://arxiv.org/abs/2202.09994)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement

__all__ = ["KD"]


class KD(Restatement):
    """Both terms are computed, whatever their weights, as in RRM's code."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h = self.settings
        with torch.no_grad():
            target = self.teacher(x)
        logits = self.model(x)
        if h.form == "paper":
            # Both networks end with a division by the temperature; the loss divides again.
            target, logits = target / h.t, logits / h.t
        soft, goal = F.log_softmax(logits / h.t, 1), F.softmax(target / h.t, 1)
        if h.form == "paper":
            transfer, clean = F.kl_div(soft, goal, reduction="none").mean(), F.cross_entropy(logits / h.t, y)
        else:
            transfer, clean = F.kl_div(soft, goal, reduction="batchmean"), F.cross_entropy(logits, y)
        return h.alpha * h.t**2 * transfer + (1 - h.alpha) * clean
