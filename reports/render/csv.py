"""CSV files of the frames of all tables, in full precision."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd


def write(frames: dict[str, pd.DataFrame], path: Path) -> Iterator[Path]:
    """Write the times to `path` and every other frame with rows beside it; yield the files."""
    for name, frame in frames.items():
        if name == "timing" or not frame.empty:
            file = path if name == "timing" else path.with_name(f"{path.stem}-{name}.csv")
            frame.to_csv(file, index=False, errors="backslashreplace")
            yield file
