"""Factors of the ratio of two training times, and means of ratios over architectures."""

import math
from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd

from bench.cell import StepKey
from bench.manifest.labels import Names, epochs
from bench.manifest.manifest import Manifest
from bench.results.columns import Source, columns, named
from bench.results.expenses import whole_hours
from bench.results.intervals import mean_ratio
from bench.results.measured import Measured
from bench.results.noise import noise_floor
from bench.results.pairs import comparable_pairs, pair_kind, shown
from bench.results.ratios import baseline_at, pairs, ratio
from crt.training.recipe import ARITHMETIC
from reports.render.table_spec import ARCH, BOTH, INTERVALS, Column, TableSpec, alike, datasets
from reports.tables.noise import NOISE_FLOOR, ratio_of_times, with_marks

_PRODUCT = ("epochs", "passes", "batch", "precision")


def factors(
    manifest: Manifest, measured: list[Measured], allow: Collection[str] = (), every: bool = True
) -> pd.DataFrame:
    """A row for every two arms timed side by side: the ratio of their training times, and its factors.

    total = epochs x passes x batch x precision x host. Replays count as epochs; passes is the ratio of counted
    operations per epoch; batch and precision (with the other compute settings) are the baseline's measured gains from
    them; host is the rest, which these do not explain. Without `every`, those of pairs that no table shows are not
    computed.
    """
    names = Names(manifest.cells)
    couples = [(slow, fast, pair_kind(manifest, slow, fast)) for slow, fast in _pairs(manifest, measured)]
    every = every or all(kind == "other" for *_, kind in couples)
    rows = [
        _names(slow, fast, names)
        | {"couple": kind}
        | (_factors(manifest, slow, fast, allow) if every or kind != "other" else {})
        for slow, fast, kind in couples
    ]
    heads = [
        "dataset",
        "arch",
        "slower",
        "faster",
        "total",
        "total_low",
        "total_high",
        *_PRODUCT,
        "host",
        "paper_total",
        "couple",
        "noise_floor",
    ]
    return pd.DataFrame(rows, columns=columns(heads, measured))


def _pairs(manifest: Manifest, measured: list[Measured]) -> Iterator[tuple[Measured, Measured]]:
    """Yield every two of the manifest's cells that one process may time, the slower first.

    A study with `together: method` has none: it compares the compute settings of one method."""
    if manifest.timing and manifest.timing.together == "method":
        return
    own = {cell.id for cell in manifest.cells}
    groups: dict[tuple, dict[Measured, float]] = {}
    for m in measured:
        if m.runs and m.flops and m.id in own:
            groups.setdefault((m.folder, m.cell.comparison_group), {})[m] = whole_hours(m)
    for hours in groups.values():
        for pair in comparable_pairs(hours):
            slow, fast = sorted(pair, key=lambda m: hours[m], reverse=True)
            yield slow, fast


def _names(slow: Measured, fast: Measured, names: Names) -> dict[str, object]:
    return {
        "dataset": slow.cell.dataset,
        "arch": slow.cell.arch,
        "slower": names.label(slow.cell),
        "faster": names.label(fast.cell),
        "folder": str(slow.folder),
        "source": Source(slow, fast),
    }


def _factors(manifest: Manifest, slow: Measured, fast: Measured, allow: Collection[str]) -> dict[str, float]:
    # Compute settings are a factor of their own here, so they may differ.
    per_epoch = ratio(slow, fast, manifest.timing is not None, {*allow, *ARITHMETIC}).interval
    longer = epochs(slow.cell) / epochs(fast.cell)
    settings, target = slow.cell.step_key.compute_settings, fast.cell.step_key
    factors = {
        "epochs": longer,
        "passes": _operations_ratio(slow, fast),
        "batch": _gain(manifest, slow, slow.cell.step_key, StepKey(target.images, settings), allow),
        "precision": _gain(manifest, slow, StepKey(target.images, settings), target, allow),
    }
    explained, paper = math.prod(factors.values()), slow.cell.paper.total
    return {
        "total": longer * per_epoch.mean,
        "total_low": longer * per_epoch.low,
        "total_high": longer * per_epoch.high,
        **factors,
        "host": longer * per_epoch.mean / explained,
        "paper_total": paper if manifest.is_baseline(fast.cell) and paper is not None else math.nan,
        "noise_floor": noise_floor(slow, fast),
    }


def _operations_ratio(slow: Measured, fast: Measured) -> float:
    """Ratio of the counted operations per epoch; NaN where they were not counted."""
    return slow.flops / fast.flops if slow.flops and fast.flops else math.nan


def _gain(manifest: Manifest, m: Measured, slow: StepKey, fast: StepKey, allow: Collection[str]) -> float:
    """Ratio of the baseline's times at two step keys; NaN where one is not measured."""
    if slow == fast:
        return 1.0
    slower, faster = (baseline_at(manifest, m, key) for key in (slow, fast))
    if slower is None or faster is None:
        return math.nan
    return ratio(slower, faster, manifest.timing is not None, {*allow, *ARITHMETIC}).interval.mean


def means(manifest: Manifest, measured: list[Measured]) -> pd.DataFrame:
    """A row for every two methods of a timing study: mean ratio of their epoch times over the architectures.

    Each method has its own recipe. The geometric mean does not depend on which method is the numerator; the arithmetic
    mean is there because papers print it.
    """
    names = Names(manifest.cells)
    groups: dict[tuple, list[tuple[Measured, Measured]]] = {}
    for slow, fast in _pairs(manifest, measured) if manifest.timing else ():
        shape = (slow.cell.loader, slow.cell.ranks, slow.cell.nodes)
        key = (slow.cell.dataset, *(names.label(m.cell) for m in (slow, fast)), str(slow.folder), shape)
        groups.setdefault(key, []).append((slow, fast))
    rows = []
    for (dataset, slower, faster, folder, _), arch_pairs in groups.items():
        logs = [pairs(slow, fast) for slow, fast in arch_pairs]
        if len(arch_pairs) < 2 or len({slow.cell.arch for slow, _ in arch_pairs}) < len(arch_pairs) or not all(logs):
            continue
        row = {
            "dataset": dataset,
            "slower": slower,
            "faster": faster,
            "architectures": len(arch_pairs),
            "folder": folder,
            "source": Source(*arch_pairs[0]),
        }
        for kind in ("geometric", "arithmetic"):
            row |= named(kind, mean_ratio(logs, kind))
        ideals = [_operations_ratio(slow, fast) for slow, fast in arch_pairs]
        row["couple"] = pair_kind(manifest, *arch_pairs[0])
        row["noise_floor"] = noise_floor(*(slow for slow, _ in arch_pairs))
        rows.append(row | {"ideal": float(np.exp(np.mean(np.log(ideals))))})
    spread = [f"{kind}{end}" for kind in ("geometric", "arithmetic") for end in ("", "_low", "_high")]
    heads = ["dataset", "slower", "faster", "architectures", *spread, "ideal", "couple", "noise_floor"]
    return pd.DataFrame(rows, columns=columns(heads, measured))


def factors_table(factors: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the factors of the pairs that papers compare."""
    columns = [
        ratio_of_times("total"),
        NOISE_FLOOR,
        *alike("epochs passes", "ratio"),
        *alike("batch precision", "ratio", optional="text"),
        *alike("host", "ratio"),
        Column("paper_total", "paper total", "ratio", "published", "total", optional=BOTH),
    ]
    rows = with_marks(factors, "total")
    title = "Factors of the training time: total = epochs x passes x batch x precision x host"
    yield _pair_table(title, "factors of the training time; their product is the total.", [ARCH], columns, rows)


def means_table(means: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the means over architectures of the pairs that papers compare."""
    kinds = [ratio_of_times(kind, f"{kind} mean", kind, "mean") for kind in ("geometric", "arithmetic")]
    columns = [*alike("architectures", "count"), *kinds, NOISE_FLOOR, *alike("ideal", "ratio")]
    rows = with_marks(means, "geometric arithmetic")
    title = "Ratio of epoch times, mean over architectures"
    yield _pair_table(title, "ratio of epoch times, mean over architectures.", [], columns, rows)


def _pair_table(title: str, caption: str, first: list[Column], last: list[Column], frame: pd.DataFrame) -> TableSpec:
    rows = shown(frame)
    rows = rows.assign(pair=rows["slower"] + " / " + rows["faster"])
    pair = [Column("pair", "slower / faster", "name", writers="text"), *alike("slower faster", "name", writers="latex")]
    return TableSpec(title, caption, [*datasets(rows), *first, *pair, *last], rows, [INTERVALS])
