"""Methods that compete in one setting: the cost and the robustness of each, and comparisons of two of them."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

from bench.manifest.labels import Names, epochs
from bench.manifest.manifest import Manifest
from bench.results.collapse import Collapse, collapse
from bench.results.intervals import welch_ratio
from bench.results.judging import figure, judged_alike, judged_radius, judging
from bench.results.measured import Measured
from bench.results.noise import differs, exceeds, noise_floor, within_noise
from bench.results.over_seeds import OverSeeds, difference_over_seeds, mean_over_seeds
from bench.results.ratios import ratio
from bench.results.robustness import first_seen, grid, is_robust, kind, right
from bench.results.seeds import holm
from bench.results.statistics import CONFIDENCE, NOTHING, Interval
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

    @property
    def first(self) -> Measured:
        """The cell of the first seed."""
        return next(iter(self.by_seed.values()))

    @property
    def timed(self) -> Measured:
        """The first seed that was timed: a study times one for all; else the first."""
        return next((m for m in self.by_seed.values() if m.timed), self.first)

    @cached_property
    def collapsed(self) -> dict[int, Collapse]:
        """The collapses of its trainings by seed."""
        found = {seed: collapse(m) for seed, m in self.by_seed.items()}
        return {seed: each for seed, each in found.items() if each}

    @property
    def always_collapsed(self) -> bool:
        """True if every training with records collapsed."""
        recorded = [seed for seed, m in self.by_seed.items() if m.recorded]
        return bool(recorded) and self.collapsed.keys() >= set(recorded)

    @cached_property
    def clean(self) -> dict[int, dict[int, bool]]:
        """By seed and image, True if the image itself is classified correctly; empty if that is not evaluated."""
        verdicts = {seed: first_seen(m, judging(m.cell)) for seed, m in self.by_seed.items()}
        return {seed: {v.index: right(v) for v in found} for seed, found in verdicts.items() if found}

    @cached_property
    def radii(self) -> dict[int, dict[int, float]]:
        """By seed and image, the certified radius, 0 where wrong; empty unless smoothing, without a grid, judges it."""
        specs = {seed: judging(m.cell) for seed, m in self.by_seed.items()}
        return {
            seed: {v.index: v.radius * right(v) for v in found.values()}
            for seed, spec in specs.items()
            if spec
            and kind(spec.name) == "smoothing"
            and not grid(spec)
            and (found := self.by_seed[seed].verdicts.get(spec.id))
        }

    @cached_property
    def over_seeds(self) -> OverSeeds:
        """Mean robust accuracy over seeds and images; over the images of one training where there is one seed."""
        return mean_over_seeds(self.robust)

    @property
    def accuracy(self) -> Interval:
        return self.over_seeds.interval


class Difference(NamedTuple):
    """Difference of robust accuracy of two methods."""

    over_seeds: OverSeeds
    adjusted_p: float
    """P-value, adjusted by Holm for all pairs of the setting; NaN without common images."""


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

    @cached_property
    def competing(self) -> "Setting":
        """The setting without the robustness of contenders that collapsed with every seed."""
        lost = [each for each in self.judged if each.always_collapsed]
        if not lost:
            return self
        contenders = (replace(each, robust={}) if each in lost else each for each in self.contenders)
        return replace(self, contenders=tuple(contenders))

    @property
    def baseline(self) -> Contender | None:
        return next((each for each in self.contenders if each.is_baseline), None)

    def cost(self, first: Contender, second: Contender) -> Interval:
        """Ratio of the times of whole trainings; NOTHING where one has no time, or the times cannot be compared."""
        if first is second:
            return Interval(1.0, math.nan, math.nan)
        a, b = (each.timed for each in (first, second))
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

    @cached_property
    def differences(self) -> dict[tuple[Contender, Contender], Difference]:
        """Difference of robust accuracy of every two judged methods; their p-values are adjusted together (Holm)."""
        pairs = {(a, b): difference_over_seeds(a.robust, b.robust) for a, b in combinations(self.judged, 2)}
        tested = {pair: found.p for pair, found in pairs.items() if not math.isnan(found.p)}
        adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
        return {pair: Difference(found, adjusted.get(pair, math.nan)) for pair, found in pairs.items()}

    def costs_more(self, first: Contender, second: Contender) -> bool:
        """True if the first costs measurably more, by more than the noise floor."""
        return exceeds(self.cost(first, second), self.noise_floor(first, second))

    def costs_differ(self, first: Contender, second: Contender) -> bool:
        """True if the costs differ measurably, by more than the noise floor."""
        return differs(self.cost(first, second), self.noise_floor(first, second))

    def cost_is_noise(self, first: Contender, second: Contender) -> bool:
        """True if the noise floor of the times is known and their costs do not differ by more."""
        return within_noise(self.cost(first, second).mean, self.noise_floor(first, second))

    def noise_floor(self, first: Contender, second: Contender) -> float:
        """The noise floor of the times of both; NaN where no control was timed."""
        return noise_floor(*first.by_seed.values(), *second.by_seed.values())

    @property
    def comparisons(self) -> int:
        """Number of differences that are tested together."""
        return sum(not math.isnan(found.adjusted_p) for found in self.differences.values())

    def difference(self, first: Contender, second: Contender) -> Interval:
        """Difference of robust accuracy over seeds and images, with an interval that is not adjusted."""
        if found := self.differences.get((first, second)):
            return found.over_seeds.interval
        if found := self.differences.get((second, first)):
            mean, low, high = found.over_seeds.interval
            # Not -mean, which would write the difference of equal accuracies as -0.0.
            return Interval(0.0 - mean, 0.0 - high, 0.0 - low)
        return Interval(0.0, math.nan, math.nan) if first is second else NOTHING

    def differs(self, first: Contender, second: Contender) -> int:
        """1 or -1 if the first is more or less robust, by its interval and its adjusted p; 0 if that is not shown."""
        interval = self.difference(first, second)
        found = self.differences.get((first, second)) or self.differences.get((second, first))
        if found is None or not found.adjusted_p < 1 - CONFIDENCE:
            return 0
        return 1 if interval.low > 0 else -1 if interval.high < 0 else 0


def settings(
    manifest: Manifest, measured: Iterable[Measured], allow: Collection[str] = (), unrecorded: bool = False
) -> list[Setting]:
    """The settings of a manifest in its order. Cells that differ in nothing but their seed are one contender.

    A baseline without an evaluation joins the settings of its comparison group, whose costs are relative to it. With
    `unrecorded`, cells without any record are among the contenders.
    """
    own = {cell.id for cell in manifest.cells}
    groups: dict[tuple, dict[str, list[Measured]]] = {}
    for m in measured:
        if m.id in own and (unrecorded or m.timed or m.losses or m.verdicts):
            key = (m.folder, m.cell.comparison_group, judged_alike(m.cell))
            groups.setdefault(key, {}).setdefault(m.cell.seedless.id, []).append(m)
    found = []
    for methods in _with_baselines(manifest, groups):
        cells = {key: members[0].cell.seedless for key, members in methods.items()}
        names, first = Names(cells.values()), next(iter(methods.values()))[0].cell
        contenders = tuple(_contender(manifest, names.label(cells[key]), methods[key]) for key in methods)
        fields = frozenset({*allow, *ARITHMETIC})
        found.append(
            Setting(
                first.dataset,
                first.arch,
                first.ranks,
                figure(list(cells.values())),
                contenders,
                manifest.timing is not None,
                fields,
            )
        )
    return found


def _with_baselines(
    manifest: Manifest, groups: dict[tuple, dict[str, list[Measured]]]
) -> Iterable[dict[str, list[Measured]]]:
    """Yield the methods of each group, those that are judged with a baseline that is not."""
    unjudged = {
        (folder, group): {key: members for key, members in methods.items() if manifest.is_baseline(members[0].cell)}
        for (folder, group, judged), methods in groups.items()
        if judged is None
    }
    joined = {(folder, group) for folder, group, judged in groups if judged is not None}
    for (folder, group, judged), methods in groups.items():
        baselines = unjudged.get((folder, group), {})
        if judged is not None:
            yield baselines | methods
        elif len(baselines) < len(methods) or (folder, group) not in joined:
            yield methods


def _contender(manifest: Manifest, label: str, members: list[Measured]) -> Contender:
    by_seed = {m.cell.seed: m for m in sorted(members, key=lambda m: m.cell.seed)}
    robust = {}
    for seed, m in by_seed.items():
        spec = judging(m.cell)
        if spec and (verdicts := m.verdicts.get(spec.id)):
            radius = judged_radius(m.cell, spec)
            robust[seed] = {image: is_robust(verdict, radius) for image, verdict in verdicts.items()}
    return Contender(label, by_seed, robust, manifest.is_baseline(members[0].cell))
