"""CSV files in full precision: one of tidy observations, or one of each table."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bench.results.columns import SOURCE
from crt.disk import naming


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


def _write(frame: pd.DataFrame, path: Path) -> None:
    with naming(path):
        frame.to_csv(path, index=False, errors="backslashreplace")
