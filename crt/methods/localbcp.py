"""Training with local Lipschitz bounds and boxes (Huang et al., 2021, https://arxiv.org/abs/2111.01395)."""

from dataclasses import field
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from crt.attacks.common import wide
from crt.lipschitz.boxes import regions
from crt.lipschitz.chain import chain, exact
from crt.lipschitz.local import Part, last_ball, local_estimate, parts
from crt.lipschitz.training import Normed, mixed
from crt.lipschitz.translation import over_both
from crt.models.activations import ReLUTheta
from crt.models.classifier import Classifier
from crt.quantity import Count, NonNegative, Positive, Share, Whole
from crt.training.method import STRICT, Step

__all__ = ["LocalBCP"]


@dataclass(kw_only=True, config=STRICT)
class LocalBCP(Normed):
    """BCP whose ball of features uses norms of layers without the neurons that are constant near the image."""

    warmup: NonNegative = 20
    """Epochs of cross-entropy alone."""
    ramp: Positive = 400
    """Epochs over which the radius then rises to its full size, and the clean loss's weight falls to its last value."""
    widening: Positive = 1.1
    """Full radius as a multiple of the threat's."""
    kappa_final: Share = 0.0
    """Final weight of the clean loss."""
    power_iterations: Count = 2
    """Power iterations of each layer's norm in each step, both for the images' own norms and for the network's."""
    stored: Whole = 0
    """Number of images whose own vectors are kept for their next visit; the authors keep the whole training set's.

    They are in half precision where the network is, 227 kB an image for 6C2F: 11 GB for CIFAR-10, in each rank and in
    each checkpoint. With 0, every visit starts from the network's vectors.
    """

    own: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    """Each image's own vectors, (stored, *shape), zeros before its first visit."""

    uses_local_norms: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("stored",)
    quick: ClassVar[dict[str, int]] = {"stored": 1000}

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        if step.epoch < self.warmup:
            return F.cross_entropy(wide(model(x)), y)
        share, layers = self.share(step.now), chain(model, x.shape[1:])
        eps = share * self.widening * self.threat.eps
        with exact(x.device):
            norms = self.norms(layers[:-1])
            inputs = regions(model, layers, x, eps, norms)
            logits = model.head(inputs[-1].mu)
            rho = last_ball(model, eps, [self._norm(part, step.index) for part in parts(layers, inputs)])
            worst = logits + over_both(model.head.weight, y, inputs[-1]._replace(rho=rho))
            return mixed(logits, worst, y, 1 - (1 - self.kappa_final) * share)

    def _norm(self, part: Part, index: Tensor) -> Tensor:
        """The layer's norm (B,) for each image, from the image's own vector if there is one."""
        name = part.layer.name
        first = self.vectors[name].expand_as(part.inner)
        if not self.stored:
            return local_estimate(part, first, self.power_iterations)[0]
        if name not in self.own:
            self.own[name] = first.new_zeros((self.stored, *part.layer.shape), dtype=torch.half)
        # Beyond the store, images share positions: another image's vector is as valid a start as any.
        place = index % self.stored
        kept = self.own[name].index_select(0, place).to(first.dtype)
        visited = kept.flatten(1).any(1).view(-1, *[1] * len(part.layer.shape))
        norm, v = local_estimate(part, torch.where(visited, kept, first), self.power_iterations)
        self.own[name].index_copy_(0, place, v.half())
        return norm

    def after(self, model: Classifier) -> None:
        for module in model.modules():
            if isinstance(module, ReLUTheta):
                module.project()

    def state(self) -> dict[str, Tensor]:
        return super().state() | {f"own.{name}": kept for name, kept in self.own.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.own = {name.removeprefix("own."): kept for name, kept in state.items() if name.startswith("own.")}
        super().restore({name: v for name, v in state.items() if not name.startswith("own.")})
