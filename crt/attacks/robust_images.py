"""Robust datasets (Ilyas et al., 2019, https://arxiv.org/abs/1905.02175, section 3.1)."""

import torch
from torch import Tensor

from crt.attacks.common import frozen, wide
from crt.attacks.pgd import ascend, climb
from crt.models.classifier import Classifier
from crt.training.precision import products


def robustify(
    teacher: Classifier, targets: Tensor, starts: Tensor, steps: int = 1000, step: float = 0.1, batch: int = 500
) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) with nearly the features of `targets`, and their remaining feature distances (N,).

    Each starts at its image of `starts` and takes `steps` descents of l2 length `step` on the l2 distance of the
    features, without a ball; the nearest of all iterates, the start included, is returned. The teacher is in eval mode.
    """
    batches = []
    with frozen(teacher), products("fp32", trial=True):
        for pair in zip(targets.split(batch), starts.split(batch), strict=True):
            batches.append(_descend(teacher, *pair, steps, step))
    images, distances = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(distances)


def _descend(teacher: Classifier, targets: Tensor, starts: Tensor, steps: int, step: float) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        goal = wide(teacher.features(targets))

    def nearness(x: Tensor) -> Tensor:
        return -torch.linalg.vector_norm(wide(teacher.features(x)) - goal, dim=1)

    def move(x: Tensor, g: Tensor) -> Tensor:
        return (x + step * ascend(g, "l2")).clamp(0, 1)

    best = climb(nearness, move, starts, steps, best_of=True)
    with torch.no_grad():
        return best, -nearness(best)
