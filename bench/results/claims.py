"""Published figures beside what was measured, each with a verdict.

A figure is compared where it was measured in the published setting. The rule by kind of figure:

- Accuracies, certified accuracies and average certified radii hold on any machine. They need all epochs of training and
  all images of the evaluation.
- Ratios of times (`slowdown`, `total` and the ratios of comparisons) are of times measured side by side, and hold on
  any GPU. A ratio measured on a CPU is another setting (device type) where the paper names a GPU.
- Seconds, hours and memory hold for one model of GPU. On any other, or where the manifest does not name the paper's,
  they are another setting (device).

A figure of a manifest that `--quick` reduces, or of a cell in which `--set` changes more than seed and loader, is
another setting. In the published setting, `verdict` decides.
"""

import math
import re
from collections.abc import Collection, Iterator
from typing import Any, Literal, NamedTuple

from bench.cell import Cell
from bench.manifest.manifest import Manifest
from bench.published import Comparison, Figure
from bench.results import counterparts
from bench.results.counterparts import Counterpart
from bench.results.measured import Measured
from bench.results.statistics import Interval

Verdict = Literal["within", "above", "below", "not measured", "different setting"]


class Metric(NamedTuple):
    """Kind of a published figure; `label` may hold `{radius}`."""

    label: str
    unit: str
    holds: Literal["anywhere", "on a GPU", "on a device"]


METRICS = {
    "s_per_epoch": Metric("time per epoch", "s", "on a device"),
    "hours": Metric("training", "h", "on a device"),
    "hours_with_teacher": Metric("training with teacher", "h", "on a device"),
    "slowdown": Metric("slowdown of an epoch", "x", "on a GPU"),
    "total": Metric("slowdown of the training", "x", "on a GPU"),
    "memory_gb": Metric("peak memory", "GB", "on a device"),
    "clean": Metric("clean accuracy", "%", "anywhere"),
    "robust": Metric("robust accuracy", "%", "anywhere"),
    "acr": Metric("ACR", "", "anywhere"),
    "certified": Metric("certified at {radius}", "%", "anywhere"),
    "similarity": Metric("similarity", "%", "anywhere"),
    "lipschitz": Metric("Lipschitz constant", "", "anywhere"),
    "epoch_ratio": Metric("epoch, mean ratio", "x", "on a GPU"),
    "training_ratio": Metric("training, mean ratio", "x", "on a GPU"),
    "training_ratio_with_teacher": Metric("training with teacher, mean ratio", "x", "on a GPU"),
    "slower_hours": Metric("all trainings of the slower", "h", "on a device"),
    "faster_hours": Metric("all trainings of the faster", "h", "on a device"),
    "hours_saved": Metric("hours saved", "%", "on a GPU"),
}
"""Figures of `bench.published.Paper`, then those of `bench.published.Comparison`."""


class Claim(NamedTuple):
    """A published figure, its measured counterpart, and the verdict."""

    of: Measured | Comparison
    """The cell, or the comparison of several."""
    folder: str
    metric: str
    radius: float
    """Radius of a certified accuracy; else NaN."""
    published: Figure
    measured: Counterpart
    verdict: Verdict = "not measured"
    fields: tuple[str, ...] = ()
    """Fields in which the setting differs from the published one."""
    reason: str = ""


Changes = dict[str, dict[str, str]]
"""By id of a cell, the settings that `--set` changes, and how."""


def verdict(published: Figure, measured: Interval) -> Literal["within", "above", "below"]:
    """Verdict on a figure that was measured in the published setting.

    The print stands for all values from `published.low` to `published.high`: the figure, half a unit of its last
    digit, and its uncertainty if one is printed. `within`: the 95 % interval of what was measured has a value in
    common with them, ends included. `above`: all of the interval is greater; `below`: all of it is less. Without an
    interval, the measured value stands for itself.
    """
    low, high = (measured.mean if math.isnan(end) else end for end in measured[1:])
    if low > published.high:
        return "above"
    return "below" if high < published.low else "within"


def judge(
    manifest: Manifest, measured: list[Measured], original: Manifest, allow: Collection[str] = ()
) -> Iterator[Claim]:
    """Yield one claim for each published figure of each cell and comparison, in each runs folder.

    `original` is the manifest without changes by `--set`. ValueError for a ratio of times that differ in a field that
    is not in `allow`.
    """
    changed = _changed(manifest, original)
    folders: dict[str, dict[str, Measured]] = {}
    for m in measured:
        own = folders.setdefault(str(m.folder), {})
        # Several studies may hold the same arm, and some of them may have no time for it yet.
        if m.id in changed and (m.id not in own or (m.timed and not own[m.id].timed)):
            own[m.id] = m
    for folder, own in folders.items():
        cells = [own[cell.id] for cell in manifest.cells if cell.id in own]
        for m in cells:
            for metric, radius, figure in figures(m.cell):
                counterpart = counterparts.of_cell(manifest, m, metric, radius, allow)
                yield _judged(manifest, changed, [m], Claim(m, folder, metric, radius, figure, counterpart))
        for comparison in manifest.published.comparisons:
            for metric, figure in _figures_of(comparison):
                pairs = counterparts.pairs(cells, comparison, allow)
                counterpart = counterparts.of_pairs(manifest, pairs, metric)
                both = list(dict.fromkeys(m for pair in pairs for m in pair))
                claim = Claim(comparison, folder, metric, math.nan, figure, counterpart)
                yield _judged(manifest, changed, both, claim)


def figures(cell: Cell) -> Iterator[tuple[str, float, Figure]]:
    """Yield metric, radius (NaN but for certified accuracies) and figure of each published figure of a cell."""
    for metric, figure in cell.paper:
        if metric == "certified":
            yield from ((metric, radius, percent) for radius, percent in figure.items())
        elif figure is not None:
            yield metric, math.nan, figure


def _figures_of(comparison: Comparison) -> Iterator[tuple[str, Figure]]:
    yield from ((metric, figure) for metric, figure in comparison if isinstance(figure, Figure))


def _judged(manifest: Manifest, changed: Changes, cells: list[Measured], claim: Claim) -> Claim:
    """The claim with its verdict; `cells` are those that the figure is about."""
    interval = claim.measured.interval
    if claim.measured.missing or math.isnan(interval.mean):
        return claim._replace(reason=claim.measured.missing)
    differences = dict(_differences(manifest, changed, cells, claim))
    if differences:
        reason = "; ".join(f"{field}: {how}" for field, how in differences.items())
        return claim._replace(verdict="different setting", fields=tuple(differences), reason=reason)
    reason = "no interval" if math.isnan(interval.low) else ""
    return claim._replace(verdict=verdict(claim.published, interval), reason=reason)


def _differences(
    manifest: Manifest, changed: Changes, cells: list[Measured], claim: Claim
) -> Iterator[tuple[str, str]]:
    """Yield the fields in which what was measured differs from the published setting, and how."""
    metric, counterpart = METRICS[claim.metric], claim.measured
    if manifest.quick:
        yield "--quick", "reduced"
        return
    for m in cells:
        yield from changed[m.id].items()
    devices = sorted({start.device for m in cells for start in m.starts})
    published = manifest.published.device
    if metric.holds == "on a device" and not (devices and all(_is_model(device, published) for device in devices)):
        named = published or "one that the manifest does not name"
        yield "device", f"{', '.join(devices) or 'not recorded'}, published on {named}"
    if metric.holds == "on a GPU" and published and "cpu" in devices:
        yield "device type", f"CPU, published on {published}"
    if counterpart.n < counterpart.expected:
        yield "images", f"{counterpart.n:,} of {counterpart.expected:,} evaluated"
    for m in cells if metric.holds == "anywhere" else ():
        if len(m.losses) < m.cell.recipe.epochs:
            yield "epochs", f"{len(m.losses)} of {m.cell.recipe.epochs} trained"


def _is_model(device: str, published: str | None) -> bool:
    """True if the device's name has all words of the published one: `Tesla V100-SXM2-16GB` is a `V100`."""
    words, wanted = (set(re.findall(r"\w+", name.lower())) for name in (device, published or ""))
    return bool(wanted) and wanted <= words


def _changed(manifest: Manifest, original: Manifest) -> Changes:
    if manifest is original:
        return {cell.id: {} for cell in manifest.cells}
    if len(manifest.cells) != len(original.cells):
        return {cell.id: {"--set": "the manifest's list of cells is changed"} for cell in manifest.cells}
    changes = {}
    for cell, written in zip(manifest.cells, original.cells, strict=True):
        now, before = _settings(cell), _settings(written)
        names = [name for name in now | before if now.get(name) != before.get(name)]
        changes[cell.id] = {name: f"{now.get(name)}, published {before.get(name)}" for name in names}
    return changes


def _settings(cell: Cell) -> dict[str, Any]:
    """The settings of a cell that a published figure depends on, by name."""
    parts = {"recipe": cell.recipe.model_dump(), "threat": cell.threat.model_dump(), "method": cell.arguments}
    settings = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    names = ("dataset", "pipeline", "arch", "images", "ranks", "nodes", "select")
    settings |= {name: getattr(cell, name) for name in names}
    evals = [f"{spec.label} of {spec.images or 'all'} images, every {spec.every}" for spec in cell.evals]
    parents = {
        key: network.id if network else None for key, network in (("teacher", cell.teacher), ("init", cell.init))
    }
    return settings | parents | {"method": cell.method.name, "evals": "; ".join(evals)}
