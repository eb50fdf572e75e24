"""What cells are called beside one another, for people: an id tells most apart by its digest alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress

from rich.text import Text

from bench.cell import Cell, Weights


class Names:
    """What some cells are called beside one another."""

    def __init__(self, cells: Iterable[Cell]):
        alike: dict[tuple[str, str], list[tuple[str, ...]]] = {}
        for cell in cells:
            alike.setdefault((cell.arch, name(cell)), []).append(words(cell))
        self._varies = {who: varying(rows) for who, rows in alike.items()}

    def label(self, cell: Cell) -> str:
        """The method and, where other cells of its architecture are called so, too, what tells them apart."""
        mine = name(cell)
        return ", ".join([mine, *compress(words(cell), self._varies[cell.arch, mine])])

    def full_label(self, cell: Cell) -> str:
        """What it is called, and always whom it learned from."""
        text, teacher = self.label(cell), lineage(cell.teacher)
        return text if teacher is None or f"from {teacher}" in text else f"{text} from {teacher}"


def labels_beside_ids(cells: Mapping[str, Cell]) -> dict[str, str]:
    """By their ids, or what else they go by, what those are called of which that does not say as much."""
    names = Names(cells.values())
    return {key: text for key, cell in cells.items() if (text := names.full_label(cell)) not in key}


def titled(what: str, said: str | None) -> Text:
    """How a table's row begins: below an id, what the cell is called. Beside it, there is no room on a terminal."""
    return Text(what) if said is None else Text(f"{what}\n") + Text(said, "dim")


def varying(rows: Iterable[Sequence]) -> list[bool]:
    """In which places the rows differ."""
    return [len(set(column)) > 1 for column in zip(*rows, strict=True)]


def words(cell: Cell) -> tuple[str, ...]:
    """What may tell cells of one architecture and method apart; the first is of the teacher."""
    teacher, recipe = lineage(cell.teacher), cell.recipe
    return (
        f"from {teacher}" if teacher else "untaught",
        f"{epochs(cell)} epochs",
        f"batch {recipe.batch_size}",
        recipe.precision,
        f"sigma {cell.threat.sigma:g}",
        f"{cell.threat.norm} eps {written(cell.threat.eps)}",
        f"ranks {cell.ranks}",
    )


def name(cell: Cell) -> str:
    """The method as a report calls it: with the arguments that must be named, and its seed where it is not 0."""
    bare = ", bare loop" if cell.loop == "bare" else ""
    return cell.method.label + bare + (f" seed {cell.seed}" if cell.seed else "")


def lineage(teacher: Cell | Weights | None) -> str | None:
    """The chain of teachers, nearest first."""
    if teacher is None:
        return None
    if isinstance(teacher, Weights):
        return f"{teacher.arch} weights {teacher.sha256[:8]}" + (f" {teacher.key}" if teacher.key else "")
    before = lineage(teacher.teacher)
    return f"{teacher.arch} {name(teacher)}" + (f" <- {before}" if before else "")


def epochs(cell: Cell) -> int:
    """Of the recipe, each replay counting as one."""
    return cell.recipe.epochs * cell.replays


def written(eps: float) -> str:
    """As people write it: 8/255, 0.5."""
    whole = round(255 * eps)
    short = float(f"{eps:.3g}") == eps or not math.isclose(255 * eps, whole, rel_tol=1e-6)
    return f"{eps:g}" if short else f"{whole}/255"
