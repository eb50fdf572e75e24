"""Columns common to tables of results."""

import math
from pathlib import Path

from bench.results.measured import Measured
from bench.results.statistics import Interval


def columns(names: list[str], measured: list[Measured]) -> list[str]:
    """The names, with `folder` where results come from several folders."""
    return names + ["folder"] * (len(folders(measured)) > 1)


def folders(measured: list[Measured]) -> set[Path]:
    return {m.folder for m in measured}


def named(column: str, interval: Interval) -> dict[str, float]:
    """An interval as three columns."""
    return {column: interval.mean, f"{column}_low": interval.low, f"{column}_high": interval.high}


def number(value: float | None) -> float:
    return math.nan if value is None else value
