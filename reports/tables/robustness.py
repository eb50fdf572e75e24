"""The tables of evaluations and of certified accuracies, and the columns of their wide CSV."""

import math
import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from bench.cell import Cell, Spec
from bench.manifest.labels import epochs, lineage, name
from bench.manifest.plugin_spec import evaluation
from bench.records import Verdict
from bench.results.accuracy import RADIUS_STEP, average_certified_radius, certified_accuracy, radius_text, share
from bench.results.columns import SOURCE, Source, columns, named, number
from bench.results.measured import Measured
from bench.results.robustness import (
    at_eps,
    clean,
    draws,
    eps_of,
    first_seen,
    grid,
    has_eps,
    kind,
    of,
    principal,
    radii,
    right,
)
from bench.results.statistics import NOTHING
from reports.render.table_spec import BOTH, INTERVALS, RADII, Column, TableSpec, alike, network, with_labels

_LARGEST = 3.8115
"""Largest radius, in units of sigma, that n = 100,000 agreeing draws certify at alpha = 0.001."""


def robustness(measured: list[Measured]) -> pd.DataFrame:
    """A row per cell and evaluation.

    Certified accuracy at r and accuracy at eps are shares of images that are right with a radius of at least r or eps.
    ACR is the mean over all evaluated images, with 0 for images that are wrong, skipped or abstained on. A grid of
    radii has certified accuracies at its radii, and no ACR; beside one, rows have their mean `draws` of noise. Where
    wrong images are skipped, the rate of abstentions is unknown. A published accuracy at eps belongs to the first
    attack, or to the first bound, at the threat's eps.
    """
    rows = []
    for m in measured:
        # Clean and noisy accuracy are columns of the rows of other evaluations.
        others = [spec for spec in m.cell.evals if kind(spec.name) not in ("clean", "noisy")]
        rows += [_row(m, spec) for spec in others or m.cell.evals]
    frame = pd.DataFrame(rows)
    last = ["id", "seed"]
    names = [name for name in frame if name not in ("folder", SOURCE, *last)]
    return frame if frame.empty else frame[columns([*names, *last], measured)]


def _row(m: Measured, spec: Spec) -> dict:
    cell, verdicts = m.cell, list(m.verdicts.get(spec.id, {}).values())
    smoothing = kind(spec.name) == "smoothing"
    row = {
        "dataset": cell.dataset,
        "arch": cell.arch,
        "method": name(cell),
        "teacher": lineage(cell.teacher),
        "judge": spec.name,
        "eval": spec.label,
        "folder": str(m.folder),
        "norm": cell.threat.norm,
        "sigma": cell.threat.sigma,
        "trained_eps": cell.threat.eps,
        "eps": eps_of(cell, spec) if has_eps(spec.name) else cell.threat.eps,
        "epochs": f"{len(m.losses) * cell.replays}/{epochs(cell)}" + (" (best)" if cell.select == "best" else ""),
        "images": len(verdicts) or math.nan,
        "skipped": sum(v.skipped for v in verdicts) if verdicts and smoothing else math.nan,
        "abstained": _abstained(verdicts) if smoothing and not spec.args.get("skip_wrong") else math.nan,
        "judge_seconds": sum(v.seconds for v in verdicts) if verdicts else math.nan,
        "paper_clean": number(cell.paper.clean) / 100,
        "source": Source(m, spec=spec),
        "id": m.id,
        "seed": cell.seed,
    }
    row |= {"clean_images": len(first_seen(m, spec)) or math.nan} | named("clean", clean(m, spec))
    if any(kind(each.name) == "noisy" for each in cell.evals):
        row |= named("noisy", share(map(right, verdicts if kind(spec.name) == "noisy" else of(m, "noisy"))))
    if kind(spec.name) == "corrupted":
        row |= named("corrupted", share(map(right, verdicts)))
    if smoothing:
        row |= _certified(cell, spec, radii(verdicts))
        if any(map(grid, cell.evals)):
            row["draws"] = draws(spec, verdicts)
    elif has_eps(spec.name):
        row |= named("at_eps", at_eps(m, spec)) | {"paper_at_eps": _published(cell, spec)}
    if not smoothing and evaluation(spec, cell.threat).measures_radius:
        row |= named("acr", average_certified_radius(radii(verdicts)))
    return row


def _abstained(verdicts: list[Verdict]) -> float:
    return float(np.mean([v.prediction == -1 for v in verdicts])) if verdicts else math.nan


def _certified(cell: Cell, spec: Spec, radii: np.ndarray) -> dict:
    decided = grid(spec)
    acr = NOTHING if decided else average_certified_radius(radii)
    row = named("acr", acr) | {"paper_acr": number(cell.paper.acr)}
    for r in decided or np.arange(0, _LARGEST * cell.threat.sigma, RADIUS_STEP):
        row |= named(f"certified_at_{radius_text(r)}", certified_accuracy(radii, r))
    return row | {f"paper_certified_at_{r:.2f}": percent / 100 for r, percent in cell.paper.certified.items()}


def _published(cell: Cell, spec: Spec) -> float:
    """The paper's accuracy at the threat's eps, for the first attack or the first bound; NaN for other evaluations."""
    same_kind = [each for each in cell.evals if kind(each.name) == kind(spec.name)]
    if spec != principal(cell, same_kind) or eps_of(cell, spec) != cell.threat.eps:
        return math.nan
    if kind(spec.name) == "attack":
        return number(cell.paper.robust) / 100
    return next((p / 100 for r, p in cell.paper.certified.items() if math.isclose(r, cell.threat.eps)), math.nan)


def robustness_tables(robustness: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the results of every evaluation and, for smoothing, certified accuracies, measured and published."""
    rows = with_labels(robustness)
    smoothing = rows["judge"].map(kind).eq("smoothing")
    rows["ball"] = rows["ball"].where(rows["judge"].map(has_eps))
    rows["other_images"] = rows["clean_images"].mask(rows["clean_images"] == rows["images"])
    for key in [key for key in ("acr", "acr_low", "acr_high") if key in rows]:
        rows[f"own_{key}"] = rows[key].mask(smoothing)
    columns = [
        *network(rows, "trained_for"),
        Column("eval", "evaluation", "name"),
        *(*alike("epochs", "label", hide=3), *alike("images", "count", hide=4)),
        *alike("skipped", "count", optional=BOTH, hide=5),
        Column("abstained", "abstained", "percent", optional=BOTH, hide=6),
        *([Column("draws", "draws per image", "count", optional="text", hide=6)] if "draws" in rows else []),
        Column("judge_seconds", "evaluation time (s)", "rounded", writers="text", hide=1),
        Column("clean", "clean", "percent", group="accuracy", optional="text"),
        Column("other_images", "clean images", "count", writers="text", optional="text", hide=2),
        *([Column("noisy", "noisy", "percent", group="accuracy", optional="text")] if "noisy" in rows else []),
        *(
            [Column("corrupted", "corrupted", "percent", group="accuracy", optional="text")]
            if "corrupted" in rows
            else []
        ),
        *(_at_eps(rows) if "at_eps" in rows else []),
    ]
    yield TableSpec("Evaluation (accuracy in %)", "evaluation.", columns, rows, [r"Shares in \%.", INTERVALS])
    yield from _certified_tables(rows[smoothing])


def _at_eps(rows: pd.DataFrame) -> list[Column]:
    eps, at_eps = r"$\varepsilon$", r"at $\varepsilon$"
    columns = [
        Column("ball", "eps", writers="text", optional="text", hide=7),
        Column("at_eps", "accuracy at eps", "percent", at_eps, "accuracy"),
        Column("ball", eps, writers="latex"),
        Column("paper_clean", "paper clean", "published percent", "clean", "published", optional=BOTH, hide=8),
        Column("paper_at_eps", "paper at eps", "published percent", at_eps, "published", optional=BOTH),
    ]
    # Text shows the ACR of smoothing in a separate table.
    acr = [Column("own_acr", "ACR", "radius", writers="text"), Column("acr", "ACR", "radius", writers="latex")]
    return [*columns[:3], *(acr if "own_acr" in rows and rows["own_acr"].notna().any() else []), *columns[3:]]


def _certified_tables(smoothing: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe certified accuracies, measured and published; text shows columns that have no value yet."""
    caption = r"certified accuracy in \% at $\ell_2$ radius $r$"
    for prefix, form, title, end, notes in (
        ("", "narrow percent", "Robustness (certified accuracy in %, at l2 radius r)", ".", [INTERVALS]),
        ("paper_", "published percent", "As published", ", as published.", []),
    ):
        radii = [match for key in smoothing if (match := re.fullmatch(rf"{prefix}certified_at_([\d.]+)", key))]
        radii.sort(key=lambda match: float(match[1]))
        acr, keys = f"{prefix}acr", [radius[0] for radius in radii]
        known = smoothing.filter([acr, *keys]).notna().any(axis=None)
        # Text has the published figures among the claims.
        writers = "latex" if prefix else BOTH if known else "text"
        if keys and (known or not prefix):
            # Beside a grid, a row is told by its evaluation.
            named_by = [Column("eval", "evaluation", "name")] if "draws" in smoothing and not prefix else []
            columns = [Column(radius[0], f"r = {radius[1]}", form, radius[1], RADII) for radius in radii]
            # ACR is last: it grows with the number of draws, and with images that are easy anyway.
            columns = [*network(smoothing, "sigma"), *named_by, *columns, Column(acr, "ACR", "radius")]
            yield TableSpec(title, caption + end, columns, smoothing, notes, writers)
