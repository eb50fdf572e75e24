"""Base classes of methods that train on lower bounds of margins, in l2 and l-infinity balls."""

from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from crt.attacks.common import frozen, wide
from crt.attacks.pgd import ascend, climb, losses, project, start
from crt.lipschitz.chain import AFFINE, Layer, exact
from crt.lipschitz.crown import margins
from crt.lipschitz.intervals import Ball, ball, boxes, check_intervals, worst_losses
from crt.lipschitz.regularizers import instability
from crt.lipschitz.statistics import fixed
from crt.lipschitz.training import Ramped
from crt.models.classifier import Classifier
from crt.quantity import Count, NonNegative, Positive
from crt.training.method import STRICT, Step


@dataclass(kw_only=True, config=STRICT)
class Regularized(Ramped):
    """Bounds margins in l2 or l-infinity balls, and regularizes their intervals in the ramp."""

    regularize: NonNegative = 0.0
    """Initial weight of the regularizers of Shi et al., 2021, which falls to 0 over the ramp; theirs is 0.5."""

    unsaid: ClassVar[frozenset[str]] = frozenset({"regularize"})
    norms_allowed: ClassVar[tuple[str, ...]] = ("l2", "linf")

    def bounds(
        self,
        model: Classifier,
        layers: tuple[Layer, ...],
        images: Ball,
        y: Tensor,
        now: float | Tensor,
        beta: float | Tensor = 0.0,
    ) -> tuple[Tensor, float | Tensor]:
        """Least margins (B, classes - 1) in a ball as by `margins`, and the regularizers with their weight."""
        inputs = boxes(model, layers, images)
        least = margins(model, layers, images, y, beta, inputs)
        if not self.regularize:
            return least, 0.0
        return least, self.regularize * (1 - self.share(now)) * instability(layers, inputs)


@dataclass(kw_only=True, config=STRICT)
class Bounded(Regularized):
    """Cross-entropy of the smallest margins that bounds allow, with a clean loss of falling weight.

    In train mode, BatchNorm normalizes images and bounds by the statistics of the clean images. A subclass has
    `kappa_final` among its fields, besides those of `Ramped`.
    """

    @property
    @abstractmethod
    def kappa_final(self) -> float | None:
        """Final weight of the clean loss, from 1; None for no clean loss after the warm-up."""

    @abstractmethod
    def beta(self, step: Step) -> float | Tensor:
        """Weight of linear bounds at this step; intervals have the rest."""

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        if step.epoch < self.warmup:
            return F.cross_entropy(wide(model(x)), y)
        share, network = self.share(step.now), fixed(model, x)
        with exact(x.device):
            images = ball(x, share * self.threat.eps, self.threat.norm)
            least, regularizers = self.bounds(model, network.layers, images, y, step.now, self.beta(step))
            robust = worst_losses(least, "mean")
        if self.kappa_final is None:
            return robust + regularizers
        kappa = 1 - (1 - self.kappa_final) * share
        return kappa * F.cross_entropy(network.logits(model, x), y) + (1 - kappa) * robust + regularizers


@dataclass(kw_only=True, config=STRICT)
class Attacked(Regularized):
    """Trains on an adversarial image and on intervals, which a subclass combines in `robust`.

    The attack is in eval mode and keeps the iterate with the largest loss if it has several steps. In train mode,
    BatchNorm normalizes adversarial images and bounds by the statistics of the adversarial images, as in the code of De
    Palma et al., 2024 (https://arxiv.org/abs/2305.13991), whose defaults for CIFAR-10 and eps 2/255 these are, but for
    the radius of the attack, 2.1 eps there, the weight of the l1 norm, 3e-6 or 4e-6 there, and a ramp that is a smooth
    curve there.
    """

    warmup: NonNegative = 1
    """Epochs of cross-entropy alone."""
    ramp: Positive = 80
    """Epochs over which the radius then rises to the threat's."""
    K: Count = 8
    """Steps of the attack."""
    step_size: Positive = 0.25
    """Length of a step, as a multiple of the attack's radius; a single step of 10 ends at a corner of a linf ball."""
    widening: Positive = 1.0
    """Radius of the attack as a multiple of the threat's."""
    l1: NonNegative = 0.0
    """Weight of the l1 norm of all weights of convolutions and linear layers."""

    named: ClassVar[tuple[str, ...]] = ("K",)

    def fits(self, model: Classifier) -> None:
        check_intervals(model)

    @abstractmethod
    def robust(self, model: Classifier, x: Tensor, y: Tensor, adversarial: Tensor, now: float | Tensor) -> Tensor:
        """Scalar loss on images `x` and adversarial images (B, C, H, W) at the epoch `now`."""

    def radius(self, now: float | Tensor) -> float | Tensor:
        """The threat's radius at the epoch `now`."""
        return self.share(now) * self.threat.eps

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        if step.epoch < self.warmup:
            loss = F.cross_entropy(wide(model(x)), y)
        else:
            adversarial = self._attack(model, x, y, self.widening * self.radius(step.now))
            loss = self.robust(model, x, y, adversarial, step.now)
        return loss + self.l1 * _l1_norm(model) if self.l1 else loss

    def _attack(self, model: Classifier, x: Tensor, y: Tensor, radius: float | Tensor) -> Tensor:
        """Adversarial images (B, C, H, W) within the radius, from random points of the ball."""
        norm = self.threat.norm

        def move(now: Tensor, g: Tensor) -> Tensor:
            return project(now + self.step_size * radius * ascend(g, norm), x, radius, norm)

        with frozen(model) as network:
            return climb(lambda z: losses(network, z, y), move, start(x, radius, norm), self.K, best_of=self.K > 1)


@dataclass(kw_only=True, config=STRICT)
class Expressive(Attacked):
    """A loss between those of an attack and of intervals (De Palma et al., 2024, section 4).

    A subclass has `alpha` among its fields and combines margins of the label's logit to the others in `between`.
    """

    named: ClassVar[tuple[str, ...]] = ("alpha", "K")

    @property
    @abstractmethod
    def alpha(self) -> float:
        """Weight of intervals, from 0, adversarial training, to 1, IBP."""

    @abstractmethod
    def between(self, adversarial: Tensor, least: Tensor) -> Tensor:
        """Losses (B,) by margins (B, classes - 1) of the adversarial images, and by bounds of margins in the ball."""

    def robust(self, model: Classifier, x: Tensor, y: Tensor, adversarial: Tensor, now: float | Tensor) -> Tensor:
        network = fixed(model, adversarial)
        logits = network.logits(model, adversarial)
        with exact(x.device):
            least, regularizers = self.bounds(
                model, network.layers, ball(x, self.radius(now), self.threat.norm), y, now
            )
            return self.between(_margins(logits, y), least).mean() + regularizers


def small_ball(adversarial: Tensor, x: Tensor, radius: float | Tensor, lbd: float, norm: str) -> Ball:
    """Ball of `lbd` times the radius near an adversarial image, within the ball of the radius around `x`."""
    small = lbd * radius
    return ball(project(adversarial, x, radius - small, norm), small, norm)


def _margins(logits: Tensor, y: Tensor) -> Tensor:
    """The logit of `y` (B,) minus each other logit, (B, classes - 1), in the order of `margins`."""
    classes = logits.shape[1]
    others = (y[:, None] + torch.arange(1, classes, device=y.device)) % classes
    return logits.gather(1, y[:, None]) - logits.gather(1, others)


def _l1_norm(model: nn.Module) -> Tensor:
    """Sum of the absolute values of the weights of convolutions and linear layers."""
    weights = [module.weight for module in model.modules() if isinstance(module, AFFINE)]
    return torch.stack(torch._foreach_norm(weights, 1)).sum()
