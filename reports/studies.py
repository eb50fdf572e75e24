"""Sentences on switches, on ranks and on versions of the code: the ways to run a method."""

from collections.abc import Iterable

import pandas as pd

from bench.results.statistics import Interval
from reports.render.phrases import NAMED, factor, listed, span

_KINDS = {"strong": "at the same global batch size", "weak": "at the same batch size per rank"}


def switched(speed: pd.DataFrame) -> str:
    """Speedup of each choice of switches over the plain path, the largest first; over several networks, its range.

    A choice brings nothing measurable if no network's interval lies above 1.
    """
    rows = speed[speed["switches"] != "plain"].dropna(subset="speedup")
    if rows.empty:
        return ""
    groups = dict(list(rows.groupby("switches", sort=False)))
    ordered = sorted(groups, key=lambda name: -groups[name]["speedup"].median())
    gains = [name for name in ordered if (groups[name]["speedup_low"] > 1).any()]
    vain = [name for name in ordered if name not in gains]
    parts = [f"{name} {_range(groups[name])}" for name in gains[:NAMED]]
    text = f"Speed relative to the plain path: {'; '.join(parts)}" if parts else "No switch is measurably faster"
    more = f" ({len(gains) - NAMED} more in the tables)" if len(gains) > NAMED else ""
    nothing = f"; no measurable gain: {listed(vain, 'choices', '; ')}" if parts and vain else ""
    return f"{text}{more}{nothing}."


def scaled(scaling: pd.DataFrame) -> str:
    """Speedup over one rank on the largest number of ranks, and its share of the ideal."""
    rows = scaling.dropna(subset="speedup")
    if rows.empty:
        return ""
    most = rows["ranks"].max()
    parts = []
    for kind, own in rows[rows["ranks"] == most].groupby("kind", sort=False):
        low, high = (f"{100 * value:.0f}" for value in (own["efficiency"].min(), own["efficiency"].max()))
        share = low if low == high else f"{low} to {high}"
        parts.append(f"{_range(own)} {_KINDS[kind]}, {share} % of the ideal")
    return f"Speed of {most} ranks relative to one: {'; '.join(parts)}."


def changed(changes: pd.DataFrame) -> str:
    """The cells that became slower or faster, by their slowdown where they have one, or that none did."""
    if changes.empty:
        return ""
    parts = []
    for word in ("slower", "faster"):
        rows = changes[changes["verdict"] == word]
        decisive = rows["slowdown_change"].notna()
        ends = [rows[f"slowdown_change{end}"].where(decisive, rows[f"change{end}"]) for end in ("", "_low", "_high")]
        parts += [f"{word}: {_cells(rows, zip(*ends, strict=True))}"] if len(rows) else []
    text = "; ".join(parts) or "no change shown"
    if changes["slowdown_change"].notna().any():
        text = f"relative to the baseline, {text}"
    rows = changes[changes["verdict"] == "machine or shared code"]
    if len(rows):
        times = _cells(rows, rows[["change", "change_low", "change_high"]].to_numpy())
        text += f"; the baseline itself: {times}, by the machine or by code that all methods share"
    few = int((changes["verdict"] == "too few runs").sum())
    untold = f"; {few} of them cannot be told with fewer than 2 runs on each side" if few else ""
    return f"Times against before, of {len(changes)} cells: {text}{untold}."


def _cells(rows: pd.DataFrame, ratios: Iterable[Iterable[float]]) -> str:
    """The cells, each with its ratio."""
    times = [factor(Interval(*each)) for each in ratios]
    return listed([" ".join(words) for words in zip(rows["arch"], rows["method"], times, strict=True)], "cells")


def _range(rows: pd.DataFrame) -> str:
    if len(rows) > 1:
        return span(list(rows["speedup"]))
    return factor(Interval(*rows[["speedup", "speedup_low", "speedup_high"]].iloc[0]))
