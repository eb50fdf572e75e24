"""Observations of accuracies, radii and their differences."""

import re
from collections.abc import Iterator

import pandas as pd

from bench.cell import Spec
from bench.results.columns import SOURCE, Source
from bench.results.judging import judged_radius
from bench.results.measured import Measured
from bench.results.robustness import eps_of, has_eps, kind
from reports.observations.observation import Row, interval, last, observe, point, rows

GROUP_METRICS = {
    "wrong": "share_wrong",
    "abstained": "share_abstained",
    "below_90": "share_p_below_90",
    "from_90_to_99": "share_p_from_90_to_99",
    "from_99": "share_p_from_99",
}
"""Metrics of the groups of p."""
_CERTIFIED = re.compile(r"(paper_)?certified_at_([\d.]+)")
"""Columns of certified accuracies by radius."""


def evaluated(robustness: pd.DataFrame) -> Iterator[Row]:
    """Yield the results of each evaluation, and the published ones; those of a clean evaluation once for each row."""
    for row in rows(robustness):
        source = row[SOURCE]
        m, spec = source.cell, source.spec
        start, n = m.evaluations.get(spec.id), row["images"]
        yield from _right(m, spec, row)
        if has_eps(spec.name):
            radius = {"radius": eps_of(m.cell, spec)}
            yield observe(source, "at_eps", interval(row, "at_eps"), "Wilson", n, start) | radius
            yield observe(source, "paper_at_eps", point(row["paper_at_eps"])) | radius
        if kind(spec.name) == "corrupted":
            yield observe(source, "corrupted", interval(row, "corrupted"), "Wilson", n, start)
        if "acr" in row:
            yield observe(source, "acr", interval(row, "acr"), "t over images", n, start)
        if kind(spec.name) == "smoothing":
            yield from _certified(source, row)
        for metric in ("skipped", "abstained", *(["draws"] if "draws" in row else [])):
            yield observe(source, metric, point(row[metric]), n=n, start=start)
        yield observe(source, "evaluation_seconds", point(row["judge_seconds"]), n=n, start=start)


def _right(m: Measured, spec: Spec, row: Row) -> Iterator[Row]:
    """Yield clean and noisy accuracy, each as an observation of the evaluation that gives it."""
    clean, noisy = (
        next((each for each in m.cell.evals if kind(each.name) == name), spec) for name in ("clean", "noisy")
    )
    for metric, by, n in (
        ("clean", clean, row["clean_images"]),
        ("noisy", noisy, len(m.verdicts.get(noisy.id, {}))),
    ):
        if metric in row:
            start, value = m.evaluations.get(by.id), interval(row, metric)
            yield observe(Source(m, spec=by), metric, value, "Wilson", n, start)
    yield observe(Source(m), "paper_clean", point(row["paper_clean"]))


def _certified(source: Source, row: Row) -> Iterator[Row]:
    """Yield certified accuracies by radius, measured and published."""
    assert source.spec is not None
    start = source.cell.evaluations.get(source.spec.id)
    for column in row:
        if match := _CERTIFIED.fullmatch(column):
            radius = {"radius": float(match[2])}
            if match[1]:
                yield observe(source, "paper_certified_accuracy", point(row[column])) | radius
            else:
                value = interval(row, column)
                yield observe(source, "certified_accuracy", value, "Wilson", row["images"], start) | radius
    yield observe(source, "paper_acr", point(row["paper_acr"]))


def distributed(probabilities: pd.DataFrame) -> Iterator[Row]:
    """Yield the share of images in each group of p, without a seed where there are several."""
    for row in rows(probabilities):
        source, several = row[SOURCE], row["seeds"] > 1
        assert source.spec is not None
        n = row["seeds"] if several else row["images"]
        start, one = source.cell.evaluations.get(source.spec.id), {"seed": None} if several else {}
        for key, metric in GROUP_METRICS.items():
            yield observe(source, metric, interval(row, key), row["interval"], n, start) | one


def checked(masking: pd.DataFrame) -> Iterator[Row]:
    """Yield the number of images on which a weaker attack beats a stronger one."""
    for row in rows(masking):
        yield observe(row[SOURCE], "broken_only_by_weaker", point(row["only_weaker"]))


def collapsed(trainings: pd.DataFrame) -> Iterator[Row]:
    """Yield for each training if it collapsed, and the rate of its cell over seeds."""
    for row in rows(trainings):
        yield observe(row[SOURCE], "collapsed", point(float(isinstance(row["rule"], str))), n=1)
        rate, n = interval(row, "collapse_rate"), row["trainings"]
        yield observe(row[SOURCE], "collapse_rate", rate, "Wilson", n)


def priced(costs: pd.DataFrame) -> Iterator[Row]:
    """Yield what the robustness of each method costs, by all of its seeds."""
    for row in rows(costs):
        source, over_all = row[SOURCE], {"seed": None}
        yield observe(source, "cost", point(row["cost"]), n=row["seeds"]) | over_all
        for metric, column in (
            ("operations_ratio", "operations"),
            ("cost_per_point", "cost_per_point"),
            ("front_frequency", "front"),
        ):
            yield observe(source, metric, point(row[column]), n=row["seeds"]) | over_all


def reached(targets: pd.DataFrame) -> Iterator[Row]:
    """Yield the time of each method to the target, by all of its seeds."""
    for row in rows(targets):
        source, over_all = row[SOURCE], {"seed": None}
        made, n = "t of log times over seeds", row["seeds"]
        yield observe(source, "hours_to_target", interval(row, "hours"), made, row["reached"]) | over_all
        yield observe(source, "reached_rate", interval(row, "reached_rate"), "Wilson", n) | over_all
        yield observe(source, "operations_to_target", point(row["operations"]), n=row["reached"]) | over_all


def compared(comparisons: pd.DataFrame) -> Iterator[Row]:
    """Yield paired differences of two cells on the same images."""
    for row in rows(comparisons):
        source, n = row[SOURCE], row["images"]
        start = source.cell.evaluations.get(source.spec.id)
        radius = {"radius": judged_radius(source.cell.cell, source.spec)}
        for metric, made in (("accuracy_difference", "Newcombe"), ("acr_difference", "paired bootstrap")):
            at = radius if metric == "accuracy_difference" else {}
            yield observe(source, metric, interval(row, metric), made, n, start) | at
        yield observe(source, "mcnemar_p", point(row["mcnemar_p"]), n=n, start=start) | radius


def repeated(seeds: pd.DataFrame) -> Iterator[Row]:
    """Yield the means of methods over several seeds, or differences of two such methods, without a seed.

    The results of a single training are among its own observations.
    """
    for row in rows(seeds[seeds["seeds"] > 1]):
        source = row[SOURCE]
        m, spec, n = source.cell, source.spec, row["seeds"]
        start = m.evaluations.get(spec.id) if spec else None
        radius = {"radius": judged_radius(m.cell, spec)} if spec else {}
        part = "_difference" if source.other else ""
        for key in ("accuracy", "clean", "acr"):
            own, value = (radius if key == "accuracy" else {}) | {"seed": None}, interval(row, f"{key}{part}")
            yield observe(source, f"{key}{part}_over_seeds", value, row[f"{key}_interval"], n, start) | own
            if not part:
                yield observe(source, f"{key}_sd_over_seeds", point(row[f"{key}_sd"]), n=n, start=start) | own
        if source.other:
            yield observe(source, "holm_p", point(row["holm_p"]), n=n, start=start) | radius | {"seed": None}


def monitored(curves: pd.DataFrame) -> Iterator[Row]:
    """Yield the loss of each epoch, and the results of monitored evaluations after it."""
    for row in rows(curves):
        source, epoch = row[SOURCE], {"round": row["epoch"]}
        start, n = last(source.cell.trainings or source.cell.starts), row["images"]
        yield observe(Source(source.cell), "training_loss", point(row["loss"]), start=start) | epoch
        for metric, column in (("monitored_clean", "clean"), ("monitored_at_eps", "standing")):
            yield observe(source, metric, point(row[column]), n=n, start=start) | epoch
        for column in (key for key in row if key.startswith("mean_")):
            words = {"evaluation": f"{row['eval']}: {column.removeprefix('mean_')}"}
            yield observe(source, "monitored_mean", point(row[column]), n=n, start=start) | epoch | words
