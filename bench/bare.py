"""Standard training as one would write it without this project: what the harness is measured against."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def bare_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[tuple[Tensor, Tensor, Tensor]]
) -> Tensor:
    """Train on every batch; the last loss."""
    model.train()
    for x, y, _ in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    return loss.detach()
