"""Intervals (Gowal et al., 2018, https://arxiv.org/abs/1810.12715) and attacks within them, for restatements."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bench.plain_eager.base import Place, Restatement
from bench.plain_eager.chains import has_weights, layers, linear, per_channel, ramp, weights
from bench.plain_eager.perturbations import moved, start
from crt.models.classifier import Classifier
from crt.threat import Threat

__all__: list[str] = []


class Part(NamedTuple):
    """A layer; one with weights has those of the BatchNorm behind it multiplied in."""

    layer: nn.Module
    weight: Tensor
    bias: Tensor


class Images(NamedTuple):
    """A box of pixels with its centre and half of its width, or an l2 ball, whose half width is its radius."""

    centre: Tensor
    half: Tensor | float
    norm: str


def ball(x: Tensor, eps: float, norm: str) -> Images:
    """Images within `eps` of images `x` (B, C, H, W); a box ends at 0 and 1."""
    if norm == "l2":
        return Images(x, eps, norm)
    low, high = torch.clamp(x - eps, min=0), torch.clamp(x + eps, max=1)
    return Images((high + low) / 2, (high - low) / 2, norm)


def passed(model: Classifier, x: Tensor) -> tuple[list[Part], Tensor]:
    """Parts of the body, by the statistics of images `x` (B, C, H, W), and the logits of these images."""
    parts: list[Part] = []
    now, none = model.normalize(x), torch.empty(0)
    for layer in layers(model.body):
        if isinstance(layer, _BatchNorm):
            before = parts.pop()
            dims = [k for k in range(now.dim()) if k != 1]
            mean, centred = now.mean(dims), now - per_channel(now.mean(dims), now)
            scale = layer.weight / ((centred**2).mean(dims) + layer.eps).sqrt()
            weight = before.weight * scale.view(-1, *[1] * (before.weight.dim() - 1))
            parts.append(Part(before.layer, weight, (before.bias - mean) * scale + layer.bias))
        elif has_weights(layer):
            parts.append(Part(layer, weights(layer), layer.get_parameter("bias")))
        else:
            parts.append(Part(layer, none, none))
        now = layer(now)
    return parts, model.head(now)


def intervals(model: Classifier, parts: list[Part], images: Images) -> list[tuple[Tensor, Tensor]]:
    """Ends of the intervals of each part's inputs, and of the features, last."""
    std, first = model.normalize.std, images.norm == "l2"
    centre, half = model.normalize(images.centre), (images.half / std).expand_as(images.centre)
    squares, inputs = (1 / std**2).expand(1, *centre.shape[1:]), []
    for layer, weight, bias in parts:
        inputs.append((centre - half, centre + half))
        if has_weights(layer):
            # The first layer meets an l2 ball itself: an output changes by the radius times the length of its row.
            half = (
                images.half * linear(layer, squares, weight**2).sqrt() if first else linear(layer, half, weight.abs())
            )
            centre = linear(layer, centre, weight)
            centre, first = centre + per_channel(bias, centre), False
        elif isinstance(layer, nn.Flatten):
            centre, half, squares = layer(centre), layer(half), layer(squares)
        else:
            low, high = layer(centre - half), layer(centre + half)
            centre, half = (low + high) / 2, (high - low) / 2
    return [*inputs, (centre - half, centre + half)]


def others(y: Tensor, classes: int) -> Tensor:
    """All classes but the label's, (B, classes - 1)."""
    every = torch.arange(classes, device=y.device).expand(len(y), -1)
    return every[every != y[:, None]].view(len(y), classes - 1)


def rows(model: Classifier, y: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (B, classes - 1, width) and constants of the label's logit minus each other one."""
    weight, bias, rest = model.head.weight, model.head.bias, others(y, model.head.out_features)
    return weight[y][:, None] - weight[rest], bias[y][:, None] - bias[rest]


def interval_margins(model: Classifier, y: Tensor, features: tuple[Tensor, Tensor]) -> Tensor:
    """Lower bounds (B, classes - 1) of the label's logit minus each other one over intervals of the features."""
    (low, high), (slopes, constants) = features, rows(model, y)
    up, down = slopes.clamp(min=0), slopes.clamp(max=0)
    return (up * low[:, None] + down * high[:, None]).sum(2) + constants


def worst_losses(least: Tensor) -> Tensor:
    """Cross-entropy (B,) of logits whose margins are `least` (B, classes - 1): log(1 + sum exp(-margin))."""
    return torch.cat([torch.zeros_like(least[:, :1]), -least], 1).logsumexp(1)


def regularizers(parts: list[Part], inputs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Tightness of intervals before ReLUs and balance of their neurons, with tau 0.5.

    Shi et al., 2021 (https://arxiv.org/abs/2103.17268); layers without active or inactive neurons add a constant here.
    """
    total, count, first = torch.zeros_like(inputs[0][0].mean()), 0, (inputs[0][1] - inputs[0][0]).mean()
    for part, (low, high) in zip(parts, inputs, strict=False):
        if isinstance(part.layer, nn.ReLU):
            ratios, mean, count = [first / (high - low).mean().clamp(min=2e-12)], (low + high).mean() / 2, count + 1
            for power, middle in ((1, 0), (2, mean)):
                terms = ((low + high) / 2 - middle) ** power
                active, inactive = terms[low > 0].sum(), (-1) ** power * terms[high < 0].sum()
                if active > 0 and inactive > 0:
                    ratios.append(torch.min(active / inactive, inactive / active))
                else:
                    ratios.append(torch.zeros_like(mean))
            total = total + sum(F.relu(0.5 - ratio) / 0.5 for ratio in ratios)
    return total / count


class Attacked(Restatement):
    """Trains on adversarial images from the ball and on intervals around `x`, or near the adversarial images."""

    penalty: Tensor | float = 0.0
    """Regularizers of the last intervals."""

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h = self.settings
        if place.epoch < h.warmup:
            return F.cross_entropy(self.model(x), y) + h.l1 * self._l1()
        share = ramp(place.epoch, h.warmup, h.ramp)
        eps = share * self.threat.eps
        robust = self.robust(x, y, self._attack(x, y, h.widening * eps), eps)
        return robust + h.regularize * (1 - share) * self.penalty + h.l1 * self._l1()

    @abstractmethod
    def robust(self, x: Tensor, y: Tensor, adversarial: Tensor, eps: float) -> Tensor:
        """Scalar loss on images and adversarial images (B, C, H, W)."""

    def bounds(self, x: Tensor, y: Tensor, adversarial: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """Margins (B, classes - 1) of the adversarial images, and their least in intervals around `x`."""
        parts, logits = passed(self.model, adversarial)
        least = self.least(parts, ball(x, eps, self.threat.norm), y)
        return logits.gather(1, y[:, None]) - logits.gather(1, others(y, logits.shape[1])), least

    def least(self, parts: list[Part], images: Images, y: Tensor) -> Tensor:
        """Least margins (B, classes - 1) in intervals, which the loss also regularizes."""
        inputs = intervals(self.model, parts, images)
        self.penalty = regularizers(parts, inputs) if self.settings.regularize else 0.0
        return interval_margins(self.model, y, inputs[-1])

    def _attack(self, x: Tensor, y: Tensor, radius: float) -> Tensor:
        h = self.settings
        within = Threat(norm=self.threat.norm, eps=radius)
        self.model.eval()
        now = (x + start(x, within)).clamp(0, 1)
        best, most = now, torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        for _ in range(h.K):
            now = now.detach().requires_grad_()
            each = F.cross_entropy(self.model(now), y, reduction="none")
            (g,) = torch.autograd.grad(each.sum(), [now])
            best, most = _better(best, most, now.detach(), each.detach())
            now = (x + moved(now.detach() - x, g, h.step_size * radius, within)).clamp(0, 1)
        if h.K > 1:
            with torch.no_grad():
                now, _ = _better(best, most, now, F.cross_entropy(self.model(now), y, reduction="none"))
        self.model.train()
        return now

    def _l1(self) -> Tensor | float:
        if not self.settings.l1:
            return 0.0
        return torch.stack([weights(layer).abs().sum() for layer in self.model.modules() if has_weights(layer)]).sum()


def _better(best: Tensor, most: Tensor, now: Tensor, each: Tensor) -> tuple[Tensor, Tensor]:
    """Iterate of each image with the larger loss, and that loss."""
    higher = each > most
    return torch.where(higher.view(-1, 1, 1, 1), now, best), torch.where(higher, each, most)
