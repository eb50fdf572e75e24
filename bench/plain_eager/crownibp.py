"""CROWN-IBP in l2 balls (Zhang et al., 2020, https://arxiv.org/abs/1906.06316, section 3)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.plain_eager.base import Place, Restatement
from bench.plain_eager.chains import adjoint, has_weights, layers, linear, ramp, weights

__all__ = ["CROWNIBP"]

Box = tuple[Tensor, Tensor]


class CROWNIBP(Restatement):
    """Intervals forwards, and one linear bound of every margin backwards.

    The clean forward pass and the margins of intervals are computed whatever their weights, as in the authors' code.
    """

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h = self.settings
        clean = F.cross_entropy(self.model(x), y)
        if place.epoch < h.warmup:
            return clean
        share = ramp(place.epoch, h.warmup, h.ramp)
        least = self._margins(x, y, share * self.threat.eps, 1 - (1 - h.beta_final) * share)
        robust = F.cross_entropy(-least, y)
        if h.kappa_final is None:
            return robust
        kappa = 1 - (1 - h.kappa_final) * share
        return kappa * clean + (1 - kappa) * robust

    def _margins(self, x: Tensor, y: Tensor, eps: float, beta: float) -> Tensor:
        """Lower bounds (B, classes) of the margins of `y`, 0 for `y` itself."""
        head, classes = self.model.head, self.model.head.out_features
        inputs, (low, high) = self._intervals(x, eps)
        every = torch.eye(classes, dtype=x.dtype, device=x.device)
        others = torch.stack([torch.cat([torch.arange(k), torch.arange(k + 1, classes)]) for k in range(classes)])
        others = others.to(y.device)[y]
        # One row for each margin: the label's unit vector minus another one.
        rows = every[y][:, None] - every[others]
        slopes, constants = rows @ head.weight, rows @ head.bias
        centre, half = ((low + high) / 2)[:, None], ((high - low) / 2)[:, None]
        bounds = (slopes * centre).sum(2) - (slopes.abs() * half).sum(2) + constants
        if beta >= 1e-5:
            bounds = beta * self._backward(x, eps, inputs, slopes, constants) + (1 - beta) * bounds
        return torch.zeros((len(x), classes), dtype=x.dtype, device=x.device).scatter(1, others, bounds)

    def _intervals(self, x: Tensor, eps: float) -> tuple[list[Box], Box]:
        """Interval of each layer's input, and of the features.

        The first layer meets the ball itself: an output changes by eps times the length of its row.
        """
        centre, half = self.model.normalize(x), (eps / self.model.normalize.std).expand_as(x)
        inputs, squares = [], (1 / self.model.normalize.std**2).expand(1, *x.shape[1:])
        first = True
        for layer in layers(self.model.body):
            inputs.append((centre - half, centre + half))
            if has_weights(layer):
                weight = weights(layer)
                half = eps * linear(layer, squares, weight**2).sqrt() if first else linear(layer, half, weight.abs())
                centre, first = layer(centre), False
            elif isinstance(layer, nn.ReLU):
                low, high = layer(centre - half), layer(centre + half)
                centre, half = (low + high) / 2, (high - low) / 2
            else:
                centre, half, squares = layer(centre), layer(half), layer(squares) if first else squares
        return inputs, (centre - half, centre + half)

    def _backward(self, x: Tensor, eps: float, inputs: list[Box], slopes: Tensor, constants: Tensor) -> Tensor:
        """Lower bounds (B, rows) of `slopes` times the features plus `constants`, by lines through each ReLU."""
        rows = slopes.shape[:2]
        for layer, (low, high) in reversed(list(zip(layers(self.model.body), inputs, strict=True))):
            if has_weights(layer):
                bias = layer.get_parameter("bias")
                along = slopes.flatten(3).sum(3) if slopes.dim() > 3 else slopes
                constants = constants + along @ bias
                slopes = adjoint(layer, slopes.flatten(0, 1), weights(layer), low.shape[1:]).unflatten(0, rows)
            elif isinstance(layer, nn.ReLU):
                below, above = low.clamp(max=0), high.clamp(min=0)
                upper = (above / (above - below).clamp(min=torch.finfo(x.dtype).tiny))[:, None]
                lower = (upper > 0.5).to(x.dtype)
                negative, positive = slopes.clamp(max=0), slopes.clamp(min=0)
                constants = constants - (negative * upper * below[:, None]).flatten(2).sum(2)
                slopes = positive * lower + negative * upper
            else:
                slopes = slopes.view(*rows, *low.shape[1:])
        slopes = slopes / self.model.normalize.std
        image = (x - self.model.normalize.mean)[:, None]
        return (slopes * image).flatten(2).sum(2) + constants - eps * slopes.flatten(2).norm(dim=2)
