"""Cost of a cell in counted operations. Counts are cached on disk; torch is imported only if one is missing."""

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
    """Floating-point operations; a multiplication and an addition count as two."""
    traffic: float
    """Bytes read and written if every operation runs on its own."""


class Count(NamedTuple):
    """A quantity to count, once for all cells that share it."""

    label: str
    key: str
    run: Callable[[], Counts]

    def answer(self) -> Counts:
        return kept(self.key, self.run)


def plain(cell: Cell) -> Cell:
    """The cell reduced to what decides the operations of a training step: networks, method, threat, a rank's batch.

    An average of the weights is kept, for it moves bytes. Optimizer, arithmetic, data and evaluations are left out, so
    that cells which differ only in them share a count.
    """
    batch = max(1, cell.recipe.batch_size // cell.ranks)
    recipe = Recipe(epochs=1, batch_size=batch, lr=1.0, average=cell.recipe.average)
    return Cell(
        dataset=cell.dataset,
        folder=cell.folder,
        pipeline=cell.pipeline,
        loader="torch",
        arch=cell.arch,
        method=Spec(name=cell.method.name, args=cell.method.args, label=cell.method.name, id=cell.method.name),
        threat=cell.threat,
        recipe=recipe,
        teacher=cell.teacher and _bare(cell.teacher),
    )


def _bare(cell: Cell | Weights) -> Weights:
    """A network without the weights that it was trained to."""
    return Weights(
        dataset=cell.dataset, folder=cell.folder, arch=cell.arch, pipeline=cell.pipeline, weights="", sha256=""
    )


def step(cell: Cell) -> Count:
    """Operations and bytes of a training step in float32, whatever the precision of the recipe."""
    counted = plain(cell)

    def run() -> Counts:
        from bench.build.counter import count_step

        return Work(*count_step(counted))._asdict()

    return Count(f"{cell.arch} {cell.method.label}", _key("step", counted.model_dump(mode="json")), run)


def early_steps(cell: Cell) -> dict[float, Count]:
    """Operations of a training step in each phase before the last, by the first epoch of the phase."""
    counted, starts = plain(cell), sorted({0.0, *map(float, cell.build_method().phase_boundaries)})

    def count(epoch: float) -> Count:
        def run() -> Counts:
            from bench.build.counter import count_step

            return {"flops": count_step(counted, epoch)[0]}

        key = _key("step at", [epoch, counted.model_dump(mode="json")])
        return Count(f"{cell.arch} {cell.method.label} from epoch {epoch:g}", key, run)

    return {epoch: count(epoch) for epoch in starts[:-1]}


def forward(cell: Cell | Weights) -> Count:
    """Operations of one forward pass."""
    counted = _bare(cell)

    def run() -> Counts:
        from bench.build.counter import count_forward

        return {"flops": count_forward(counted)}

    return Count(f"{cell.arch} forward pass", _key("forward", counted.model_dump(mode="json")), run)


def passes(cell: Cell) -> Count:
    """Passes through the networks on one loaded batch; see `bench.build.passes`.

    The count depends on neither architecture nor dataset, so that small ones are used.
    """
    epochs = Recipe(epochs=cell.recipe.epochs, batch_size=1, lr=1.0)
    small = {"dataset": "cifar10", "folder": None, "pipeline": "crt", "arch": "cnn2c2f"}
    counted = plain(cell.model_copy(update=small)).model_copy(update={"recipe": epochs})
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
    """Cost of training on one loaded image, counted at the batch of a step in float32 whatever the precision."""
    return Work(**step(cell).answer())


def training_cost(cells: Iterable[Cell]) -> Cost:
    """Counted cost of training, by cell id."""
    cells = list(cells)
    return Cost(
        flops={cell.id: work(cell).flops for cell in cells},
        traffic={cell.id: work(cell).traffic for cell in cells},
        early_flops={cell.id: early for cell in cells if (early := _early_flops(cell))},
        passes={cell.id: passes(cell).answer() for cell in cells},
    )


def _early_flops(cell: Cell) -> dict[str, float]:
    """Operations of training on one loaded image in each phase before the last, by its first epoch in words."""
    return {f"{epoch:g}": count.answer()["flops"] for epoch, count in early_steps(cell).items()}


def step_flops(cell: Cell) -> float:
    """Counted floating-point operations of training on one loaded image."""
    return work(cell).flops


def forward_flops(cell: Cell | Weights) -> float:
    """Counted floating-point operations of the forward pass of one image."""
    return forward(cell).answer()["flops"]


def forwards(cell: Cell, spec: Spec) -> float:
    """Largest number of forward passes in which an evaluation judges one image."""
    return judging(cell, spec).answer()["forwards"]


def prepare(counts: Iterable[Count]) -> None:
    """Run the counts that are not cached yet, with a progress bar on stderr, or one line if that is no terminal."""
    uncached = list({count.key: count for count in counts if missing(count.key)}.values())
    if not uncached:
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from crt import screen

    if not sys.stderr.isatty():
        print(f"counting operations, which are kept for next time: {len(uncached)} counts", file=sys.stderr)
    text = TextColumn("counting operations {task.completed}/{task.total}: {task.description}", markup=False)
    progress = Progress(text, BarColumn(), TimeRemainingColumn(), console=screen.errors())
    with progress:
        task = progress.add_task("", total=len(uncached))
        for number, count in enumerate(uncached):
            progress.update(task, completed=number, description=count.label)
            count.answer()
