"""Adversarial weight perturbation (Wu et al., 2020, https://arxiv.org/abs/2004.05884, algorithm 1)."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from bench.plain_eager.base import Restatement
from crt.models.classifier import Classifier

__all__: list[str] = []


class WeightPerturbing(Restatement):
    """Writes the perturbation into the weights before the loss, and the weights back before the optimizer's step.

    A copy of the network finds it, as in the authors' code, so that BatchNorm's running statistics do not change. The
    authors subtract the perturbation after the optimizer's step, whose weight decay is then that of perturbed weights.
    """

    unperturbed: list[tuple[Tensor, Tensor]] | None = None
    """Weights that are perturbed, and their values without it."""

    def worst(self, loss: Callable[[Classifier], Tensor]) -> Tensor:
        """The loss of the network, whose weights are perturbed from here to the step if the settings say so."""
        gamma = self.settings.awp
        if gamma is not None:
            proxy = copy.deepcopy(self.model)
            proxy.zero_grad()
            loss(proxy).backward()
            self._add(gamma, proxy)
        return loss(self.model)

    @torch.no_grad()
    def _add(self, gamma: float, proxy: Classifier) -> None:
        self.unperturbed = []
        for (name, weight), copied in zip(self.model.named_parameters(), proxy.parameters(), strict=True):
            if weight.dim() > 1 and "weight" in name and copied.grad is not None:
                self.unperturbed.append((weight, weight.clone()))
                weight.add_(gamma * weight.norm() / (copied.grad.norm() + 1e-20) * copied.grad)

    def step(self, loss: Tensor, epoch: float) -> Tensor:
        self.schedule(self.optimizer, epoch)
        self.optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            for weight, value in self.unperturbed or ():
                weight.copy_(value)
        self.optimizer.step()
        return loss.detach()
