"""All tables of a report, in the order of each writer."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pandas as pd

from reports.render.table_spec import LATEX, TEXT, TableSpec
from reports.tables.attack_checks import masking_table
from reports.tables.changes import changes_table
from reports.tables.claims import claims_table, transfer_table
from reports.tables.comparisons import comparisons_table
from reports.tables.energy import energy_table
from reports.tables.factors import factors_table, means_table
from reports.tables.probabilities import probabilities_table
from reports.tables.repetitions import repetitions_table
from reports.tables.restated import restatements_table
from reports.tables.robustness import robustness_tables
from reports.tables.robustness_cost import robustness_cost_table
from reports.tables.scaling import scaling_table
from reports.tables.scaling_fit import scaling_fit_table
from reports.tables.schedule import schedule_table
from reports.tables.seeds import seed_differences_table, seeds_table
from reports.tables.speed import certification_table, speed_table
from reports.tables.targets import targets_table
from reports.tables.timing import memory_table, published_time_table, time_table
from reports.tables.trainings import trainings_table

Describe = Callable[[pd.DataFrame], Iterator[TableSpec]]
Entry = tuple[str, Describe]
"""Key of a frame, and the function that describes its tables."""
_CHANGES: Entry = ("changes", changes_table)
_TIME: Entry = ("timing", time_table)
_PUBLISHED: Entry = ("timing", published_time_table)
_MEMORY: Entry = ("timing", memory_table)
_ENERGY: Entry = ("energy", energy_table)
_RESTATED: Entry = ("restatements", restatements_table)
_RATIOS: list[Entry] = [
    ("means", means_table),
    ("factors", factors_table),
    ("schedule", schedule_table),
    ("scaling", scaling_table),
    ("scaling_fit", scaling_fit_table),
]
_REPETITIONS: Entry = ("repetitions", repetitions_table)
_ROBUSTNESS: list[Entry] = [
    ("robustness", robustness_tables),
    ("probabilities", probabilities_table),
    ("robustness_cost", robustness_cost_table),
    ("targets", targets_table),
    ("seeds", seeds_table),
    ("seed_differences", seed_differences_table),
    ("trainings", trainings_table),
    ("masking", masking_table),
    ("comparisons", comparisons_table),
]
_CLAIMS: list[Entry] = [("claims", claims_table), ("claims", transfer_table)]
_ORDER = {
    TEXT: [_CHANGES, _RESTATED, _TIME, *_RATIOS, _REPETITIONS, _MEMORY, _ENERGY, *_ROBUSTNESS, *_CLAIMS],
    LATEX: [_CHANGES, _RESTATED, _TIME, _PUBLISHED, _MEMORY, _ENERGY, *_RATIOS, _REPETITIONS, *_ROBUSTNESS, *_CLAIMS],
}
_SWITCHES: list[Entry] = [("speed", speed_table), ("certification", certification_table)]


def tables(frames: dict[str, pd.DataFrame], writer: str) -> Iterator[TableSpec]:
    """Yield the tables that a writer shows; each runs folder has its own, because no ratio crosses folders."""
    timing = frames["timing"]
    if "folder" in timing:
        for folder in timing["folder"].unique():
            own = {key: _part(frame, folder) for key, frame in frames.items()}
            yield from (replace(spec, folder=folder) for spec in tables(own, writer))
        return
    # A study of switches shows its own tables only, and so does one of restatements where nothing else is timed.
    alone = writer == TEXT and (
        not frames["speed"].empty or (timing["s_per_epoch"].isna().all() and not frames["restatements"].empty)
    )
    for key, describe in [_CHANGES, _RESTATED, *_SWITCHES] if alone else _ORDER[writer]:
        if key in frames and not frames[key].empty:
            yield from (replace(spec, frame=key) for spec in describe(frames[key]) if writer in spec.writers)


def _part(frame: pd.DataFrame, folder: str) -> pd.DataFrame:
    return frame[frame["folder"] == folder].drop(columns="folder") if "folder" in frame else frame
