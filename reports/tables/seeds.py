"""Methods over their seeds: estimates with intervals over seeds and images, and differences between methods."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from bench.manifest.manifest import Manifest
from bench.results.columns import Source, columns, named
from bench.results.contenders import Contender, Setting
from bench.results.judging import judging
from bench.results.measured import Measured
from bench.results.over_seeds import OverSeeds, collapse_coverage, difference_over_seeds, mean_over_seeds, shown_alone
from bench.results.pairs import pair_kind, shown
from reports.render.table_spec import ARCH, BOTH, INTERVALS, Column, TableSpec, alike, datasets, varying

_ESTIMATES = ("accuracy", "clean", "acr")
_COLUMNS = (
    "dataset,arch,ranks,method,figure,seeds,images,"
    + ",".join(f"{key},{key}_low,{key}_high,{key}_sd,{key}_interval" for key in _ESTIMATES)
    + ",collapse_coverage"
)
_DIFFERENCES = (
    "dataset,arch,ranks,figure,first,second,seeds,images,"
    + ",".join(f"{key}_difference,{key}_difference_low,{key}_difference_high" for key in _ESTIMATES)
    + ",accuracy_sd,accuracy_interval,clean_interval,acr_interval,p,holm_p,comparisons,couple,alone"
)


def seeds(compared: Sequence[Setting], measured: list[Measured]) -> pd.DataFrame:
    """A row per method with its settings, where a method has several evaluated seeds; none where every one has one.

    `accuracy` is that by the figure that methods are judged by; `clean` and `acr` are there where they are measured.
    `..._sd` is the standard deviation of the seeds' estimates, `..._interval` the name of the interval, and
    `collapse_coverage` the simulated coverage of such intervals if 1 in 5 trainings collapses.
    """
    rows = []
    for setting in _repeated(compared):
        for each in filter(_evaluated, setting.contenders):
            main = each.over_seeds if each.robust else mean_over_seeds(each.clean)
            row = _place(setting, each) | {"method": each.label, "seeds": main.seeds, "images": main.images}
            for key, found in _means(each).items():
                row |= named(key, found.interval) | {f"{key}_sd": found.sd, f"{key}_interval": found.made or None}
            covered = collapse_coverage(main.seeds)
            rows.append(row | {"collapse_coverage": math.nan if covered is None else covered})
    return pd.DataFrame(rows, columns=columns(_COLUMNS.split(","), measured))


def seed_differences(manifest: Manifest, compared: Sequence[Setting], measured: list[Measured]) -> pd.DataFrame:
    """A row for every two methods of a setting in which a method has several evaluated seeds: first minus second.

    `p` is of the hypothesis that the accuracies are equal; `holm_p` is adjusted for all `comparisons` of the setting.
    `alone` counts the seeds whose images alone show a difference.
    """
    rows = []
    for setting in _repeated(compared):
        for (first, second), found in setting.differences.items():
            main = found.over_seeds
            row = _place(setting, first, second) | {"first": first.label, "second": second.label}
            row |= {"seeds": main.seeds, "images": main.images, "accuracy_sd": main.sd}
            row["alone"] = shown_alone(first.robust, second.robust)
            row |= {"p": main.p, "holm_p": found.adjusted_p, "comparisons": setting.comparisons}
            row["couple"] = pair_kind(manifest, first.first, second.first)
            for key, gap in (
                ("accuracy", main),
                ("clean", difference_over_seeds(first.clean, second.clean)),
                ("acr", difference_over_seeds(first.radii, second.radii, share=False)),
            ):
                row |= named(f"{key}_difference", gap.interval) | {f"{key}_interval": gap.made or None}
            rows.append(row)
    return pd.DataFrame(rows, columns=columns(_DIFFERENCES.split(","), measured))


def _repeated(compared: Sequence[Setting]) -> Iterator[Setting]:
    """Settings in which a method has several evaluated seeds."""
    for setting in compared:
        if any(max(len(each.robust), len(each.clean)) > 1 for each in setting.contenders):
            yield setting


def _evaluated(contender: Contender) -> bool:
    return bool(contender.robust or contender.clean)


def _means(contender: Contender) -> dict[str, OverSeeds]:
    means = contender.over_seeds, mean_over_seeds(contender.clean), mean_over_seeds(contender.radii, share=False)
    return dict(zip(_ESTIMATES, means, strict=True))


def _place(setting: Setting, first: Contender, second: Contender | None = None) -> dict:
    m, other = first.first, second.first if second else None
    place = {"dataset": setting.dataset, "arch": setting.arch, "ranks": setting.ranks, "figure": setting.figure}
    return place | {"folder": str(m.folder), "source": Source(m, other, judging(m.cell))}


def seeds_table(seeds: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the methods over their seeds."""
    columns = [
        *(
            *_network(seeds),
            Column("method", "method", "name"),
            Column("figure", "judged by", "name", width=22, hide=8),
        ),
        *(*alike("seeds", "count"), *alike("images", "count", hide=4)),
        *_estimate("accuracy", "accuracy", "percent", (0, 7)),
        *_estimate("clean", "clean", "percent", (6, 2)),
        *_estimate("acr", "ACR", "radius", (5, 3)),
        Column("accuracy_interval", "interval", "name", width=18, optional=BOTH, hide=1),
    ]
    title, caption = "Over seeds (accuracy in %)", r"means over seeds and images; accuracy in \%."
    notes = ["sd: standard deviation of the seeds' estimates.", INTERVALS]
    yield TableSpec(title, caption, columns, seeds, notes)


def seed_differences_table(differences: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the differences of the pairs that papers compare, if both methods have several seeds."""
    rows = shown(differences[differences["seeds"] > 1])
    if rows.empty:
        return
    group = "first $-$ second"
    columns = [
        *_network(rows),
        *(Column(key, key, "name", width=18) for key in ("first", "second")),
        *(*alike("seeds", "count"), *alike("images", "count", hide=3)),
        Column("accuracy_difference", "accuracy difference", "points", "accuracy", group),
        Column("clean_difference", "clean difference", "points", "clean", group, optional=BOTH, hide=5),
        Column("acr_difference", "ACR difference", "radius", "ACR", group, optional=BOTH, hide=4),
        Column("holm_p", "p (Holm)", "probability", "$p$ (Holm)"),
        Column("comparisons", "of pairs", "count", "of pairs", hide=2),
        Column("alone", "seeds alone", "count", "seeds alone", hide=6),
        Column("accuracy_interval", "interval", "name", width=18, hide=1),
    ]
    title, caption = "Differences over seeds, first - second", r"differences over seeds and images; accuracy in \%."
    notes = [
        "$p$: adjusted for all pairs of a setting (Holm).",
        "Seeds alone: number of seeds whose images alone show a difference (McNemar, $p < 0.05$).",
        INTERVALS,
    ]
    yield TableSpec(f"{title} (accuracy in %)", caption, columns, rows, notes)


def _network(rows: pd.DataFrame) -> list[Column]:
    return [*datasets(rows), ARCH, *varying(rows, alike("ranks", "count"))]


def _estimate(key: str, heading: str, form: str, hide: tuple[int, int]) -> list[Column]:
    """An estimate with its interval, and the standard deviation of the seeds' estimates."""
    return [
        Column(key, heading, form, optional=BOTH, hide=hide[0]),
        Column(f"{key}_sd", f"sd of {heading}", form, "sd", optional=BOTH, hide=hide[1]),
    ]
