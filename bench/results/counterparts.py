"""The measured counterpart of each published figure, in the figure's unit."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from statistics import fmean
from typing import NamedTuple

from bench.cell import Cell, Spec
from bench.manifest.labels import epochs
from bench.manifest.manifest import Manifest
from bench.manifest.plugin_spec import evaluation
from bench.published import Comparison
from bench.results.accuracy import average_certified_radius, certified_accuracy, share
from bench.results.expenses import expenses
from bench.results.intervals import RUNS, nested_ci
from bench.results.measured import Measured
from bench.results.ratios import baseline_as_published, mismatched_fields, ratio
from bench.results.robustness import at_eps, eps_of, grid, has_eps, kind, principal, radii, right
from bench.results.statistics import NOTHING, Interval
from crt.training.recipe import ARITHMETIC

Turns = Mapping[tuple[int, int], float]
"""Values by run and round."""


class Counterpart(NamedTuple):
    """A measured figure."""

    interval: Interval = NOTHING
    n: int = 0
    """Images of an accuracy or a radius; runs of a time, or epochs where there are fewer than RUNS runs."""
    expected: int = 0
    """Images that the evaluation asks for; 0 for times."""
    missing: str = ""
    """Reason why nothing was measured."""


def of_cell(manifest: Manifest, m: Measured, metric: str, radius: float, allow: Collection[str]) -> Counterpart:
    """Counterpart of a figure of `bench.published.Paper`; `radius` is that of a certified accuracy.

    ValueError for a ratio of times that differ in a field that is not in `allow`.
    """
    if metric in ("similarity", "lipschitz"):
        return Counterpart(missing="python -m bench.similarity measures it")
    if metric in ("clean", "robust", "acr", "certified"):
        return _of_images(m, metric, radius)
    if not m.timed:
        return Counterpart(missing="no timed epoch")
    if metric == "memory_gb":
        return _memory(m)
    if metric in ("slowdown", "total"):
        return _slowdown(manifest, m, metric == "total", allow)
    if metric == "s_per_epoch":
        return Counterpart(nested_ci(m.seconds), _count(m))
    return _over_turns(m, hours_with_teacher(m) if metric == "hours_with_teacher" else hours(m))


Pairs = list[tuple[Measured, Measured]]
"""The slower and the faster cell of each pair."""


def pairs(cells: Iterable[Measured], comparison: Comparison, allow: Collection[str]) -> Pairs:
    """Pairs of a comparison among cells of one runs folder: two methods on one architecture.

    ValueError for times that differ in a field that is not in `allow`.
    """
    slower, faster = (
        [m for m in cells if m.cell.method.name == name] for name in (comparison.slower, comparison.faster)
    )
    found = [
        (slow, fast)
        for slow in slower
        for fast in faster
        if slow.cell.comparison_group == fast.cell.comparison_group
        and slow.cell.threat == fast.cell.threat
        and comparison.arch in (None, slow.cell.arch)
    ]
    for slow, fast in found:
        mismatched_fields(slow, fast, {*allow, *ARITHMETIC})
    return found


def of_pairs(manifest: Manifest, pairs: Pairs, metric: str) -> Counterpart:
    """Counterpart of a figure of `bench.published.Comparison`."""
    timed = [pair for pair in pairs if all(m.timed for m in pair)]
    if not pairs:
        return Counterpart(missing="the manifest has no such pair")
    if len(timed) < len(pairs):
        return Counterpart(missing=f"{len(timed)} of {len(pairs)} pairs are timed")
    with_teacher = metric == "training_ratio_with_teacher"
    slow = {s: hours(s) for s, _ in pairs}
    fast = {f: hours_with_teacher(f) if with_teacher else hours(f) for _, f in pairs}
    if not all((*slow.values(), *fast.values())):
        return Counterpart(missing="the hours of a teacher are unknown")
    one_epoch = metric == "epoch_ratio"

    def value(key: tuple[int, int]) -> float:
        slower, faster = ({m: _at(turns, key) for m, turns in side.items()} for side in (slow, fast))
        if metric == "slower_hours":
            return sum(slower.values())
        if metric == "faster_hours":
            return sum(faster.values())
        if metric == "hours_saved":
            return sum(faster.values()) / sum(slower.values())
        return fmean(slower[s] / faster[f] * (epochs(f.cell) / epochs(s.cell) if one_epoch else 1) for s, f in pairs)

    first = pairs[0][0]
    counterpart = _over_turns(first, {key: value(key) for key in slow[first]})
    if metric == "hours_saved":
        mean, low, high = counterpart.interval
        counterpart = counterpart._replace(interval=Interval(*(100 * (1 - share) for share in (mean, high, low))))
    # Epochs of separate trainings are not paired, and one training does not tell how trainings vary.
    unpaired = manifest.timing is None and "hours" not in metric
    return counterpart._replace(interval=_without_ends(counterpart.interval)) if unpaired else counterpart


def hours(m: Measured) -> Turns:
    """Hours of the whole training, from each timed epoch; each replay counts as an epoch."""
    images = m.cell.data.train_images * epochs(m.cell) / 3600
    return {(run, turn): pace * images for run, paces in m.paces.items() for turn, pace in paces.items()}


def hours_with_teacher(m: Measured) -> Turns:
    """Hours of the whole training and of all its expenses (see `bench.results.expenses`); empty where one is unknown.

    A teacher that was not timed in a run and round counts with its mean.
    """
    own, teachers = hours(m), [hours(teacher) for teacher in m.teachers]
    others = sum(each.hours for each in expenses(m) if each.kind != "training")
    if math.isnan(others) or not all(teachers):
        return {}
    return {key: value + others + sum(_at(turns, key) for turns in teachers) for key, value in own.items()}


def specs_of(cell: Cell, metric: str) -> list[Spec]:
    """Evaluations that give a figure, the preferred one first.

    A published accuracy at eps belongs to the first attack, or to the first bound, at the threat's eps.
    """
    if metric == "clean":
        first = principal(cell, [spec for spec in cell.evals if has_eps(spec.name)])
        return [*(spec for spec in cell.evals if kind(spec.name) == "clean"), *([first] if first else [])]
    if metric == "robust":
        first = principal(cell, [spec for spec in cell.evals if kind(spec.name) == "attack"])
        return [first] if first and eps_of(cell, first) == cell.threat.eps else []
    smoothing = [spec for spec in cell.evals if kind(spec.name) == "smoothing"]
    # What measures radii has every figure; a grid has the certified accuracies of its own radii.
    smoothing.sort(key=lambda spec: grid(spec) is not None)
    first = principal(cell, [spec for spec in cell.evals if kind(spec.name) == "bound"])
    return [*smoothing, *([first] if first else [])]


def _of_images(m: Measured, metric: str, radius: float) -> Counterpart:
    specs = specs_of(m.cell, metric)
    spec = next((spec for spec in specs if m.verdicts.get(spec.id)), None)
    if spec is None:
        return Counterpart(missing="not evaluated yet" if specs else "no evaluation of the manifest gives it")
    verdicts = list(m.verdicts[spec.id].values())
    bound = kind(spec.name) == "bound" and not evaluation(spec, m.cell.threat).measures_radius
    if bound and (metric == "acr" or not math.isclose(radius, eps_of(m.cell, spec))):
        return Counterpart(missing="the bound decides at the threat's eps alone")
    decided = grid(spec)
    if decided and (metric == "acr" or (metric == "certified" and radius not in decided)):
        return Counterpart(missing=f"the grid decides at {', '.join(f'{r:g}' for r in decided)} alone, and has no ACR")
    measure: dict[str, Callable[[], Interval]] = {
        "clean": lambda: share(map(right, verdicts)),
        "robust": lambda: at_eps(m, spec),
        "acr": lambda: average_certified_radius(radii(verdicts)),
        "certified": lambda: certified_accuracy(radii(verdicts), radius),
    }
    interval = measure[metric]()
    if metric != "acr":
        interval = Interval(*(100 * end for end in interval))
    return Counterpart(interval, len(verdicts), len(spec.indices(m.cell.data.test_images)))


def _memory(m: Measured) -> Counterpart:
    memories = [peak for run in m.runs.values() for e in run.values() if (peak := e.peak_memory) is not None]
    if not memories:
        return Counterpart(missing="no record of the GPU's memory")
    # Records and the tools of GPUs count in powers of 1,024.
    return Counterpart(Interval(max(memories) / 1024, math.nan, math.nan), _count(m))


def _slowdown(manifest: Manifest, m: Measured, whole: bool, allow: Collection[str]) -> Counterpart:
    """Time of an epoch, or of the whole training, over that of the baseline with its own recipe."""
    base = baseline_as_published(manifest, m)
    if base is None or not base.timed:
        return Counterpart(missing="the baseline is not timed")
    per_epoch = ratio(m, base, manifest.timing is not None, {*allow, *ARITHMETIC}).interval
    longer = epochs(m.cell) / epochs(base.cell) if whole else 1.0
    return Counterpart(Interval(*(longer * end for end in per_epoch)), _count(m))


def _over_turns(m: Measured, turns: Turns) -> Counterpart:
    """Mean over runs and rounds with its interval."""
    if not turns:
        return Counterpart(missing="the hours of a teacher are unknown")
    runs: dict[int, list[float]] = defaultdict(list)
    for (run, _), value in turns.items():
        runs[run].append(value)
    return Counterpart(nested_ci(list(runs.values())), _count(m))


def _at(turns: Turns, key: tuple[int, int]) -> float:
    return turns[key] if key in turns else fmean(turns.values())


def _count(m: Measured) -> int:
    runs = [run for run in m.runs.values() if run]
    return len(runs) if len(runs) >= RUNS else sum(map(len, runs))


def _without_ends(interval: Interval) -> Interval:
    return Interval(interval.mean, math.nan, math.nan)
