"""Counted work of tasks, in parts that are each done in one precision."""

from collections.abc import Callable
from typing import NamedTuple

from bench.build import cost
from bench.cell import Cell, Spec, Weights


class Workload(NamedTuple):
    """A part of a task's work, whatever of it is done."""

    counts: tuple[cost.Count, ...]
    """Counted, where they are not kept yet, before `operations` is called."""
    operations: Callable[[], float]
    """Floating-point operations, over all ranks."""
    precision: str
    rate: str = ""
    """`arch-Method` of training, whose speed epochs in the records tell; empty for other work."""


def training(cell: Cell, images: int) -> Workload:
    """Training steps of a cell on so many loaded images."""
    rate = f"{cell.arch}-{cell.method.name}"
    return Workload((cost.step(cell),), lambda: cost.step_flops(cell) * images, cell.recipe.precision, rate)


def forward_passes(network: Cell | Weights, passes: float) -> Workload:
    """Forward passes of one image each through a network, in float32."""
    return Workload((cost.forward(network),), lambda: passes * cost.forward_flops(network), "fp32")


def evaluation(cell: Cell, spec: Spec, images: float) -> Workload:
    """An evaluation of so many images."""
    return Workload(
        (cost.forward(cell), cost.judging(cell, spec)),
        lambda: images * cost.forwards(cell, spec) * cost.forward_flops(cell),
        spec.args.get("precision", "fp32"),
    )
