"""Expand the blocks of a manifest into cells, and resolve their teachers."""

import math
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from bench.cell import Cell, Monitor, Spec, Weights
from bench.manifest.blocks import INHERITED, FolderBlock, InitFile, TeacherBlock, TeacherFile, TeacherName, TuneBlock
from bench.manifest.messages import check_choice, shown, typed
from bench.manifest.parse import ParsedManifest
from bench.manifest.plugin_spec import spec
from bench.published import Paper
from crt.data import DATASETS, Dataset
from crt.models.import_weights.checkpoint_file import sha256_of
from crt.threat import Threat
from crt.training.recipe import Recipe

_MOST = 10_000
"""Cells of a manifest; a larger number is a mistake in its lists."""
_MOST_CHOICES = 100
"""Trainings that decide the recipe of one cell."""
AXES = ("dataset", "arch", "method", "threat", "recipe", "seed", "teacher", "ranks")


class Placed(NamedTuple):
    """A cell, or a teacher that is described within its student, and its place in the manifest."""

    cell: Cell
    block: int
    where: str


class Expansion:
    """The cells of a parsed manifest. Cells are kept by block, so that a teacher may refer to one by its name.

    ValueError for arguments that a plug-in refuses, a teacher that is not there, and two equal cells.
    """

    def __init__(self, parsed: ParsedManifest):
        self.parsed = parsed
        self.placed: list[Placed] = []
        """Every cell, each inline teacher before its student."""
        self._count = 0
        self._done: dict[int, list[Cell]] = {}
        self._open: list[str] = []
        self._folders: dict[FolderBlock, Dataset] = {}
        by_id: dict[str, tuple[Cell, str]] = {}
        for i in range(len(parsed.blocks)):
            for cell in self._block(i):
                if cell.id in by_id:
                    raise ValueError(f"cells[{i}]: the same cell as {by_id[cell.id][1]} ({cell.id})")
                by_id[cell.id] = (cell, f"cells[{i}]")
        self.cells = tuple(cell for cell, _ in by_id.values())

    def _block(self, i: int) -> list[Cell]:
        """Cells of block `i`: the product of its axes, in the order of `AXES`."""
        if i in self._done:
            return self._done[i]
        where, block = f"cells[{i}]", self.parsed.blocks[i]
        axes = [key for key in AXES if isinstance(getattr(block, key), tuple)]
        self._count += math.prod(len(getattr(block, key)) for key in axes)
        if self._count > _MOST:
            raise ValueError(
                f"{where}: the product of its lists makes {self._count:,} cells (allowed: at most {_MOST:,})"
            )
        settings = [dict(zip(axes, values, strict=True)) for values in product(*(getattr(block, key) for key in axes))]
        if block.name is not None and len(settings) > 1 and axes != ["seed"]:
            words = f"{shown(block.name)} names {len(settings)} cells"
            raise ValueError(f"{where}.name: {words} (allowed: one, or one per seed)")
        self._open.append(where if block.name is None else block.name)
        papers = self._papers(i, len(settings))
        with self.parsed.pointing(i):
            cells = [
                self._cell(dict(block) | setting | {"paper": paper}, where, i)
                for setting, paper in zip(settings, papers, strict=True)
            ]
        self._open.pop()
        self._done[i] = cells
        return cells

    def _papers(self, i: int, count: int) -> list[Paper]:
        """Published figures of each of the `count` cells of block `i`; a list has one figure per cell."""
        block = self.parsed.blocks[i].paper
        rows: list[dict[str, Any]] = [{} for _ in range(count)]
        for key in [key for key in Paper.model_fields if block and key in block.model_fields_set]:
            figures = getattr(block, key)
            if count == 1 and not isinstance(figures, tuple):
                figures = (figures,)
            if not isinstance(figures, tuple) or len(figures) != count:
                allowed = f"a list of {count}, one for each cell" if count > 1 else "one figure, for there is one cell"
                value = self.parsed.written[i]["paper"][key]
                raise ValueError(f"cells[{i}].paper.{key}: {shown(value)} (allowed: {allowed})")
            for row, figure in zip(rows, figures, strict=True):
                if figure is not None:
                    row[key] = figure
        return [Paper(**row) for row in rows]

    def _cell(self, values: dict[str, Any], where: str, block: int) -> Cell:
        """The cell with these values, one for each key of a block or of a teacher."""
        threat, dataset = values["threat"], self._dataset(values["dataset"], f"{where}.dataset")
        tune = values.get("tune")
        values = values | {"dataset": dataset}
        values = {key: value for key, value in values.items() if key in Cell.model_fields} | {
            "dataset": dataset.name,
            "folder": dataset if dataset.source else None,
            "method": spec("crt.methods", values["method"], threat, f"{where}.method"),
            "teacher": self._teacher(values, where, block),
            "init": self._init(values, where),
            "evals": _evals(values.get("evals", ()), threat, f"{where}.evals"),
            "monitor": _monitor(values, where),
        }
        cell = Cell(**values)
        if tune:
            cell = cell.model_copy(update={"candidates": _candidates(cell, tune, where)})
            self.placed += [Placed(each, block, f"{where}.tune") for each in cell.candidates]
        self.placed.append(Placed(cell, block, where))
        return cell

    def _dataset(self, written: str | FolderBlock | Dataset, where: str) -> Dataset:
        """The dataset of a name or an image folder; a teacher inherits its student's."""
        if isinstance(written, Dataset):
            return written
        if isinstance(written, str):
            return DATASETS[written]
        if written not in self._folders:
            from crt.data.image_folder import describe

            try:
                self._folders[written] = describe(Path(written.folder), written.size, written.flip)
            except ValueError as error:
                raise ValueError(f"{where}.folder: {error}") from None
        return self._folders[written]

    def _teacher(self, student: dict[str, Any], where: str, block: int) -> Cell | Weights | None:
        """The teacher in a student's values: a named cell, weights from a file, or a cell to train first."""
        teacher, where = student["teacher"], f"{where}.teacher"
        if isinstance(teacher, TeacherName):
            return self._named(teacher, student["seed"], where, "teachers")
        if isinstance(teacher, TeacherFile):
            return _weights(teacher, student, where)
        if isinstance(teacher, TeacherBlock):
            inherited = {key: student[key] for key in INHERITED if key not in teacher.model_fields_set}
            return self._cell(dict(teacher) | inherited, where, block)
        return None

    def _init(self, values: dict[str, Any], where: str) -> Cell | Weights | None:
        """The network of the initial weights in a cell's values: a named cell, or weights from a file."""
        init, where = values["init"], f"{where}.init"
        if isinstance(init, TeacherName):
            return self._named(init, values["seed"], where, "initial weights")
        if isinstance(init, InitFile):
            given = {"dataset": self._dataset(init.dataset, f"{where}.dataset")} if init.dataset else {}
            return _weights(init, values | given, where)
        return None

    def _named(self, reference: TeacherName, seed: int, where: str, kind: str) -> Cell:
        """The cell of a block with a name, of this seed if the block has several; `kind` is what cells form a cycle."""
        named = self.parsed.named
        if not named:
            raise ValueError(f"{where}.cell: {shown(reference.cell)} (allowed: none, for no cell has a name)")
        name = check_choice(reference.cell, named, f"{where}.cell")
        if name in self._open:
            raise ValueError(f"{where}: a cycle of {kind}: {' <- '.join([*self._open, name])}")
        cells = {cell.seed: cell for cell in self._block(named[name])}
        # A network of several seeds goes with cells of the same seeds: a seed stands for the whole training.
        seed = seed if len(cells) > 1 else next(iter(cells))
        if seed not in cells:
            raise ValueError(f"{where}.cell: {name!r} has no seed {seed} (allowed: {', '.join(map(str, cells))})")
        return cells[seed].model_copy(update={"evals": (), "paper": Paper()})


def _evals(written: tuple[Any, ...], threat: Threat, where: str) -> tuple[Spec, ...]:
    return tuple(spec("crt.evals", value, threat, f"{where}[{k}]") for k, value in enumerate(written))


def _monitor(values: dict[str, Any], where: str) -> Monitor | None:
    """The evaluations during training; ValueError if they are missing and `select` needs them."""
    block, where = values["monitor"], f"{where}.monitor"
    if block is None:
        if values["select"] != "last":
            raise ValueError(f"{where}: missing, and select: {values['select']} chooses by it")
        return None
    evals = _evals(block.evals, values["threat"], f"{where}.evals")
    return Monitor(every=block.every, split=block.split, images=block.images, evals=evals)


def _candidates(cell: Cell, tune: TuneBlock, where: str) -> tuple[Cell, ...]:
    """The trainings that decide the cell's recipe, one for each choice; ValueError for a choice that no recipe has."""
    where, axes = f"{where}.tune.recipe", tune.recipe.axes
    choices = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    if not 2 <= len(choices) <= _MOST_CHOICES:
        raise ValueError(f"{where}: makes {len(choices)} choices (allowed: 2 to {_MOST_CHOICES})")
    judge = spec("crt.evals", tune.by, cell.threat, f"{where.removesuffix('recipe')}by")
    found: dict[str, Cell] = {}
    for choice in choices:
        recipe = typed(Recipe, cell.recipe.model_dump() | choice, where)
        monitor = Monitor(every=recipe.epochs, split="validation", images=tune.images, evals=(judge,))
        own = {"recipe": recipe, "monitor": monitor, "select": "last", "evals": (), "paper": Paper()}
        candidate = cell.model_copy(update=own)
        found[candidate.id] = candidate
    if len(found) < len(choices):
        raise ValueError(f"{where}: has a value twice (allowed: each once)")
    return tuple(found.values())


def _weights(teacher: TeacherFile, student: dict[str, Any], where: str) -> Weights:
    """A network trained elsewhere; ValueError if its file is missing or has another SHA-256."""
    try:
        sha256 = sha256_of(Path(teacher.weights))
    except ValueError as error:
        raise ValueError(f"{where}.weights: {error}") from None
    if "sha256" in teacher.model_fields_set and str(teacher.sha256).lower() != sha256:
        raise ValueError(f"{where}.sha256: {teacher.sha256} (the file's is {sha256})")
    return Weights(
        dataset=student["dataset"].name,
        folder=student["dataset"] if student["dataset"].source else None,
        arch=teacher.arch,
        weights=teacher.weights,
        sha256=sha256,
        normalize=teacher.normalize,
        key=teacher.key,
        pipeline=teacher.pipeline or student["pipeline"],
    )
