"""CSV files that no spreadsheet takes for programs."""

import re
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from crt.disk import naming
from crt.quantity import NUMBER


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame in full precision, without formulas; an error names the file."""
    with naming(path):
        without_formulas(frame).to_csv(path, index=False, errors="backslashreplace")


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
