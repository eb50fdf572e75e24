"""Columns common to tables of results."""

import math
from pathlib import Path
from typing import NamedTuple

from bench.cell import Spec
from bench.results.measured import Measured
from bench.results.statistics import Interval

SOURCE = "source"
"""Column of a frame with the Source of each row; no table or wide CSV shows it."""


class Source(NamedTuple):
    """The records that a row of a frame is computed from."""

    cell: Measured
    other: Measured | None = None
    """The cell that the row compares `cell` with."""
    spec: Spec | None = None
    """The evaluation that the row belongs to."""


def columns(names: list[str], measured: list[Measured]) -> list[str]:
    """The names, with `folder` where results come from several folders, and the source of each row."""
    return [*names, *["folder"] * (len(folders(measured)) > 1), SOURCE]


def folders(measured: list[Measured]) -> set[Path]:
    return {m.folder for m in measured}


def named(column: str, interval: Interval) -> dict[str, float]:
    """An interval as three columns."""
    return {column: interval.mean, f"{column}_low": interval.low, f"{column}_high": interval.high}


def number(value: float | None) -> float:
    return math.nan if value is None else value
