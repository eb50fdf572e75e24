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
from crt.lipschitz.local import Part, iterated, last_ball, local_product, parts
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
            rho = last_ball(model, eps, self._product(parts(layers, inputs), step.index))
            worst = logits + over_both(model.head.weight, y, inputs[-1]._replace(rho=rho))
            return mixed(logits, worst, y, 1 - (1 - self.kappa_final) * share)

    def _product(self, varying: tuple[Part, ...], index: Tensor) -> Tensor:
        """Product (B,) of the layers' norms for each image, from the image's own vectors if there are any."""
        place = index % self.stored if self.stored else index
        vectors = [self._first(part, place) for part in varying]
        vectors = iterated(varying, vectors, self.power_iterations)
        if self.stored:
            for part, v in zip(varying, vectors, strict=True):
                self.own[part.layer.name].index_copy_(0, place, v.half())
        return local_product(varying, vectors)

    def _first(self, part: Part, place: Tensor) -> Tensor:
        """Vectors with which the iterations begin: those of images with these places, or the network's."""
        name = part.layer.name
        first = self.vectors[name].expand_as(part.inner)
        if not self.stored:
            return first
        if name not in self.own:
            self.own[name] = first.new_zeros((self.stored, *part.layer.shape), dtype=torch.half)
        # Beyond the store, images share positions: another image's vector is as valid a start as any.
        kept = self.own[name].index_select(0, place).to(first.dtype)
        visited = kept.flatten(1).any(1).view(-1, *[1] * len(part.layer.shape))
        return torch.where(visited, kept, first)

    def after(self, model: Classifier) -> None:
        for module in model.modules():
            if isinstance(module, ReLUTheta):
                module.project()

    def state(self) -> dict[str, Tensor]:
        return super().state() | {f"own.{name}": kept for name, kept in self.own.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.own = {name.removeprefix("own."): kept for name, kept in state.items() if name.startswith("own.")}
        super().restore({name: v for name, v in state.items() if not name.startswith("own.")})
