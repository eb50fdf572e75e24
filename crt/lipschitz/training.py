"""What methods that train on worst logits share: the logits, the rise of the radius, the mixed loss."""

from torch import Tensor
from torch.nn import functional as F

from crt.threat import Threat


def needs_ball(threat: Threat) -> None:
    """ValueError where the threat is no l2 ball."""
    if threat.norm != "l2" or threat.eps <= 0:
        raise ValueError(f"the threat is norm: {threat.norm}, eps: {threat.eps:g} (allowed: norm: l2, eps above 0)")


def ramped(epoch: float, warmup: float, ramp: float) -> float:
    """From 0 at the end of `warmup` epochs to 1 in the `ramp` epochs after them."""
    return min(max((epoch - warmup) / ramp, 0.0), 1.0)


def mixed(logits: Tensor, worst: Tensor, y: Tensor, kappa: float) -> Tensor:
    """`kappa` of the cross-entropy of logits (B, classes), and the rest of that of worst logits."""
    return kappa * F.cross_entropy(logits, y) + (1 - kappa) * F.cross_entropy(worst, y)
