"""What switches of arithmetic bring each method, and the engine certification: against the plain path, paired."""

import math
from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd

from bench.cell import Cell
from bench.jobs.time_certification import PLAIN, certifications
from bench.manifest.labels import name
from bench.manifest.manifest import Manifest
from bench.records import CertificationTiming, read
from bench.results.columns import columns, named
from bench.results.intervals import nested_ci, paired_ratio
from bench.results.measured import Measured
from bench.results.ratios import matching_baseline, ratio
from bench.results.warnings import remark
from crt.training.recipe import ARITHMETIC, Recipe
from reports.render.table_spec import ARCH, Column, TableSpec, alike, datasets
from reports.tables.timing import share_of_loader

_PLAIN = {key: Recipe.model_fields[key].default for key in ARITHMETIC}
_SPEED = (
    "dataset,arch,method,batch,switches,rounds,s_per_epoch,s_per_epoch_low,s_per_epoch_high,images_per_s,"
    "speedup,speedup_low,speedup_high,slowdown,slowdown_low,slowdown_high,ideal,efficiency,"
    "of_product,of_copy,loader_share,remarks"
).split(",")
_CERTIFICATION = "dataset,arch,way,images,n,rounds,images_per_s,draws_per_s,speedup,speedup_low,speedup_high".split(",")


def switches(cell: Cell) -> str:
    """What its arithmetic differs in from the plain path."""
    changed = {key: value for key, value in cell.compute_settings.items() if value != _PLAIN[key]}
    words = {"precision": "{}", "compile": "compile {}"}
    return ", ".join(words.get(key, key).format(value) for key, value in changed.items()) or "plain"


def speed(manifest: Manifest, measured: list[Measured], allow: Collection[str] = ()) -> pd.DataFrame:
    """A row for each of a method's own arms that was timed; ratios are of one study's rounds."""
    rows = []
    for group in _studies(measured) if manifest.timing and manifest.timing.together == "method" else ():
        plain = next((m for m in group if _own(m, group) and m.cell.compute_settings == _PLAIN), None)
        rows += [
            _row(manifest, m, plain, allow) | {"folder": str(m.folder)}
            for m in group
            # What is compiled is timed beside a plain path that has a row already.
            if m.runs and _own(m, group) and (m is not plain or not _compiled(group))
        ]
    return pd.DataFrame(rows, columns=columns(_SPEED, measured))


def not_reached(manifest: Manifest, measured: list[Measured]) -> Iterator[str]:
    """A line where time ended, or an arm failed, before a first round."""
    if not manifest.timing or manifest.timing.together != "method":
        return
    groups = _studies(measured)
    gone = [group for group in groups if not any(m.runs for m in group)]
    arms = [m for group in groups if group not in gone for m in group if _own(m, group) and not m.runs]
    if gone:
        whose: dict[str, list[str]] = {}
        for group in gone:
            cell = group[0].cell
            whose.setdefault(cell.arch + (" compiled" if _compiled(group) else ""), []).append(cell.method.name)
        words = "; ".join(f"{arch}: {', '.join(methods)}" for arch, methods in whose.items())
        yield f"Not reached: {len(gone)} of {len(groups)} studies ({words})."
    if arms:
        words = "; ".join(dict.fromkeys(f"{m.cell.arch} {m.cell.method.name} {switches(m.cell)}" for m in arms))
        yield f"Not reached, or not possible there: {len(arms)} arms of other studies ({words})."


def certification(manifest: Manifest, measured: list[Measured]) -> pd.DataFrame:
    """A row for each network and way of certifying it; ratios to the plain procedure are of the same round."""
    rows = []
    for folder in dict.fromkeys(m.folder for m in measured):
        for asked in certifications(manifest):
            records = read(folder / asked.id / "run0" / "time.jsonl")
            found = {(r.arm, r.round): r for r in records if isinstance(r, CertificationTiming) and r.round > 0}
            # What is compiled is timed beside a plain procedure that has a row already.
            for way in dict.fromkeys(arm for arm, _ in found if arm != PLAIN or not asked.compiled):
                mine = {turn: r for (arm, turn), r in found.items() if arm == way}
                logs = [math.log(found[PLAIN, t].seconds / r.seconds) for t, r in mine.items() if (PLAIN, t) in found]
                total = sum(r.seconds for r in mine.values())
                row = {"dataset": asked.cell.dataset, "arch": asked.cell.arch, "way": way, "images": asked.images}
                row |= {"n": asked.n, "rounds": len(mine), "folder": str(folder)}
                row["images_per_s"] = sum(r.images for r in mine.values()) / total
                row["draws_per_s"] = sum(r.draws for r in mine.values()) / total
                rows.append(row | (named("speedup", paired_ratio([logs])) if way != PLAIN else {"speedup": 1.0}))
    return pd.DataFrame(rows, columns=columns(_CERTIFICATION, measured))


def _studies(measured: list[Measured]) -> list[list[Measured]]:
    groups: dict[tuple, list[Measured]] = {}
    for m in measured:
        groups.setdefault((m.folder, m.study), []).append(m)
    return list(groups.values())


def _own(m: Measured, group: list[Measured]) -> bool:
    """Whether it is the study's method, and not the baseline beside it."""
    return m.cell.method == group[0].cell.method


def _compiled(group: list[Measured]) -> bool:
    return any(m.cell.recipe.compile for m in group)


def _row(manifest: Manifest, m: Measured, plain: Measured | None, allow: Collection[str]) -> dict:
    cell, base = m.cell, matching_baseline(manifest, m)
    # How many times as long the plain path takes: it differs in what the row is labelled by.
    gained = ratio(plain, m, True, {*allow, *ARITHMETIC}).interval if plain else ratio(m, None, True).interval
    slowdown = ratio(m, base, True, allow).interval
    ideal = m.flops / base.flops if base and m.flops and base.flops else math.nan
    return {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "method": name(cell),
        "batch": cell.recipe.batch_size,
        "switches": switches(cell),
        "rounds": sum(map(len, m.runs.values())) or math.nan,
        **named("s_per_epoch", nested_ci(m.seconds)),
        "images_per_s": 1 / _pace(m),
        **named("speedup", gained),
        **named("slowdown", slowdown),
        "ideal": ideal,
        "efficiency": ideal / slowdown.mean,
        "of_product": _reached(m, m.flops, cell.recipe.precision),
        "of_copy": _reached(m, m.traffic, "copy"),
        "loader_share": share_of_loader(m),
        "remarks": remark(m),
    }


def _pace(m: Measured) -> float:
    """Mean seconds an image of a replay."""
    paces = [pace for run in m.paces.values() for pace in run.values()]
    return float(np.mean(paces)) if paces else math.nan


def _reached(m: Measured, counted: float | None, ceiling: str) -> float:
    """The share of a ceiling, measured in the same process, at which what was counted is done."""
    best = [start.ceilings[ceiling] for start in m.starts if ceiling in start.ceilings]
    return counted / _pace(m) / max(best) if counted and best else math.nan


def speed_table(speed: pd.DataFrame) -> Iterator[TableSpec]:
    """Times under each choice of switches."""
    columns = [
        *(*datasets(speed), ARCH, *alike("method", "name"), *alike("batch", "count"), *alike("switches", "name")),
        Column("s_per_epoch", "s/epoch", "rounded"),
        *alike("speedup slowdown ideal efficiency", "ratio"),
        Column("of_product", "% of product", "percent"),
        Column("of_copy", "% of copy", "percent"),
        Column("loader_share", "loader %", "percent", optional="text"),
    ]
    title = (
        "What switches bring (speedup: against the plain path; slowdown: against the baseline under the same switches)"
    )
    yield TableSpec(title, "", columns, speed, writers="text")


def certification_table(certification: pd.DataFrame) -> Iterator[TableSpec]:
    """Times of certification in each way."""
    paces = [Column(f"{what}_per_s", f"{what}/s", "rounded") for what in ("images", "draws")]
    columns = [*datasets(certification), ARCH, *alike("way", "name"), *paces, *alike("speedup", "ratio")]
    title = "Certification, against the plain procedure on the same images and noise"
    yield TableSpec(title, "", columns, certification, writers="text")
