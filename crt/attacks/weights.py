"""Adversarial weight perturbation, AWP (Wu et al., 2020, https://arxiv.org/abs/2004.05884, algorithm 1).

The weights' own step comes from where they are: their perturbation is an amount that the loss adds to them, and no
weight is written and restored. In the authors' code, weight decay is that of the perturbed weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call

from crt import distributed
from crt.models.classifier import Classifier

Network = Callable[[Tensor], Tensor]
"""Function from images to logits."""


def loss_at_worst_weights(
    model: Classifier, loss: Callable[[Network], Tensor], gamma: float | None, ranks: int
) -> Tensor:
    """The loss at weights that one step of ascent moves by `gamma` times their norm; at the weights without a `gamma`.

    Each kernel and each matrix moves for itself, along the gradient of the whole batch of all `ranks`; biases and
    BatchNorms stay, as in the authors' code. The gradients are those at the moved weights.
    """
    if gamma is None:
        return loss(model)
    weights = {name: each for name, each in model.named_parameters() if each.dim() > 1 and "weight" in name}
    gradients = _ascent(model, loss, list(weights.values()))
    if ranks > 1:
        gradients = distributed.averages(gradients)
    moved = {
        name: weight + gamma * weight.detach().norm() / g.norm().clamp_min(torch.finfo(g.dtype).tiny) * g
        for (name, weight), g in zip(weights.items(), gradients, strict=True)
    }
    return loss(lambda x: functional_call(model, moved, (x,)))


def _ascent(model: Classifier, loss: Callable[[Network], Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Gradients of the loss, up to a factor, from passes that leave BatchNorm's running statistics as they are."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    passes, count = model.train_passes, 0

    def network(x: Tensor) -> Tensor:
        nonlocal count
        count = len(x)
        return functional_call(model, buffers, (x,))

    value = loss(network)
    # A mean over the batch would shrink the gradients, which underflow to zero in half precision.
    gradients = torch.autograd.grad(value, weights, torch.full_like(value, count))
    model.train_passes = passes
    return list(gradients)
