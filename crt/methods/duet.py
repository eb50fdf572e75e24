"""Duet: BCP that rotates each layer's inputs like a standard teacher (the Duet paper, algorithm 1 and section 4)."""

from dataclasses import field
from functools import cached_property
from itertools import zip_longest
from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from crt.lipschitz.boxes import regions
from crt.lipschitz.chain import AFFINE, Layer, chain, check, exact, multiply
from crt.lipschitz.rotations import Guide, cosine, eq11, from_frame, guide, polar, rank_one, to_frame
from crt.lipschitz.training import Normed, followed, mixed
from crt.lipschitz.translation import over_both
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import plain
from crt.quantity import Count, NonNegative, Positive, Share
from crt.training.method import STRICT, Step

__all__ = ["Duet"]

LayerFlow = tuple[Layer, Tensor, Tensor]
"""A layer with its input and its output."""


@dataclass(kw_only=True, config=STRICT)
class Duet(Normed):
    """BCP plus the distance of the layers' rotations from those of a teacher with the same architecture.

    A teacher's rotation is the leading part of its weights' polar factor, computed once with BatchNorm folded into the
    weights.
    """

    similarity: Literal["eq11", "relative", "cosine"] = "eq11"
    """Loss on rotated inputs: equation 11 over the teacher's length, that without its ratio of norms, or 1 - cosine."""
    lbd: NonNegative = 0.1
    """Weight of the similarity loss, a mean over images and a sum over layers; the paper gives no value."""
    rotation: Literal["normalized", "polar", "rank_one"] = "normalized"
    """Student's rotation: weights over their norm (algorithm 1) or their polar factor; or leading pairs of both."""
    rank: Share = 0.5
    """Share of the teacher's singular directions that is compared."""
    project: bool = True
    """Compare only in those directions of the teacher's outputs; the student is free in the others."""
    scaled: bool = True
    """Scale polar factors to an operator norm of 1 at the layer's input size; otherwise their singular values are 1."""
    inputs: Literal["own", "shared"] = "own"
    """Each network rotates its own layer inputs, or both rotate the student's."""
    layers: Literal["all", "convs"] = "all"
    """Layers that are compared."""
    through_norms: bool = False
    """Let the ratio of norms in equation 11 have a gradient for the student's norms."""
    warmup: NonNegative = 10
    """Epochs of cross-entropy and similarity alone."""
    ramp: Positive = 121
    """Epochs over which the radius then rises to the threat's, and the clean loss's weight falls to its final value."""
    kappa_final: Share = 0.0
    """Final weight of the clean loss."""
    power_iterations: Count = 1
    """Power iterations of each layer's norm in each step."""

    pairs: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    """Vectors of the power iterations for the teacher's leading pairs, where these are compared."""
    guides: dict[str, Guide] = field(default_factory=dict, init=False, repr=False)
    """The teacher's rotations, computed before the first step."""

    needs_teacher: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("similarity", "rotation")

    @cached_property
    def folded(self) -> Classifier:
        """The teacher without BatchNorm."""
        return plain(self.required_teacher)

    def fits(self, model: Classifier) -> None:
        """Raise ValueError where a layer has no bound or the teacher's layers have other shapes."""
        alike(model, self.folded)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        share, layers, theirs = self.share(step.now), chain(model, x.shape[1:]), chain(self.folded, x.shape[1:])
        with exact(x.device):
            norms = self.norms(layers)
            if self.inputs == "own":
                teacher_flow = self.run_teacher(lambda: _flow(theirs, self.folded.normalize(x)))
            if step.epoch < self.warmup:
                flow = _flow(layers, model.normalize(x))
                goal = F.cross_entropy(flow[-1], y)
            else:
                balls = regions(model, layers, x, share * self.threat.eps, norms)
                flow = [region.mu for region in balls] + [model.head(balls[-1].mu)]
                worst = flow[-1] + over_both(model.head.weight, y, balls[-1])
                goal = mixed(flow[-1], worst, y, 1 - (1 - self.kappa_final) * share)
            mine = self._compared(layers, flow)
            others = self._compared(theirs, teacher_flow() if self.inputs == "own" else flow)
            if self.rotation == "rank_one":
                with torch.no_grad():
                    followed(theirs, self.pairs, self.power_iterations)
            return goal + self.lbd * self._apart(mine, others, norms)

    def _apart(self, mine: list[LayerFlow], others: list[LayerFlow], norms: dict[str, Tensor]) -> Tensor | float:
        """Sum over layers of the distance between the student's and the teacher's rotations, a mean over images."""
        total: Tensor | float = 0.0
        for (layer, inputs, out), (teacher_layer, teacher_inputs, _) in zip(mine, others, strict=True):
            if layer.name not in self.guides:
                self.guides[layer.name] = guide(teacher_layer, self.rank)
            of = self.guides[layer.name]
            teachers, students = self._turned(
                of, layer, inputs, out, norms[layer.name], teacher_layer, teacher_inputs.detach()
            )
            total = total + self._measured(teachers, students, norms[layer.name] / of.norm).mean()
        return total

    def _measured(self, teachers: Tensor, students: Tensor, ratio: Tensor) -> Tensor:
        """Distance (B,) of rotated inputs, for networks whose norms have this ratio."""
        match self.similarity:
            case "cosine":
                return cosine(teachers, students)
            case "relative":
                return eq11(teachers, students, torch.ones_like(ratio))
        return eq11(teachers, students, ratio if self.through_norms else ratio.detach())

    def _turned(
        self,
        of: Guide,
        layer: Layer,
        inputs: Tensor,
        out: Tensor,
        norm: Tensor,
        teacher_layer: Layer,
        teacher_inputs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """`teacher_inputs` rotated by the teacher's layer, and `inputs` by the student's, whose output is `out`."""
        if self.rotation == "rank_one":
            with torch.no_grad():
                teachers = rank_one(teacher_layer, self.pairs[teacher_layer.name], teacher_inputs)
            return teachers, rank_one(layer, self.vectors[layer.name], inputs)
        length = 1 if self.scaled else of.length
        if self.rotation == "polar":
            students = multiply(layer.affine, inputs, polar(layer.affine.weight) * (length / of.length))
        else:
            bias = layer.affine.bias
            students = (out if bias is None else out - bias.view(-1, *[1] * (out.dim() - 2))) / norm
        teachers = multiply(layer.affine, teacher_inputs, of.basis * length)
        return (teachers, to_frame(of, students)) if self.project else (from_frame(of, teachers), students)

    def _compared(self, layers: tuple[Layer, ...], flow: list[Tensor]) -> list[LayerFlow]:
        """Layers that are compared, each with its input and output."""
        kinds = AFFINE if self.layers == "all" else nn.Conv2d
        return [at for at in zip(layers, flow, flow[1:], strict=False) if isinstance(at[0].module, kinds)]

    def state(self) -> dict[str, Tensor]:
        return super().state() | {f"teacher.{name}": v for name, v in self.pairs.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.pairs = {
            name.removeprefix("teacher."): v.clone() for name, v in state.items() if name.startswith("teacher.")
        }
        super().restore({name: v for name, v in state.items() if not name.startswith("teacher.")})


def alike(model: Classifier, teacher: Classifier) -> None:
    """Raise ValueError where networks without BatchNorm have a layer without a bound, or layers of other shapes."""
    check(model)
    check(teacher)
    for mine, taught in zip_longest(_shapes(model), _shapes(teacher), fillvalue="no layer"):
        if mine != taught:
            raise ValueError(f"the teacher has {taught} where the network has {mine} (allowed: the same layers)")


def _flow(layers: tuple[Layer, ...], x: Tensor) -> list[Tensor]:
    """Input of each layer, and output of the last."""
    flow = [x]
    for layer in layers:
        flow.append(layer.module(flow[-1]))
    return flow


def _shapes(model: Classifier) -> list[str]:
    layers = [module for module in model.modules() if isinstance(module, AFFINE)]
    return [f"{'Conv2d' if isinstance(layer, nn.Conv2d) else 'Linear'}({layer.extra_repr()})" for layer in layers]
