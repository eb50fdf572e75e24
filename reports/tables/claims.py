"""The tables of published figures beside measured ones, and the columns of their CSV."""

import math
from collections.abc import Collection, Iterator

import pandas as pd

from bench.cell import Cell
from bench.manifest.labels import Names, lineage, name
from bench.manifest.manifest import Manifest
from bench.published import Comparison, Figure
from bench.results.claims import METRICS, Claim, judge
from bench.results.columns import columns, named
from bench.results.measured import Measured
from bench.results.statistics import NOTHING
from reports.render.table_spec import INTERVALS, Column, TableSpec, alike, datasets

_NAMES = (
    "dataset,arch,method,label,teacher,chain,sigma,metric,radius,figure,unit,printed,published,plus_minus,rounding,measured,"
    "measured_low,measured_high,n,verdict,fields,reason,teacher_published,teacher_measured,teacher_measured_low,"
    "teacher_measured_high,id"
).split(",")


def claims(
    manifest: Manifest, measured: list[Measured], original: Manifest, allow: Collection[str] = ()
) -> pd.DataFrame:
    """A row for each published figure, in its own unit, with the 95 % interval of what was measured and a verdict.

    `label` tells cells of one method apart. `chain` counts the teachers behind a student, and `teacher_published` and
    `teacher_measured` are the ACR of the nearest, where it is a cell of the manifest. `bench.results.claims` states the
    rule of verdicts. `original` is the manifest without changes by `--set`. ValueError for a ratio of times that differ
    in a field that is not in `allow`.
    """
    found = list(judge(manifest, measured, original, allow))
    acr = {(each.folder, each.of.id): each for each in found if isinstance(each.of, Measured) and each.metric == "acr"}
    names = Names(manifest.cells)
    rows = [_row(manifest, each, acr, names) for each in found]
    return pd.DataFrame(rows, columns=columns(_NAMES, measured))


def _row(manifest: Manifest, claim: Claim, acr: dict[tuple[str, str], Claim], names: Names) -> dict:
    metric, figure, counterpart = METRICS[claim.metric], claim.published, claim.measured
    label = metric.label.format(radius=f"{claim.radius:.4g}")
    if isinstance(claim.of, Measured):
        network = _network(claim.of.cell, claim, acr, names)
    else:
        network = _networks(manifest, claim.of)
    return network | {
        "metric": claim.metric,
        "radius": claim.radius,
        "figure": f"{label} ({metric.unit})" if metric.unit not in ("", "x") else label,
        "unit": metric.unit,
        "printed": _printed(figure),
        "published": float(figure),
        "plus_minus": figure.plus_minus or math.nan,
        "rounding": figure.rounding,
        **named("measured", counterpart.interval),
        "n": counterpart.n or math.nan,
        "verdict": claim.verdict,
        "fields": ", ".join(claim.fields) or None,
        "reason": claim.reason or None,
        "folder": claim.folder,
    }


def _network(cell: Cell, claim: Claim, acr: dict[tuple[str, str], Claim], names: Names) -> dict:
    teacher = acr.get((claim.folder, cell.teacher.id)) if cell.teacher and claim.metric == "acr" else None
    return {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "method": name(cell),
        "label": names.label(cell),
        "teacher": lineage(cell.teacher),
        "chain": len(cell.lineage) or (1 if cell.teacher else 0),
        "sigma": cell.threat.sigma,
        "teacher_published": float(teacher.published) if teacher else math.nan,
        **named("teacher_measured", teacher.measured.interval if teacher else NOTHING),
        "id": cell.id,
    }


def _networks(manifest: Manifest, comparison: Comparison) -> dict:
    methods = f"{comparison.slower} / {comparison.faster}"
    return {
        "dataset": manifest.cells[0].dataset,
        "arch": comparison.arch or "all pairs",
        "method": methods,
        "label": methods,
    }


def _printed(figure: Figure) -> str:
    """The figure as printed; in the key's unit, with the digits that the print determines, where it is in another."""
    if not set("*/") & set(figure.printed):
        return figure.printed
    return f"{float(figure):.{max(0, math.floor(-math.log10(2 * figure.rounding)))}f}"


def claims_table(claims: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe all published figures, measured ones beside them, with verdicts."""
    found = map(_found, claims["verdict"], claims["fields"], claims["measured_low"])
    rows = claims.assign(found=list(found))
    columns = [
        *datasets(rows),
        Column("arch", "arch", "word", "architecture"),
        Column("label", "method", "name"),
        Column("figure", "figure", "name"),
        Column("printed", "published"),
        Column("measured", "measured", "by interval", mixed=True),
        Column("found", "verdict", "name"),
    ]
    rule = (
        r"Within: the 95\,\% interval of what was measured has a value in common with the published figure, its printed"
        r" uncertainty and rounding; above, below: it has none."
    )
    caption = "claims, as published and as measured."
    yield TableSpec("Claims: as published and as measured", caption, columns, rows, [INTERVALS, rule])


def _found(verdict: str, fields: str | None, low: float) -> str:
    if isinstance(fields, str):
        return f"{verdict}: {fields}"
    return verdict if verdict == "not measured" or not pd.isna(low) else f"{verdict} (no interval)"


def transfer_table(claims: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the ACR of teachers and of their students, where a teacher is a cell of the manifest."""
    known = claims[["teacher_published", "teacher_measured"]].notna().any(axis=1)
    rows = claims[known]
    if rows.empty:
        return
    nearest = rows["teacher"].str.partition(" <- ")[0]
    rows = rows.assign(pair=list(zip(nearest, "→ " + rows["arch"] + " " + rows["method"], strict=True)))
    columns = [
        *datasets(rows),
        Column("pair", "teacher → student", "name", r"teacher $\rightarrow$ student"),
        *alike("chain", "count"),
        Column("teacher_published", "paper teacher", "radius", "teacher", "published"),
        Column("published", "paper student", "radius", "student", "published"),
        Column("teacher_measured", "teacher", "by interval", group="measured"),
        Column("measured", "student", "by interval", group="measured"),
    ]
    yield TableSpec("From teacher to student (ACR)", "ACR of teachers and students.", columns, rows, [INTERVALS])
