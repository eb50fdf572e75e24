"""CSV files in full precision: one of tidy observations, or one of each table."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from bench.results.columns import SOURCE
from crt.disk import naming
from crt.quantity import NUMBER


def write_tidy(observations: pd.DataFrame, path: Path) -> None:
    """Write a row for each observation."""
    _write(observations, path)


def write_wide(frames: dict[str, pd.DataFrame], path: Path) -> Iterator[Path]:
    """Write the times to `path` and every other frame with rows beside it; yield the files."""
    for name, frame in frames.items():
        if name == "timing" or not frame.empty:
            file = path if name == "timing" else path.with_name(f"{path.stem}-{name}.csv")
            _write(frame.drop(columns=SOURCE, errors="ignore"), file)
            yield file


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before each text that a spreadsheet would take for a formula; numbers stay."""
    guarded = frame
    for name, column in frame.items():
        if is_numeric_dtype(column):
            continue
        cells = [f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell for cell in column]
        if any(new is not old for new, old in zip(cells, column, strict=True)):
            guarded = guarded.assign(**{str(name): pd.Series(cells, index=column.index, dtype=object)})
    return guarded


def _is_formula(text: str) -> bool:
    return text.startswith(("=", "+", "-", "@", "\t", "\r")) and not re.fullmatch(NUMBER, text)


def _write(frame: pd.DataFrame, path: Path) -> None:
    with naming(path):
        without_formulas(frame).to_csv(path, index=False, errors="backslashreplace")
