"""The distribution over images of p, the probability that noise leaves the class of a smoothed network."""

from collections.abc import Iterator, Sequence

import pandas as pd

from bench.results.columns import SOURCE, Source, columns, named
from bench.results.contenders import Contender, Setting
from bench.results.judging import judging
from bench.results.measured import Measured
from bench.results.over_seeds import mean_over_seeds
from bench.results.probability import GROUPS, groups_by_seed
from reports.render.phrases import listed
from reports.render.table_spec import ARCH, INTERVALS, Column, TableSpec, alike, datasets, varying

_NAMES = (
    "dataset,arch,ranks,sigma,method,eval,seeds,images,"
    + ",".join(f"{key},{key}_low,{key}_high" for key in GROUPS)
    + ",interval,seeds_without_counts"
)
_HEADINGS = {
    "wrong": ("wrong", "wrong"),
    "abstained": ("abstained", "abstained"),
    "below_90": ("p < 0.9", "$p < 0.9$"),
    "from_90_to_99": ("0.9 ≤ p < 0.99", r"$0.9 \le p < 0.99$"),
    "from_99": ("p ≥ 0.99", r"$p \ge 0.99$"),
}


def probabilities(compared: Sequence[Setting], measured: list[Measured]) -> pd.DataFrame:
    """A row per method that is judged by smoothing: share of its images in each group of p, over seeds and images.

    Seeds whose records have no counts of draws are left out, and counted in `seeds_without_counts`.
    """
    rows = []
    for setting in compared:
        for each in setting.contenders:
            if by_seed := groups_by_seed(each):
                rows.append(_row(setting, each, by_seed))
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _row(setting: Setting, each: Contender, by_seed: dict[int, dict[int, str | None]]) -> dict[str, object]:
    counted = {seed: groups for seed, groups in by_seed.items() if None not in groups.values()}
    m = each.by_seed[next(iter(counted or by_seed))]
    spec = judging(m.cell)
    shares = {
        key: mean_over_seeds({seed: {i: own == key for i, own in groups.items()} for seed, groups in counted.items()})
        for key in GROUPS
    }
    main = shares["wrong"]
    row = {"dataset": setting.dataset, "arch": setting.arch, "ranks": setting.ranks, "sigma": m.cell.threat.sigma}
    row |= {"method": each.label, "eval": spec.label if spec else None, "seeds": main.seeds, "images": main.images}
    for key, share in shares.items():
        row |= named(key, share.interval)
    row |= {"interval": main.made or None, "seeds_without_counts": len(by_seed) - len(counted)}
    return row | {"folder": str(m.folder), SOURCE: Source(m, spec=spec)}


def probabilities_table(probabilities: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the shares, where any seed has counts."""
    rows = probabilities[probabilities["seeds"] > 0]
    if rows.empty:
        return
    columns = [
        *(*datasets(rows), ARCH, *varying(rows, alike("ranks", "count")), *alike("method", "name")),
        *varying(rows, [Column("sigma", "sigma", "general", r"$\sigma$"), Column("eval", "evaluation", "name")]),
        *(*alike("seeds", "count", hide=2), *alike("images", "count", hide=1)),
        *(Column(key, heading, "percent", latex) for key, (heading, latex) in _HEADINGS.items()),
    ]
    title = "Distribution of p: images in %, by the share of noisy copies that get the right class"
    caption = r"distribution of $p$, the share of noisy copies that get the right class; images in \%."
    yield TableSpec(title, caption, columns, rows, [INTERVALS])


def without_counts(probabilities: pd.DataFrame) -> list[str]:
    """A line on the methods whose seeds are left out of the distribution of p; none where there are none."""
    if probabilities.empty or not probabilities["seeds_without_counts"].any():
        return []
    rows = probabilities[probabilities["seeds_without_counts"] > 0]
    names = listed(list(dict.fromkeys(f"{row.arch} {row.method}" for row in rows.itertuples())), "methods")
    count = int(rows["seeds_without_counts"].sum())
    trainings = f"{count} training{'s' * (count > 1)}"
    why = "their records have no count of a fixed number of draws of each image"
    return [f"Distribution of p: {trainings} left out ({names}): {why}."]
