"""Methods that compete in one setting: the cost and the robustness of each, and comparisons of two of them."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from bench.cell import Cell, Spec
from bench.manifest.labels import Names, epochs, written
from bench.manifest.manifest import Manifest
from bench.results.collapse import Collapse, collapse
from bench.results.intervals import welch_ratio
from bench.results.measured import Measured
from bench.results.ratios import ratio
from bench.results.robustness import eps_of, has_eps, is_robust, kind, principal, question
from bench.results.statistics import NOTHING, Interval, mean_ci, share_difference, wilson
from crt.training.recipe import ARITHMETIC


@dataclass(frozen=True, eq=False)
class Contender:
    """A method with its settings, trained with one or more seeds."""

    label: str
    by_seed: dict[int, Measured]
    robust: dict[int, dict[int, bool]]
    """By seed and image, True if the image is classified correctly and robust; empty if nothing is evaluated."""
    is_baseline: bool

    @property
    def images(self) -> int:
        """Number of evaluated images of the seed with the fewest."""
        return min(map(len, self.robust.values()), default=0)

    @cached_property
    def collapsed(self) -> dict[int, Collapse]:
        """The collapses of its trainings by seed."""
        found = {seed: collapse(m) for seed, m in self.by_seed.items()}
        return {seed: each for seed, each in found.items() if each}

    @cached_property
    def accuracy(self) -> Interval:
        """Mean robust accuracy over seeds, with Wilson's interval over images or, if wider, Student's t over seeds."""
        return _over_seeds([wilson(sum(flags.values()), len(flags)) for flags in self.robust.values()])


@dataclass(frozen=True, eq=False)
class Setting:
    """Contenders that are trained and evaluated alike: one dataset, architecture, number of ranks and figure."""

    dataset: str
    arch: str
    ranks: int
    figure: str | None
    """The figure that the methods are judged by, in words; None where no cell has an evaluation of robustness."""
    contenders: tuple[Contender, ...]
    paired: bool
    """True if all times come from one process, round by round."""
    allow: frozenset[str]
    """Fields in which two times may differ."""

    @property
    def judged(self) -> list[Contender]:
        """The contenders whose robustness was measured."""
        return [each for each in self.contenders if each.robust]

    @property
    def baseline(self) -> Contender | None:
        return next((each for each in self.contenders if each.is_baseline), None)

    def cost(self, first: Contender, second: Contender) -> Interval:
        """Ratio of the times of whole trainings; NOTHING where one has no time, or the times cannot be compared."""
        if first is second:
            return Interval(1.0, math.nan, math.nan)
        a, b = (next(iter(each.by_seed.values())) for each in (first, second))
        try:
            interval = ratio(a, b, self.paired, self.allow).interval
        except ValueError:
            # Tables refuse such a ratio only where they divide by the baseline.
            return NOTHING
        if not self.paired and not math.isnan(interval.mean):
            interval = welch_ratio(
                *([run for m in each.by_seed.values() for run in m.seconds] for each in (first, second))
            )
        share = epochs(a.cell) / epochs(b.cell)
        return Interval(*(share * value for value in interval))

    def difference(self, first: Contender, second: Contender) -> Interval:
        """Difference of robust accuracy on common images: the mean over common seeds.

        The interval is Newcombe's over images or, if wider, Student's t over seeds.
        """
        seeds = sorted(first.robust.keys() & second.robust.keys())
        if not seeds and first.robust and second.robust:
            return _difference(*(next(iter(each.robust.values())) for each in (first, second)))
        return _over_seeds([_difference(first.robust[seed], second.robust[seed]) for seed in seeds])


def settings(manifest: Manifest, measured: Iterable[Measured], allow: Collection[str] = ()) -> list[Setting]:
    """The settings of a manifest in its order. Cells that differ in nothing but their seed are one contender."""
    own = {cell.id for cell in manifest.cells}
    groups: dict[tuple, dict[str, list[Measured]]] = {}
    for m in measured:
        if m.id in own and (m.timed or m.losses or m.verdicts):
            spec = judging(m.cell)
            key = (m.folder, m.cell.comparison_group, question(m.cell, spec) if spec else None)
            groups.setdefault(key, {}).setdefault(seedless(m.cell).id, []).append(m)
    found = []
    for methods in groups.values():
        cells = {key: seedless(members[0].cell) for key, members in methods.items()}
        names, first = Names(cells.values()), next(iter(methods.values()))[0].cell
        contenders = tuple(_contender(manifest, names.label(cells[key]), methods[key]) for key in methods)
        fields = frozenset({*allow, *ARITHMETIC})
        found.append(
            Setting(
                first.dataset, first.arch, first.ranks, figure(first), contenders, manifest.timing is not None, fields
            )
        )
    return found


def judging(cell: Cell) -> Spec | None:
    """The evaluation that a cell is judged by: the first by smoothing, else the principal attack or bound."""
    smoothing = next((spec for spec in cell.evals if kind(spec.name) == "smoothing"), None)
    return smoothing or principal(cell, [spec for spec in cell.evals if has_eps(spec.name)])


def figure(cell: Cell) -> str | None:
    """The figure that a cell is judged by, in words."""
    spec = judging(cell)
    if spec is None:
        return None
    if kind(spec.name) == "smoothing":
        return f"certified accuracy at l2 radius {_radius(cell, spec):g} (sigma {cell.threat.sigma:g})"
    claim = "accuracy under" if kind(spec.name) == "attack" else "certified accuracy by"
    return f"{claim} {spec.label} at {cell.threat.norm} {written(_radius(cell, spec))}"


def _radius(cell: Cell, spec: Spec) -> float:
    # Papers on smoothing compare methods at about two standard deviations of the noise.
    return 2 * cell.threat.sigma if kind(spec.name) == "smoothing" else eps_of(cell, spec)


def _contender(manifest: Manifest, label: str, members: list[Measured]) -> Contender:
    by_seed = {m.cell.seed: m for m in sorted(members, key=lambda m: m.cell.seed)}
    robust = {}
    for seed, m in by_seed.items():
        spec = judging(m.cell)
        if spec and (verdicts := m.verdicts.get(spec.id)):
            radius = _radius(m.cell, spec)
            robust[seed] = {image: is_robust(verdict, radius) for image, verdict in verdicts.items()}
    return Contender(label, by_seed, robust, manifest.is_baseline(members[0].cell))


def seedless(cell: Cell) -> Cell:
    """The cell with seed 0, and its teachers, too."""
    teacher = seedless(cell.teacher) if isinstance(cell.teacher, Cell) else cell.teacher
    return cell.model_copy(update={"seed": 0, "teacher": teacher})


def _difference(first: dict[int, bool], second: dict[int, bool]) -> Interval:
    images = sorted(first.keys() & second.keys())
    return share_difference([first[i] for i in images], [second[i] for i in images]) if images else NOTHING


def _over_seeds(parts: list[Interval]) -> Interval:
    """Mean of the seeds' estimates; its ends are those of the wider of two intervals, over images and over seeds."""
    if len(parts) < 2:
        return parts[0] if parts else NOTHING
    over_seeds = mean_ci([part.mean for part in parts])
    low, high = fmean(part.low for part in parts), fmean(part.high for part in parts)
    return Interval(over_seeds.mean, min(low, over_seeds.low), max(high, over_seeds.high))
