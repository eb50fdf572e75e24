"""Counted work of tasks, in parts that each run in one precision."""

from collections.abc import Callable
from typing import NamedTuple

from bench.build import cost
from bench.cell import Cell, Spec, Weights


class Workload(NamedTuple):
    """A part of a task's work, including what is done already."""

    counts: tuple[cost.Count, ...]
    """Counts that `operations` needs; they are run first if they are not cached."""
    operations: Callable[[], float]
    """Floating-point operations, over all ranks."""
    precision: str
    rate: str = ""
    """`arch-Method` of training, whose speed is known from recorded epochs; empty for other work."""


def training(cell: Cell, images: int) -> Workload:
    """Training of a cell on a number of loaded images."""
    rate = f"{cell.arch}-{cell.method.name}"
    return Workload((cost.step(cell),), lambda: cost.step_flops(cell) * images, cell.recipe.precision, rate)


def forward_passes(network: Cell | Weights, passes: float) -> Workload:
    """Forward passes of single images through a network, in float32."""
    return Workload((cost.forward(network),), lambda: passes * cost.forward_flops(network), "fp32")


def evaluation(cell: Cell, spec: Spec, images: float) -> Workload:
    """Evaluation of a number of images."""
    return Workload(
        (cost.forward(cell), cost.judging(cell, spec)),
        lambda: images * cost.forwards(cell, spec) * cost.forward_flops(cell),
        spec.args.get("precision", "fp32"),
    )
