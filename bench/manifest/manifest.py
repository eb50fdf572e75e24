"""A table: its cells, and the studies that time them side by side."""

from itertools import product
from typing import Literal

from pydantic import BaseModel, ConfigDict

from bench.cell import Cell, digest
from crt.quantity import Count

_STRICT = ConfigDict(frozen=True, extra="forbid")


class Certifying(BaseModel):
    """How many test images certification is timed on, and with how many draws of each."""

    model_config = _STRICT

    images: Count
    n: Count


class Timing(BaseModel):
    """A timing study: `runs` fresh processes, each of `rounds` timed epochs of every arm after one of warm-up."""

    model_config = _STRICT

    runs: Count = 5
    rounds: Count = 10
    images: Count | None = None
    """Images in a timed epoch, where not all; times are scaled to the whole set in the report."""
    together: Literal["arch", "method"] = "arch"
    """What one process times: all of an architecture, or one method of it in all its ways, beside the baseline."""
    certify: Certifying | None = None
    """What `bench.speed` times of certification, beside."""


class Study(BaseModel):
    """The arms of one architecture, or of one method on it, timed side by side in one process."""

    model_config = _STRICT

    name: str
    timing: Timing
    arms: tuple[Cell, ...]

    @property
    def id(self) -> str:
        arms = [arm.id for arm in self.arms]
        shape = self.timing.model_dump(exclude={"runs", "together", "certify"})
        return f"{self.name}-{self.arms[0].arch}-{digest([arms, shape])}"


BARE = "bare loop"
"""The baseline of a manifest that measures the harness itself."""


class Manifest(BaseModel):
    """A table: its cells, and how they are timed where it is a timing study."""

    model_config = _STRICT

    name: str
    title: str
    baseline: str | None = None
    timing: Timing | None = None
    quick: bool = False
    cells: tuple[Cell, ...]

    @property
    def trained(self) -> tuple[Cell, ...]:
        """The cells that are trained to the end: of a timing study those that are judged, too."""
        return tuple(cell for cell in self.cells if cell.evals or cell.monitor or not self.timing)

    @property
    def studies(self) -> list[Study]:
        """The cells of each comparison group, with the baseline at every step key."""
        groups: dict[tuple, list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault((*cell.comparison_group, self._timed_alone and cell.method.label), []).append(cell)
        shared = self._in_ways(list(groups.values())) if self._timed_alone else list(groups.values())
        arms = [(*cells, *self._companions(cells)) for cells in shared]
        if self._timed_alone:
            # Each beside its baseline, so that a study that is cut short holds ratios all the same.
            arms = [_by_settings(each) for each in arms]
        return [Study(name=self.name, timing=self.timing, arms=tuple(each)) for each in arms]

    @property
    def _timed_alone(self) -> bool:
        return self.timing.together == "method"

    def _in_ways(self, methods: list[list[Cell]]) -> list[list[Cell]]:
        """What is compiled last, beside what comes first of its method: it takes longer to set up than to time."""
        apart = [[cell for cell in cells if not cell.recipe.compile] for cells in methods]
        late = [[*cells[:1], *(cell for cell in cells[1:] if cell.recipe.compile)] for cells in methods]
        return [cells for cells in apart if cells] + [cells for cells in late if len(cells) > 1]

    def is_baseline(self, cell: Cell) -> bool:
        """True where others are compared with this cell."""
        if self.baseline == BARE:
            return cell.loop == "bare"
        return cell.method.name == self.baseline and cell.loop == "train"

    def _companions(self, cells: list[Cell]) -> list[Cell]:
        """Copies of the baseline at the step keys of the other arms, where it is not there itself.

        They make every ratio one of like things, and separate the factors of batch and arithmetic.
        """
        base = next(
            cell for cell in self.cells if cell.comparison_group == cells[0].comparison_group and self.is_baseline(cell)
        )
        there = [cell.step_key for cell in cells if self.is_baseline(cell)]
        steps = dict.fromkeys(cell.per_step for cell in cells)
        settings = {cell.step_key.compute_settings: cell.compute_settings for cell in cells}
        recipes = [
            base.recipe.model_copy(update={"batch_size": images, **settings[values]})
            for images, values in product(steps, settings)
            if (images, values) not in there
        ]
        return [base.model_copy(update={"recipe": recipe}) for recipe in recipes]


def _by_settings(arms: tuple[Cell, ...]) -> list[Cell]:
    """The arms in groups of equal compute settings, in the order in which these first occur."""
    order = [arm.compute_settings for arm in arms]
    return sorted(arms, key=lambda arm: order.index(arm.compute_settings))
