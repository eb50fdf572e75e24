"""Effect of arithmetic switches on each method, and of the certification engine, paired with the plain path."""

import math
from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd

from bench.manifest.labels import PLAIN_SETTINGS, name, switches, switches_in_words
from bench.manifest.manifest import Manifest
from bench.records import PLAIN, CertificationTiming, Start, read
from bench.results.columns import Source, columns, named
from bench.results.intervals import nested_ci, paired_ratio
from bench.results.measured import Measured
from bench.results.noise import noise_floor
from bench.results.ratios import matching_baseline, ratio
from bench.results.warnings import remark
from crt.training.recipe import ARITHMETIC
from reports.render.table_spec import ARCH, Column, TableSpec, alike, datasets
from reports.tables.noise import NOISE_FLOOR, ratio_of_times, with_marks
from reports.tables.timing import share_of_loader

_SPEED = (
    "dataset,arch,method,batch,switches,rounds,s_per_epoch,s_per_epoch_low,s_per_epoch_high,images_per_s,"
    "speedup,speedup_low,speedup_high,slowdown,slowdown_low,slowdown_high,ideal,efficiency,"
    "of_product,of_copy,loader_share,remarks,noise_floor"
).split(",")
_CERTIFICATION = "dataset,arch,way,images,n,rounds,images_per_s,draws_per_s,speedup,speedup_low,speedup_high".split(",")


def _chosen(m: Measured) -> str:
    """The cell's settings, with the switches that a trial chose."""
    choices = " or ".join(map(switches_in_words, m.chosen))
    return f"{switches(m.cell)} ({choices})" if choices else switches(m.cell)


def speed(manifest: Manifest, measured: list[Measured], allow: Collection[str] = ()) -> pd.DataFrame:
    """A row for each timed arm of a method; ratios are paired by round within one study."""
    rows = []
    for group in _studies(measured) if manifest.timing and manifest.timing.together == "method" else ():
        plain = next((m for m in group if _own(m, group) and m.cell.compute_settings == PLAIN_SETTINGS), None)
        rows += [
            _row(manifest, m, plain, allow) | {"folder": str(m.folder)}
            for m in group
            # A study of compiled arms times the plain path again, which has a row already.
            if m.runs and _own(m, group) and (m is not plain or not _compiled(group))
        ]
    return pd.DataFrame(rows, columns=columns(_SPEED, measured))


def not_reached(manifest: Manifest, measured: list[Measured]) -> Iterator[str]:
    """Yield a line for studies and arms without a round, because time ended or the arm failed; none where all are."""
    if not manifest.timing or manifest.timing.together != "method":
        return
    groups = _studies(measured)
    absent = [group for group in groups if not any(m.runs for m in group)]
    if len(absent) == len(groups):
        return
    arms = [m for group in groups if group not in absent for m in group if _own(m, group) and not m.runs]
    if absent:
        methods: dict[str, list[str]] = {}
        for group in absent:
            cell = group[0].cell
            methods.setdefault(cell.arch + (" compiled" if _compiled(group) else ""), []).append(cell.method.name)
        words = "; ".join(f"{arch}: {', '.join(names)}" for arch, names in methods.items())
        yield f"Not timed: {len(absent)} of {len(groups)} studies ({words})."
    if arms:
        words = "; ".join(dict.fromkeys(f"{m.cell.arch} {m.cell.method.name} {switches(m.cell)}" for m in arms))
        yield f"Not timed, or not supported on this device: {len(arms)} arms of other studies ({words})."


def certification(manifest: Manifest, measured: list[Measured]) -> pd.DataFrame:
    """A row for each network and certification procedure; ratios to the plain procedure are paired by round."""
    rows = []
    for folder in dict.fromkeys(m.folder for m in measured):
        for study in manifest.certifications:
            records = read(folder / study.id / "run0" / "time.jsonl")
            starts = [record for record in records if isinstance(record, Start)]
            source = Source(Measured(study.cell, folder, starts, study=study.id))
            timings = {(r.arm, r.round): r for r in records if isinstance(r, CertificationTiming) and r.round > 0}
            # A compiled study times the plain procedure again, which has a row already.
            for procedure in dict.fromkeys(arm for arm, _ in timings if arm != PLAIN or not study.compiled):
                rounds = {k: r for (arm, k), r in timings.items() if arm == procedure}
                logs = [
                    math.log(timings[PLAIN, k].seconds / r.seconds) for k, r in rounds.items() if (PLAIN, k) in timings
                ]
                total = sum(r.seconds for r in rounds.values())
                row = {"dataset": study.cell.dataset, "arch": study.cell.arch, "way": procedure, "images": study.images}
                row |= {"n": study.n, "rounds": len(rounds), "folder": str(folder), "source": source}
                row["images_per_s"] = sum(r.images for r in rounds.values()) / total
                row["draws_per_s"] = sum(r.draws for r in rounds.values()) / total
                rows.append(row | (named("speedup", paired_ratio([logs])) if procedure != PLAIN else {"speedup": 1.0}))
    return pd.DataFrame(rows, columns=columns(_CERTIFICATION, measured))


def _studies(measured: list[Measured]) -> list[list[Measured]]:
    groups: dict[tuple, list[Measured]] = {}
    for m in measured:
        groups.setdefault((m.folder, m.study), []).append(m)
    return list(groups.values())


def _own(m: Measured, group: list[Measured]) -> bool:
    """True for the study's method, False for the baseline beside it."""
    return m.cell.method == group[0].cell.method


def _compiled(group: list[Measured]) -> bool:
    return any(m.cell.recipe.compile for m in group)


def _row(manifest: Manifest, m: Measured, plain: Measured | None, allow: Collection[str]) -> dict:
    cell, base = m.cell, matching_baseline(manifest, m)
    # The plain path differs in the settings of the row's label, so they may differ here.
    gained = ratio(plain, m, True, {*allow, *ARITHMETIC}).interval if plain else ratio(m, None, True).interval
    slowdown = ratio(m, base, True, allow).interval
    ideal = m.flops / base.flops if base and m.flops and base.flops else math.nan
    return {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "method": name(cell),
        "batch": cell.recipe.batch_size,
        "switches": _chosen(m),
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
        "noise_floor": noise_floor(m),
        "source": Source(m, plain),
    }


def _pace(m: Measured) -> float:
    """Mean seconds per image and replay."""
    paces = [pace for run in m.paces.values() for pace in run.values()]
    return float(np.mean(paces)) if paces else math.nan


def _reached(m: Measured, counted: float | None, ceiling: str) -> float:
    """Counted work per second as a share of a peak rate that was measured in the same process."""
    best = [start.ceilings[ceiling] for start in m.starts if ceiling in start.ceilings]
    return counted / _pace(m) / max(best) if counted and best else math.nan


def speed_table(speed: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the times under each choice of switches."""
    columns = [
        *(
            *datasets(speed),
            ARCH,
            *alike("method", "name"),
            *alike("batch", "count", hide=4),
            *alike("switches", "name"),
        ),
        Column("s_per_epoch", "s/epoch", "rounded"),
        ratio_of_times("speedup"),
        ratio_of_times("slowdown"),
        NOISE_FLOOR,
        *(*alike("ideal", "ratio", hide=6), *alike("efficiency", "ratio", hide=5)),
        Column("of_product", "% of product", "percent", hide=3),
        Column("of_copy", "% of copy", "percent", hide=2),
        Column("loader_share", "loader %", "percent", optional="text", hide=1),
    ]
    title = (
        "Effect of switches (speedup: relative to the plain path; slowdown: relative to the baseline with the same"
        " switches)"
    )
    yield TableSpec(title, "", columns, with_marks(speed, "speedup slowdown"), writers="text")


def certification_table(certification: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the times of each certification procedure."""
    paces = [Column(f"{what}_per_s", f"{what}/s", "rounded") for what in ("images", "draws")]
    columns = [*datasets(certification), ARCH, Column("way", "procedure", "name"), *paces, *alike("speedup", "ratio")]
    title = "Certification, relative to the plain procedure on the same images and noise"
    yield TableSpec(title, "", columns, certification, writers="text")
