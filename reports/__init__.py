"""Reports: the tables and figures of recorded results."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_frame"]


def load_frame(
    manifest: str | Path,
    runs: str | Path | Sequence[str | Path] = "runs",
    quick: bool = False,
    allow: Collection[str] = (),
    grid_intensity: float | None = None,
    hourly_rate: float | None = None,
) -> pd.DataFrame:
    """The observations of a manifest's records as a pandas frame: the rows that `python -m reports --csv` writes.

    `runs` is a folder of records, or several; the others are the options of the command line. Columns and
    metrics are described in reports/README.md. ValueError with file, place, value and what is allowed.
    """
    # Imported here, so that `python -m reports --help` starts at once.
    from bench.results.energy import Rates
    from reports.frames import read_frames
    from reports.observations import observations

    folders = [Path(folder) for folder in ([runs] if isinstance(runs, str | Path) else runs)]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"runs {folder}: no such folder (allowed: folders of records)")
    found = read_frames(Path(manifest), folders, quick, allow, Rates(grid_intensity, hourly_rate))
    return observations(found.manifest, found.frames)
