"""Duet: BCP that rotates each layer's inputs like a standard teacher (the Duet paper, algorithm 1 and section 4)."""

from dataclasses import field
from functools import cached_property
from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from crt.attacks.common import divergence
from crt.lipschitz.boxes import regions
from crt.lipschitz.chain import AFFINE, Layer, chain, exact, multiply
from crt.lipschitz.equation11 import eq11
from crt.lipschitz.leading import by_pairs, follow_blocks
from crt.lipschitz.rotations import Guide, cosine, from_frame, guide, polar, rank_one, to_frame
from crt.lipschitz.same_layers import alike, begin_over_norms
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

    similarity: Literal["eq11", "relative", "cosine", "logits"] = "eq11"
    """Loss on rotated inputs: equation 11 over the teacher's length, that without its ratio of norms, or 1 - cosine.

    With `logits` there is none, but the divergence of the student's softmax from the teacher's: BCP with distillation.
    """
    lbd: NonNegative = 0.1
    """Weight of the similarity loss, a mean over images and a sum over layers; the paper gives no value."""
    rotation: Literal["normalized", "polar", "rank_one", "block"] = "normalized"
    """Student's rotation: weights over their norm (algorithm 1) or their polar factor; or leading pairs of both.

    These are one pair of each layer, or a block of `directions`, 8 by default.
    """
    rank: Share = 0.5
    """Share of the teacher's singular directions that is compared."""
    directions: Count | None = None
    """Number of singular directions that is compared, in place of their share."""
    project: bool = True
    """Compare only in those directions of the teacher's outputs; the student is free in the others."""
    scaled: bool = True
    """Scale polar factors to an operator norm of 1 at the layer's input size; otherwise their singular values are 1."""
    inputs: Literal["own", "shared"] = "own"
    """Each network rotates its own layer inputs, or both rotate the student's."""
    layers: Literal["all", "body", "convs"] = "all"
    """Layers that are compared: all, all but the head, or convolutions."""
    start: Literal["own", "teacher"] = "own"
    """Student's first weights: its own, or those of the teacher's layers over their norms (`begin_over_norms`)."""
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
    blocks: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    """Vectors of the block power iterations for the student's leading pairs, where these are compared."""
    guides: dict[str, Guide] = field(default_factory=dict, init=False, repr=False)
    """The teacher's rotations, computed before the first step."""
    begun: bool = field(default=False, init=False, repr=False)
    """True once the student has its first weights."""

    needs_teacher: ClassVar[bool] = True
    named: ClassVar[tuple[str, ...]] = ("similarity", "rotation")
    unsaid: ClassVar[frozenset[str]] = frozenset({"directions", "start"})

    @model_validator(mode="after")
    def _teacher_runs(self) -> "Duet":
        if self.similarity == "logits" and self.inputs == "shared":
            raise ValueError("similarity: logits with inputs: shared, which runs no teacher (allowed: inputs: own)")
        return self

    @cached_property
    def folded(self) -> Classifier:
        """The teacher without BatchNorm."""
        return plain(self.required_teacher)

    def fits(self, model: Classifier) -> None:
        """Raise ValueError where a layer has no bound or the teacher's layers have other shapes."""
        alike(model, self.folded)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, step: Step) -> Tensor:
        self.begin(model, x.shape[1:])
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
            if self.similarity == "logits":
                return goal + self.lbd * divergence(teacher_flow()[-1].softmax(1), flow[-1]).mean()
            mine = self._compared(layers, flow)
            others = self._compared(theirs, teacher_flow() if self.inputs == "own" else flow)
            self._follow_pairs(layers, theirs)
            return goal + self.lbd * self._apart(mine, others, norms)

    def begin(self, model: Classifier, shape: tuple[int, ...]) -> None:
        """Give the student its first weights, once, for images of a shape (C, H, W)."""
        if self.start == "teacher" and not self.begun:
            begin_over_norms(model, self.folded, shape)
        self.begun = True

    @torch.no_grad()
    def _follow_pairs(self, layers: tuple[Layer, ...], theirs: tuple[Layer, ...]) -> None:
        """Take power iterations for the leading pairs that are compared, in place."""
        if self.rotation == "rank_one":
            followed(theirs, self.pairs, self.power_iterations)
        elif self.rotation == "block":
            for chained, vectors in ((theirs, self.pairs), (layers, self.blocks)):
                follow_blocks(chained, vectors, self.directions or 8, self.power_iterations)

    def _apart(self, mine: list[LayerFlow], others: list[LayerFlow], norms: dict[str, Tensor]) -> Tensor | float:
        """Sum over layers of the distance between the student's and the teacher's rotations, a mean over images."""
        found = []
        for (layer, inputs, out), (teacher_layer, teacher_inputs, _) in zip(mine, others, strict=True):
            if layer.name not in self.guides:
                self.guides[layer.name] = guide(teacher_layer, self.rank, self.directions)
            of = self.guides[layer.name]
            turned = self._turned(of, layer, inputs, out, teacher_layer, teacher_inputs.detach())
            found.append((*turned, norms[layer.name], of.norm))
        return self._measured(*map(list, zip(*found, strict=True))) if found else 0.0

    def _measured(
        self, teachers: list[Tensor], students: list[Tensor], norms: list[Tensor], teacher_norms: list[Tensor]
    ) -> Tensor:
        """Sum over layers of the distance of rotated inputs, a mean over images, for networks with these norms."""
        if self.similarity == "cosine":
            return torch.stack([cosine(*pair).mean() for pair in zip(teachers, students, strict=True)]).sum()
        own = torch.stack(norms)
        ratios = torch.ones_like(own) if self.similarity == "relative" else own / torch.stack(teacher_norms)
        ratios = ratios if self.through_norms else ratios.detach()
        # Algorithm 1 rotates by the student's weights over their norm.
        scales = 1 / (ratios * own if self.rotation == "normalized" else ratios)
        return eq11(teachers, students, ratios, scales).mean(1).sum()

    def _turned(
        self,
        of: Guide,
        layer: Layer,
        inputs: Tensor,
        out: Tensor,
        teacher_layer: Layer,
        teacher_inputs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """`teacher_inputs` rotated by the teacher's layer, and `inputs` by the student's, whose output is `out`.

        With `rotation: normalized`, the student's are not divided by its norm.
        """
        if self.rotation == "rank_one":
            with torch.no_grad():
                teachers = rank_one(teacher_layer, self.pairs[teacher_layer.name], teacher_inputs)
            return teachers, rank_one(layer, self.vectors[layer.name], inputs)
        if self.rotation == "block":
            with torch.no_grad():
                teachers = by_pairs(teacher_layer, self.pairs[teacher_layer.name], teacher_inputs)
            return teachers, by_pairs(layer, self.blocks[layer.name], inputs)
        if self.rotation == "polar":
            factor = polar(layer.affine.weight)
            students = multiply(layer.affine, inputs, factor / of.length if self.scaled else factor)
        else:
            bias = layer.affine.bias
            students = out if bias is None else out - bias.view(-1, *[1] * (out.dim() - 2))
        basis = of.basis if self.scaled else of.basis * of.length
        teachers = multiply(layer.affine, teacher_inputs, basis)
        return (teachers, to_frame(of, students)) if self.project else (from_frame(of, teachers), students)

    def _compared(self, layers: tuple[Layer, ...], flow: list[Tensor]) -> list[LayerFlow]:
        """Layers that are compared, each with its input and output."""
        kinds = nn.Conv2d if self.layers == "convs" else AFFINE
        chosen = layers[:-1] if self.layers == "body" else layers
        return [at for at in zip(chosen, flow, flow[1:], strict=False) if isinstance(at[0].module, kinds)]

    def state(self) -> dict[str, Tensor]:
        pairs = {f"teacher.{name}": v for name, v in self.pairs.items()}
        return super().state() | pairs | {f"block.{name}": v for name, v in self.blocks.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.begun, rest = bool(state), dict(state)
        for prefix, vectors in (("teacher.", self.pairs), ("block.", self.blocks)):
            vectors.clear()
            for name in [name for name in state if name.startswith(prefix)]:
                vectors[name.removeprefix(prefix)] = rest.pop(name).clone()
        super().restore(rest)


def _flow(layers: tuple[Layer, ...], x: Tensor) -> list[Tensor]:
    """Input of each layer, and output of the last."""
    flow = [x]
    for layer in layers:
        flow.append(layer.module(flow[-1]))
    return flow
