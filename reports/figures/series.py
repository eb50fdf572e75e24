"""Series of a figure: which rows share a panel, what each series is called, and what is estimated over its seeds."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from bench.manifest.labels import written
from bench.results.columns import named
from bench.results.intervals import RUNS
from bench.results.statistics import NOTHING, Interval, mean_ci

CONTEXT = ("dataset", "arch", "threat", "folder")
"""Columns with equal values in a panel."""
OVER_SEEDS = (
    f"Seeds of one method are one mark: their mean, with the range of 2 seeds or the 95 % t interval of {RUNS} or more"
)
NORMS = {"linf": "ℓ∞", "l2": "ℓ2"}
"""Signs of norms."""
_FIRM = "\N{NO-BREAK SPACE}"
_SEED = re.compile(r" seed \d+(?=$|,| <-)")
_WORDS: dict[str, Callable] = {
    "teacher": lambda teacher: f"from {teacher}" if isinstance(teacher, str) else "no teacher",
    "batch": "batch {:g}".format,
    "precision": str,
    "loader": "{} loader".format,
    "ranks": "ranks {:g}".format,
    "nodes": "nodes {:g}".format,
    "epochs": "{:g} epochs".format,
    "unlike": lambda fields: f"unlike {fields}" if isinstance(fields, str) else "",
}
"""Settings that tell two rows of one method apart, in words."""
SETTINGS = tuple(key for key in _WORDS if key != "unlike")


def cells(timing: pd.DataFrame) -> pd.DataFrame:
    """A row per cell and runs folder: several studies may hold the same cell, and some may have no time for it."""
    timed_first = timing.sort_values("hours", key=lambda hours: hours.isna(), kind="stable")
    return timed_first.drop_duplicates(_key(timing)).sort_index()


def with_cells(frame: pd.DataFrame, timing: pd.DataFrame) -> pd.DataFrame:
    """Rows of another frame with the columns of their cells in place of their own of the same name."""
    key = [name for name in _key(timing) if name in frame]
    known = cells(timing)
    return frame[[name for name in frame if name in key or name not in known]].merge(known, on=key, how="left")


def _key(frame: pd.DataFrame) -> list[str]:
    return ["id", *(["folder"] if "folder" in frame else [])]


def in_series(frame: pd.DataFrame, settings: Sequence[str] = SETTINGS, numbered: bool = True) -> pd.DataFrame:
    """Rows with their `threat` and `series`: in a panel, rows of one series differ in their seeds alone.

    The name of a series is the method, without the arguments that all variants of the method share, followed by those
    settings in which rows of that name differ within a panel, and by `unlike` wherever it is set. If `numbered`, rows
    of one seed that no setting tells apart are numbered.
    """
    # A teacher of each student's seed is one teacher.
    frame = frame.assign(**{key: unseeded(frame[key]) for key in ("method", "teacher") if key in frame})
    short = short_names(frame["method"])
    frame = frame.assign(threat=threats(frame), series=frame["method"].map(short))
    for key in (key for key in settings if key in frame):
        panel = [*_context(frame), "series"]
        varies = frame.groupby(panel, dropna=False)[key].transform(lambda values: values.nunique(dropna=False) > 1)
        varies = frame["series"].isin(frame["series"][varies.astype(bool)]) | (key == "unlike")
        words = [f"{name}, {word}" if (word := _WORDS[key](v)) else name for name, v in frame[["series", key]].values]
        frame["series"] = np.where(varies, words, frame["series"])
    if "seed" in frame and numbered:
        again = frame.groupby([*_context(frame), "series", "seed"], dropna=False).cumcount()
        frame["series"] = [f"{name} ({n + 1})" if n else name for name, n in zip(frame["series"], again, strict=True)]
    return frame


def unseeded(names: pd.Series) -> pd.Series:
    """Names of methods and chains of teachers without their seeds."""
    return names.map(lambda name: _SEED.sub("", name), na_action="ignore").astype(object)


def threats(frame: pd.DataFrame) -> list[str]:
    """The noise and the ball that each row's network is trained for, in words."""
    known = frame.reindex(columns=["norm", "sigma", "trained_eps"])
    return [threat(*row) for row in known.itertuples(index=False)]


def threat(norm: str, sigma: float, eps: float) -> str:
    """Noise and ball of a network in words; empty for neither."""
    noise = f"σ = {sigma:g}" if sigma > 0 else ""
    return ", ".join(filter(None, (noise, ball(norm, eps) if eps > 0 else "")))


def ball(norm: str, eps: float) -> str:
    """Norm and radius in mathematical signs."""
    return f"{NORMS.get(norm, norm)} ε = {written(eps)}"


def short_names(methods: pd.Series) -> dict[str, str]:
    """The methods without the arguments that all variants of one have: `RRM(lbd=0.1, distance=l2)` is RRM, if alone."""
    variants: dict[str, dict[str, list[str]]] = {}
    for method in methods.unique():
        match = re.fullmatch(r"([\w ]+)\((.*)\)(.*)", method)
        base, arguments = (match[1] + match[3], _split(match[2])) if match else (method, [])
        variants.setdefault(base, {})[method] = arguments
    short = {}
    for base, own in variants.items():
        shared = set.intersection(*map(set, own.values()))
        for method, arguments in own.items():
            short[method] = " ".join([base, *(each for each in arguments if each not in shared)])
    return short


def _split(arguments: str) -> list[str]:
    """Arguments, split at the commas outside of brackets."""
    return re.findall(r"(?:[^,\[({]|[\[({][^\])}]*[\])}])+", arguments.replace(", ", ","))


def _context(frame: pd.DataFrame) -> list[str]:
    return [key for key in CONTEXT if key in frame]


def panels(frame: pd.DataFrame, keys: Sequence[str] = CONTEXT) -> tuple[str, list[tuple[str, pd.DataFrame]]]:
    """Words common to all panels, and each panel with the words that tell it from the others, in the table's order."""
    keys = [key for key in keys if key in frame]
    varies = {key: frame[key].nunique(dropna=False) > 1 for key in keys}
    groups = [rows for _, rows in frame.groupby(keys, sort=False, dropna=False)]
    own, common = ([key for key in keys if varies[key] is wanted] for wanted in (True, False))
    return _title(groups[0].iloc[0], common), [(_title(rows.iloc[0], own), rows) for rows in groups]


def _title(row: pd.Series, keys: Sequence[str]) -> str:
    """Words of a row for a title, which is broken between them only."""
    words = [(key, row[key]) for key in keys if isinstance(row[key], str) and row[key]]
    return joined(*(word.replace(" ", _FIRM) if key == "threat" else word for key, word in words))


def joined(*words: str) -> str:
    """Words of a title with dots between them; a line may end after a dot."""
    return f"{_FIRM}· ".join(filter(None, words))


def over_seeds(frame: pd.DataFrame, keys: Sequence[str], **columns: str) -> pd.DataFrame:
    """A row for each group of rows with equal `keys`: `seeds`, and each column with its interval.

    A column is `positive` (estimated on logarithms), a `share` or `real`. One seed keeps its own interval.
    """
    keys = list(keys)
    group = frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    found = frame[keys].iloc[np.unique(group, return_index=True)[1]].reset_index(drop=True)
    found["seeds"] = np.bincount(group)
    for column, scale in columns.items():
        ends = frame.reindex(columns=[column, f"{column}_low", f"{column}_high"]).to_numpy(float)
        known = np.flatnonzero(~np.isnan(ends[:, 0]))
        known = known[np.argsort(group[known], kind="stable")]
        seeds = np.split(ends[known], np.searchsorted(group[known], range(1, len(found))))
        estimates = [named(column, estimate([Interval(*each) for each in own.tolist()], scale)) for own in seeds]
        found = found.assign(**pd.DataFrame(estimates, index=found.index))
    return found


def estimate(seeds: Sequence[Interval], scale: str = "real") -> Interval:
    """Mean over seeds: the interval of a single seed is its own, of 2 seeds their range, of more Student's."""
    if len(seeds) < 2:
        return seeds[0] if seeds else NOTHING
    values = np.array([seed.mean for seed in seeds])
    values = np.log(values) if scale == "positive" else values
    if len(values) < RUNS:
        found = Interval(float(values.mean()), float(values.min()), float(values.max()))
    else:
        found = mean_ci(values.tolist())
    if scale == "positive":
        return Interval(*map(float, np.exp(found)))
    return Interval(found.mean, max(found.low, 0.0), min(found.high, 1.0)) if scale == "share" else found
