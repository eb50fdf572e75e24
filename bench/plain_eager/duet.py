"""Duet: BCP that rotates each layer's inputs like a standard teacher (the Duet paper, algorithm 1, equations 9 to 11).

There is no public code. The teacher's rotations are computed once, as the text says.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.plain_eager.base import Place, kl
from bench.plain_eager.boxes import propagate, translation
from bench.plain_eager.chains import (
    BlockIterations,
    Bounded,
    PowerIterations,
    has_weights,
    layers,
    linear,
    per_channel,
    ramp,
    weights,
)
from bench.plain_eager.rotations import Rotation, block, largest, polar, rank_one, rotation
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import plain

__all__ = ["Duet"]


class Flow(NamedTuple):
    """A layer with its position, its input and its output."""

    position: int
    layer: nn.Module
    inputs: Tensor
    outputs: Tensor


class Duet(Bounded):
    """BCP's step, the teacher's forward pass and the distances of both networks' rotated inputs."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.pairs = PowerIterations(self.settings.power_iterations)
        """The teacher's leading pairs, which `rotation: rank_one` compares."""
        size = self.settings.directions or 8
        self.blocks = [BlockIterations(self.settings.power_iterations, size) for _ in range(2)]
        """The teacher's and the student's leading pairs, which `rotation: block` compares."""
        self.begun = False
        self.plain_teacher = plain(self.teacher)
        self.rotations: dict[int, Rotation] = {}

    def loss(self, x: Tensor, y: Tensor, place: Place) -> Tensor:
        h, head = self.settings, self.model.head
        with torch.no_grad():
            theirs = flow(self.plain_teacher, x)
            self.begin(theirs)
        if place.epoch < h.warmup:
            mine = flow(self.model, x)
            goal = F.cross_entropy(mine[-1].outputs, y)
            norms = [self._norm(step) for step in mine]
        else:
            share = ramp(place.epoch, h.warmup, h.ramp)
            passed = propagate(self.model, x, share * self.threat.eps, self.norms)
            region = passed[-1].after
            logits = head(region.mu)
            mine = [Flow(k, at.layer, at.before.mu, at.after.mu) for k, at in enumerate(passed)]
            mine.append(Flow(len(passed), head, region.mu, logits))
            norms = [*(at.norm for at in passed), self._norm(mine[-1])]
            kappa = 1 - (1 - h.kappa_final) * share
            worst = logits + translation(head, y, region)
            goal = kappa * F.cross_entropy(logits, y) + (1 - kappa) * F.cross_entropy(worst, y)
        if h.similarity == "logits":
            return goal + h.lbd * kl(theirs[-1].outputs.softmax(1), mine[-1].outputs).mean()
        return goal + h.lbd * self._similarity(mine, theirs, norms)

    @torch.no_grad()
    def begin(self, theirs: list[Flow]) -> None:
        """Give the student the teacher's weights over their norms, once, if it begins so."""
        if self.begun or self.settings.start == "own":
            return
        self.begun, product = True, 1.0
        for mine, teacher in zip([*layers(self.model.body), self.model.head], theirs, strict=True):
            if has_weights(mine):
                weight = weights(teacher.layer)
                norm = float(largest(teacher.layer, weight, teacher.inputs.shape[1:]))
                product *= norm
                weights(mine).copy_(weight / norm)
                mine.get_parameter("bias").copy_(teacher.layer.get_parameter("bias") / product)

    def _norm(self, step: Flow) -> Tensor | None:
        """Norm of a layer with weights."""
        if not has_weights(step.layer):
            return None
        return self.norms.norm(step.position, step.layer, step.inputs.shape[1:])

    def _similarity(self, mine: list[Flow], theirs: list[Flow], norms: list[Tensor | None]) -> Tensor:
        """Sum over the layers of the distances of rotated inputs, a mean over images."""
        h, terms = self.settings, []
        for student, teacher, norm in zip(mine, theirs, norms, strict=True):
            if norm is None or (h.layers == "convs" and not isinstance(student.layer, nn.Conv2d)):
                continue
            if h.layers == "body" and student.layer is self.model.head:
                continue
            if student.position not in self.rotations:
                self.rotations[student.position] = rotation(
                    teacher.layer, teacher.inputs.shape[1:], h.rank, h.directions
                )
            turn = self.rotations[student.position]
            inputs = teacher.inputs if h.inputs == "own" else student.inputs.detach()
            first, second = self._turned(student, teacher.layer, inputs, norm, turn)
            terms.append(self._distance(first.flatten(1), second.flatten(1), norm / turn.norm).mean())
        return torch.stack(terms).sum()

    def _turned(
        self, student: Flow, teacher: nn.Module, inputs: Tensor, norm: Tensor, turn: Rotation
    ) -> tuple[Tensor, Tensor]:
        """The teacher's inputs as it rotates them, and the student's as the student does."""
        h, layer = self.settings, student.layer
        if h.rotation == "rank_one":
            with torch.no_grad():
                self.pairs.norm(student.position, teacher, inputs.shape[1:])
                first = rank_one(teacher, self.pairs.vectors[student.position], inputs)
            return first, rank_one(layer, self.norms.vectors[student.position], student.inputs)
        if h.rotation == "block":
            with torch.no_grad():
                basis = self.blocks[0].basis(student.position, teacher, inputs.shape[1:])
                first = block(teacher, basis, inputs)
            basis = self.blocks[1].basis(student.position, layer, inputs.shape[1:])
            return first, block(layer, basis, student.inputs)
        first = linear(teacher, inputs, turn.weight / turn.length if h.scaled else turn.weight)
        if h.rotation == "polar":
            factor = polar(weights(layer))
            second = linear(layer, student.inputs, factor / turn.length if h.scaled else factor)
        else:
            # Algorithm 1, line 9: the weights over their norm, whose products the forward pass has computed.
            second = (student.outputs - per_channel(layer.get_parameter("bias"), student.outputs)) / norm
        if h.project:
            second = torch.einsum("ik,jk,bj...->bi...", turn.frame, turn.frame, second)
        return first, second

    def _distance(self, teacher: Tensor, student: Tensor, ratio: Tensor) -> Tensor:
        """Distance (B,) of rotated inputs (B, n): equation 11 over the teacher's length, or one of its variants."""
        h = self.settings
        if h.similarity == "cosine":
            return 1 - F.cosine_similarity(teacher, student)
        if h.similarity == "relative":
            ratio = torch.ones_like(ratio)
        elif not h.through_norms:
            ratio = ratio.detach()
        size = teacher.norm(dim=1).detach()
        distance = (ratio * teacher - student / ratio).norm(dim=1)
        return torch.where(size > 0, distance / torch.where(size > 0, size, 1), 0)


def flow(network: Classifier, x: Tensor) -> list[Flow]:
    """The layers of a network, the head included, with what passes through them."""
    steps, now = [], network.normalize(x)
    for position, layer in enumerate([*layers(network.body), network.head]):
        steps.append(Flow(position, layer, now, layer(now)))
        now = steps[-1].outputs
    return steps
