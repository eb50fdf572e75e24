"""Manifest: the cells of a table, and the studies that time them side by side."""

from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.cell import Cell, digest
from bench.published import Paper, Published
from crt.pickled import Pickled
from crt.quantity import Count, Precision

_STRICT = ConfigDict(frozen=True, extra="forbid")


class Certifying(BaseModel):
    """Number of test images to time certification on, and of noise samples per image."""

    model_config = _STRICT

    images: Count
    n: Count


FIRST_RUNS = 3
"""Least number of runs that can tell how much runs differ."""


Runs = Annotated[Count, Field(le=1000)]


class Timing(Pickled):
    """A timing study: `runs` fresh processes, each with `rounds` timed epochs of every arm after one warm-up epoch."""

    runs: Runs = 5
    rounds: Count = 10
    until: Precision | None = None
    """Widest half of the 95 % interval of any ratio: as many runs are added after the first `runs` as this needs."""
    at_most: Runs | None = None
    """Most runs in all, with `until`."""
    images: Count | None = None
    """Number of images in a timed epoch (default: all); reports scale times to the whole training set."""
    together: Literal["arch", "method"] = "arch"
    """Cells timed in one process: an architecture, or one method on it with all its settings and the baseline."""
    certify: Certifying | None = None
    """Certification for `bench.speed` to time as well."""

    @property
    def most_runs(self) -> int:
        """Number of runs, or the most that `until` may take."""
        return self.at_most or self.runs


class Study(Pickled):
    """Arms timed side by side in one process: those of one architecture, or of one method on it."""

    name: str
    timing: Timing
    arms: tuple[Cell, ...]
    references: dict[str, str] = Field(default_factory=dict)
    """Baseline at the same step key, by the id of each other arm."""

    @property
    def id(self) -> str:
        arms = [arm.id for arm in self.arms]
        settings = self.timing.model_dump(exclude={"runs", "until", "at_most", "together", "certify"})
        return f"{self.name}-{self.arms[0].arch}-{digest([arms, settings])}"


class Certification(BaseModel):
    """Timing of a network's certification of some test images, in `rounds` after a warm-up, with every setting.

    All draws of each image are made. The network is untrained: the time of a draw does not depend on the weights.
    """

    model_config = _STRICT

    cell: Cell
    images: Count
    n: Count
    rounds: Count
    compiled: bool = False
    """True for the compiled settings, whose warm-up takes long; False for the others. Both time the plain procedure."""

    @property
    def id(self) -> str:
        words = [self.cell.comparison_group, self.images, self.n, self.rounds, *(["compiled"] if self.compiled else [])]
        return f"certification-{self.cell.arch}-{digest(words)}"


BARE = "bare loop"
"""Name of the baseline in a manifest that measures the overhead of the harness."""


class Manifest(BaseModel):
    """Cells of a table and, for a timing study, how they are timed."""

    model_config = _STRICT

    name: str
    title: str
    baseline: str | None = None
    timing: Timing | None = None
    control: bool = False
    """True if each study times its baseline twice, in two arms."""
    quick: bool = False
    cells: tuple[Cell, ...]
    published: Published = Published()
    """What the paper prints about the whole table."""

    @property
    def study_timing(self) -> Timing:
        """The `timing` of a timing study; ValueError for a manifest without `timing`."""
        if self.timing is None:
            raise ValueError(f"{self.name}: not a timing study")
        return self.timing

    @property
    def trained(self) -> tuple[Cell, ...]:
        """Cells that are trained to the end. A timing study trains only those with evaluations or a monitor.

        Of equal cells (under --quick) one is trained, and judged by the evaluations of all.
        """
        found: dict[str, Cell] = {}
        for cell in self.cells:
            if cell.evals or cell.monitor or not self.timing:
                first = found.setdefault(cell.id, cell)
                more = tuple(spec for spec in cell.evals if spec not in first.evals)
                found[cell.id] = first.model_copy(update={"evals": (*first.evals, *more)}) if more else first
        return tuple(found.values())

    @property
    def studies(self) -> list[Study]:
        """One study for each comparison group, with the baseline at every step key of the group, and its control.

        Of cells that differ in nothing but their seed, the first is timed: the seed does not change the time.
        """
        groups: dict[tuple[Any, ...], list[Cell]] = {}
        for cell in self.first_seeds:
            groups.setdefault((*cell.comparison_group, self._timed_alone and cell.method.label), []).append(cell)
        processes = _compiled_last(list(groups.values())) if self._timed_alone else list(groups.values())
        studies = [self._with_control([*cells, *self._companions(cells)]) for cells in processes]
        if self._timed_alone:
            # Each arm stands next to its baseline, so that a study that is cut short still yields ratios.
            studies = [_by_settings(arms) for arms in studies]
        return [
            Study(name=self.name, timing=self.study_timing, arms=tuple(arms), references=self._references(arms))
            for arms in studies
        ]

    @property
    def first_seeds(self) -> list[Cell]:
        """The cells; of those that differ in nothing but their seed, and of equal ones (under --quick), the first."""
        firsts: dict[str, Cell] = {}
        return [cell for cell in self.cells if firsts.setdefault(cell.seedless.id, cell) is cell]

    @property
    def certifications(self) -> list[Certification]:
        """Two for each network with a noise level, the compiled ones last; none if no certification is to be timed."""
        if self.timing is None or self.timing.certify is None:
            return []
        firsts = {cell.comparison_group: cell for cell in reversed(self.cells) if cell.threat.sigma > 0}
        shape = {"rounds": self.timing.rounds, **self.timing.certify.model_dump()}
        cells = list(reversed(firsts.values()))
        return [Certification(cell=cell, compiled=late, **shape) for late in (False, True) for cell in cells]

    @property
    def _timed_alone(self) -> bool:
        return self.study_timing.together == "method"

    def is_baseline(self, cell: Cell) -> bool:
        """True if other cells are compared with this one."""
        if cell.control:
            return False
        if self.baseline == BARE:
            return cell.loop == "bare"
        return cell.method.name == self.baseline and cell.loop == "train"

    def _references(self, arms: list[Cell]) -> dict[str, str]:
        """Id of the baseline that each other arm is compared with, by the arm's id."""
        baselines = {arm.step_key: arm.id for arm in arms if self.is_baseline(arm)}
        return {arm.id: baselines[arm.step_key] for arm in arms if not self.is_baseline(arm)}

    def _with_control(self, arms: list[Cell]) -> list[Cell]:
        """The arms and, if the manifest wants a control, a second arm of the first baseline among them."""
        if not self.control:
            return arms
        baseline = next(arm for arm in arms if self.is_baseline(arm))
        return [*arms, baseline.model_copy(update={"control": True, "evals": (), "paper": Paper()})]

    def _companions(self, cells: list[Cell]) -> list[Cell]:
        """Copies of the baseline at those step keys of the other arms that no cell of the baseline has.

        They make every ratio one of comparable times, and separate the effects of batch size and arithmetic.
        """
        baseline = next(
            cell for cell in self.cells if cell.comparison_group == cells[0].comparison_group and self.is_baseline(cell)
        )
        present = [cell.step_key for cell in cells if self.is_baseline(cell)]
        batch_sizes = dict.fromkeys(cell.per_step for cell in cells)
        settings = {cell.step_key.compute_settings: cell.compute_settings for cell in cells}
        recipes = [
            baseline.recipe.model_copy(update={"batch_size": images, **settings[values]})
            for images, values in product(batch_sizes, settings)
            if (images, values) not in present
        ]
        return [baseline.model_copy(update={"recipe": recipe}) for recipe in recipes]


def _compiled_last(methods: list[list[Cell]]) -> list[list[Cell]]:
    """Split each method's cells in two, and put all compiled ones last with the method's first cell beside them.

    Compiling a step takes longer than timing it.
    """
    eager = [[cell for cell in cells if not cell.recipe.compile] for cells in methods]
    compiled = [[*cells[:1], *(cell for cell in cells[1:] if cell.recipe.compile)] for cells in methods]
    return [cells for cells in eager if cells] + [cells for cells in compiled if len(cells) > 1]


def _by_settings(arms: list[Cell]) -> list[Cell]:
    """The arms grouped by compute settings, in the order in which these first occur."""
    order = [arm.compute_settings for arm in arms]
    return sorted(arms, key=lambda arm: order.index(arm.compute_settings))
