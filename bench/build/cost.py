"""Cost of a cell in counted operations. Counts are kept on disk, and torch is imported only where one is missing."""

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from bench.build.count_cache import Counts, kept, missing
from bench.cell import Cell, Spec, Weights
from bench.records import Cost
from crt.training.recipe import Recipe


class Work(NamedTuple):
    """Counted cost of training on one loaded image."""

    flops: float
    """Floating-point operations; a product and a sum are two."""
    traffic: float
    """Bytes that its operations read and write, were each done by itself."""


class Count(NamedTuple):
    """Something to count, once for all cells that share it."""

    label: str
    key: str
    run: Callable[[], Counts]

    def answer(self) -> Counts:
        return kept(self.key, self.run)


def plain(cell: Cell) -> Cell:
    """All that decides the operations of a training step: the networks, the method, its threat, a rank's batch.

    Steps of the optimizer, arithmetic, data and evaluations are left out: cells that differ in them are counted once.
    """
    recipe = Recipe(epochs=1, batch_size=max(1, cell.recipe.batch_size // cell.ranks), lr=1.0)
    return Cell(
        dataset=cell.dataset,
        pipeline=cell.pipeline,
        loader="torch",
        arch=cell.arch,
        method=Spec(name=cell.method.name, args=cell.method.args, label=cell.method.name, id=cell.method.name),
        threat=cell.threat,
        recipe=recipe,
        teacher=cell.teacher and _bare(cell.teacher),
    )


def _bare(cell: Cell | Weights) -> Weights:
    """A network without what it was trained to."""
    return Weights(dataset=cell.dataset, arch=cell.arch, pipeline=cell.pipeline, weights="", sha256="")


def step(cell: Cell) -> Count:
    """Operations and bytes of a training step, in float32, however the cell's arithmetic is done."""
    counted = plain(cell)

    def run() -> Counts:
        from bench.build.counter import count_step

        return Work(*count_step(counted))._asdict()

    return Count(f"{cell.arch} {cell.method.label}", _key("step", counted.model_dump(mode="json")), run)


def forward(cell: Cell | Weights) -> Count:
    """Operations of one forward pass."""
    counted = _bare(cell)

    def run() -> Counts:
        from bench.build.counter import count_forward

        return {"flops": count_forward(counted)}

    return Count(f"{cell.arch} forward pass", _key("forward", counted.model_dump(mode="json")), run)


def passes(cell: Cell) -> Count:
    """Passes through the networks on one loaded batch; see `bench.build.passes`.

    The networks and their images have no part in it, so that small ones are taken.
    """
    spans = Recipe(epochs=cell.recipe.epochs, batch_size=1, lr=1.0)
    small = {"dataset": "cifar10", "pipeline": "crt", "arch": "cnn2c2f"}
    counted = plain(cell.model_copy(update=small)).model_copy(update={"recipe": spans})
    counted = counted.model_copy(update={"teacher": counted.teacher and counted.teacher.model_copy(update=small)})

    def run() -> Counts:
        from dataclasses import asdict

        from bench.build.passes import count

        return asdict(count(counted))

    return Count(f"{cell.method.label} passes", _key("passes", counted.model_dump(mode="json")), run)


def judging(cell: Cell, spec: Spec) -> Count:
    """Forward passes of an evaluation."""

    def run() -> Counts:
        from bench.build.networks import evaluation

        return {"forwards": evaluation(cell, spec).forwards}

    return Count(spec.label, _key("forwards", [spec.name, spec.args, cell.threat.model_dump(mode="json")]), run)


def _key(kind: str, counted: Any) -> str:
    return json.dumps([kind, counted], sort_keys=True)


def work(cell: Cell) -> Work:
    """Counted at the step's batch in float32, however the cell's arithmetic is done."""
    return Work(**step(cell).answer())


def training_cost(cells: Iterable[Cell]) -> Cost:
    """The counted cost of training each of the cells."""
    cells = list(cells)
    return Cost(
        flops={cell.id: work(cell).flops for cell in cells},
        traffic={cell.id: work(cell).traffic for cell in cells},
        passes={cell.id: passes(cell).answer() for cell in cells},
    )


def step_flops(cell: Cell) -> float:
    """Counted floating-point operations of training on one loaded image."""
    return work(cell).flops


def forward_flops(cell: Cell | Weights) -> float:
    """Counted floating-point operations of judging one image once."""
    return forward(cell).answer()["flops"]


def forwards(cell: Cell, spec: Spec) -> int:
    """Forward passes that an evaluation takes at most to judge an image of the cell's network."""
    return judging(cell, spec).answer()["forwards"]


def prepare(counts: Iterable[Count]) -> None:
    """Count what is not kept yet, each thing once, with a bar on stderr or, where that is no terminal, one line."""
    left = list({count.key: count for count in counts if missing(count.key)}.values())
    if not left:
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from crt import screen

    if not sys.stderr.isatty():
        print(f"counting operations, which are kept for next time: {len(left)} counts", file=sys.stderr)
    words = TextColumn("counting operations {task.completed}/{task.total}: {task.description}", markup=False)
    shown = Progress(words, BarColumn(), TimeRemainingColumn(), console=screen.errors())
    with shown:
        task = shown.add_task("", total=len(left))
        for number, count in enumerate(left):
            shown.update(task, completed=number, description=count.label)
            count.answer()
