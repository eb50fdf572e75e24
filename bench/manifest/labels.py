"""Labels of cells for people. Most ids differ only in their digest."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any

from bench.cell import Cell, Weights
from crt.training.recipe import ARITHMETIC, EXACT, SWITCHES, Recipe

PLAIN_SETTINGS = {key: Recipe.model_fields[key].default for key in ARITHMETIC}
"""Compute settings of the plain path."""


class Names:
    """Labels that tell the cells of a collection apart."""

    def __init__(self, cells: Iterable[Cell]):
        alike: dict[tuple[str, str], dict[str, Cell]] = {}
        for cell in cells:
            alike.setdefault((cell.arch, name(cell)), {})[cell.id] = cell
        self._varies = {key: _telling(list(own.values())) for key, own in alike.items()}

    def label(self, cell: Cell) -> str:
        """The cell's name, followed by the settings in which cells of the same architecture and name differ."""
        own = name(cell)
        return ", ".join([own, *compress(words(cell) + _steps(cell), self._varies[cell.arch, own])])

    def full_label(self, cell: Cell) -> str:
        """The label with the teacher, even where the label does not need it."""
        text, teacher = self.label(cell), lineage(cell.teacher)
        return text if teacher is None or f"from {teacher}" in text else f"{text} from {teacher}"


def _telling(cells: Sequence[Cell]) -> list[bool]:
    """For each of a cell's words, True if labels have it: the settings that differ, and if need be those of steps."""
    differ, steps = (varying([own(cell) for cell in cells]) for own in (words, _steps))
    told_apart = len({tuple(compress(words(cell), differ)) for cell in cells}) == len(cells)
    return differ + [False] * len(steps) if told_apart else differ + steps


def _steps(cell: Cell) -> tuple[str, ...]:
    """Settings of the optimizer's steps, in which a search of the recipe varies."""
    recipe = cell.recipe
    return f"lr {recipe.lr:g}", f"momentum {recipe.momentum:g}", f"weight decay {recipe.weight_decay:g}"


def labels_beside_ids(cells: Mapping[str, Cell]) -> dict[str, str]:
    """Full labels by key (ids, for example), without those that the key already contains."""
    names = Names(cells.values())
    return {key: text for key, cell in cells.items() if (text := names.full_label(cell)) not in key}


def varying(rows: Iterable[Sequence[Any]]) -> list[bool]:
    """For each column, True if the rows differ in it."""
    return [len(set(column)) > 1 for column in zip(*rows, strict=True)]


def words(cell: Cell) -> tuple[str, ...]:
    """Settings in which cells of one architecture and method may differ; the first is the teacher."""
    teacher, recipe = lineage(cell.teacher), cell.recipe
    return (
        f"from {teacher}" if teacher else "untaught",
        f"{epochs(cell)} epochs",
        f"batch {recipe.batch_size}",
        recipe.precision,
        compute(recipe),
        f"sigma {cell.threat.sigma:g}",
        f"{cell.threat.norm} eps {written(cell.threat.eps)}",
        f"ranks {cell.ranks}",
        f"average {recipe.average.decay:g}" if recipe.average else "no average",
        f"label smoothing {recipe.label_smoothing:g}" if recipe.label_smoothing else "no label smoothing",
        f"{cell.held_out} images held out" if cell.held_out else "no images held out",
    )


def choice(candidate: Cell, cell: Cell) -> str:
    """The values of a candidate's recipe that may differ from the cell's and from other candidates', in words."""
    return settings_in_words(settings_of(candidate, cell))


def settings_of(candidate: Cell, cell: Cell) -> dict[str, float]:
    """The fields of a candidate's recipe that may differ from the cell's and from other candidates'."""
    recipes = [each.recipe.model_dump() for each in (cell, *cell.candidates)]
    own = candidate.recipe.model_dump()
    return {key: own[key] for key in own if any(recipe[key] != own[key] for recipe in recipes)}


def settings_in_words(settings: Mapping[str, float]) -> str:
    """Values of a recipe's fields as `lr 0.1, weight_decay 0.0005`."""
    return ", ".join(f"{key} {value:g}" for key, value in settings.items())


def compute(recipe: Recipe) -> str:
    """The recipe's switches as a manifest writes them in short: `plain`, `exact`, `fastest`, or their list."""
    if recipe.compute == "fastest":
        return "fastest"
    on = {key: value for key in SWITCHES if (value := getattr(recipe, key))}
    return "exact" if on == EXACT else switches_in_words(on)


def switches_in_words(settings: Mapping[str, Any]) -> str:
    """Settings of the arithmetic that differ from the plain path, in the order of the recipe's fields."""
    words = {"precision": "{}", "compute": "{}", "compile": "compile {}"}
    on = [words.get(key, key).format(settings[key]) for key in ARITHMETIC if settings.get(key)]
    return ", ".join(on) or "plain"


def name(cell: Cell) -> str:
    """The method's label, with its initial weights, `tuned`, `bare loop`, `control` and a seed where they apply."""
    kind = f", init {begun}" if (begun := _beginning(cell.init)) else ""
    kind += f" tuned over {len(cell.candidates)} recipes" if cell.candidates else ""
    kind += ", bare loop" * (cell.loop == "bare") + ", control" * cell.control
    return cell.method.label + kind + (f" seed {cell.seed}" if cell.seed else "")


def _beginning(init: Cell | Weights | None) -> str | None:
    """The network of initial weights in words, without its seed; None for weights that are drawn."""
    if init is None:
        return None
    if isinstance(init, Weights):
        return f"weights {init.sha256[:8]}" + (f" {init.key}" if init.key else "")
    return init.method.label + (f" <- {before}" if (before := _beginning(init.init)) else "")


def switches(cell: Cell) -> str:
    """The settings in which the cell's arithmetic differs from the plain path."""
    return switches_in_words(
        {key: value for key, value in cell.compute_settings.items() if value != PLAIN_SETTINGS[key]}
    )


def lineage(teacher: Cell | Weights | None) -> str | None:
    """The chain of teachers in words, nearest first; None without a teacher."""
    if teacher is None:
        return None
    if isinstance(teacher, Weights):
        return f"{teacher.arch} weights {teacher.sha256[:8]}" + (f" {teacher.key}" if teacher.key else "")
    ancestors = lineage(teacher.teacher)
    return f"{teacher.arch} {name(teacher)}" + (f" <- {ancestors}" if ancestors else "")


def epochs(cell: Cell) -> int:
    """Epochs of training, in which each replay counts as one."""
    return cell.recipe.epochs * cell.replays


def written(eps: float) -> str:
    """A radius in its usual notation: 8/255, 0.5."""
    whole = round(255 * eps)
    short = float(f"{eps:.3g}") == eps or not math.isclose(255 * eps, whole, rel_tol=1e-6)
    return f"{eps:g}" if short else f"{whole}/255"
