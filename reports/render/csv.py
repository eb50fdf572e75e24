"""CSV files in full precision: one of tidy observations, or one of each table."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bench.results.columns import SOURCE
from bench.results.csv_file import write_csv


def write_tidy(observations: pd.DataFrame, path: Path) -> None:
    """Write a row for each observation."""
    write_csv(observations, path)


def write_wide(frames: dict[str, pd.DataFrame], path: Path) -> Iterator[Path]:
    """Write the times to `path` and every other frame with rows beside it; yield the files."""
    for name, frame in frames.items():
        if name == "timing" or not frame.empty:
            file = path if name == "timing" else path.with_name(f"{path.stem}-{name}.csv")
            write_csv(frame.drop(columns=SOURCE, errors="ignore"), file)
            yield file
