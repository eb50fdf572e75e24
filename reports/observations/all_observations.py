"""The frame of all observations of a report."""

from collections.abc import Iterator
from itertools import chain

import pandas as pd

from bench.manifest.manifest import Manifest
from reports.observations import energy, outcomes, times
from reports.observations.observation import COLUMNS, Row

_WHOLE = ["seed", "n", "run", "round"]
"""Columns of whole numbers, some of them missing."""


def observations(manifest: Manifest, frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row for each value that a report's frames hold, with COLUMNS; a missing value has no row."""
    rows = chain(_times(manifest, frames), ({**row, "study": None} for row in _outcomes(frames)))
    frame = pd.DataFrame([row for row in rows if not pd.isna(row["estimate"])], columns=list(COLUMNS))
    frame["manifest"] = manifest.name
    # An accuracy that several rows of a frame repeat is one observation.
    frame = frame.astype(dict.fromkeys(_WHOLE, "Int64")).drop_duplicates(ignore_index=True)
    return frame


def _times(manifest: Manifest, frames: dict[str, pd.DataFrame]) -> Iterator[Row]:
    yield from times.timed(manifest, frames["timing"])
    yield from times.changed(frames["changes"]) if "changes" in frames else ()
    yield from energy.consumed(frames["energy"])
    yield from times.needed(frames["teachers"])
    yield from times.averaged(frames["means"])
    yield from times.factored(manifest, frames["factors"])
    yield from times.scheduled(manifest, frames["schedule"], frames["epoch_costs"])
    yield from times.scaled(frames["scaling"])
    yield from times.repeated(frames["repetitions"])
    yield from times.explained(frames["scaling_fit"])
    yield from times.switched(frames["speed"])
    yield from times.certified(frames["certification"])


def _outcomes(frames: dict[str, pd.DataFrame]) -> Iterator[Row]:
    yield from outcomes.evaluated(frames["robustness"])
    yield from outcomes.distributed(frames["probabilities"])
    yield from outcomes.priced(frames["robustness_cost"])
    yield from outcomes.reached(frames["targets"]) if "targets" in frames else ()
    yield from outcomes.collapsed(frames["trainings"])
    yield from outcomes.checked(frames["masking"])
    yield from outcomes.compared(frames["comparisons"])
    yield from outcomes.repeated(frames["seeds"])
    yield from outcomes.repeated(frames["seed_differences"])
    yield from outcomes.monitored(frames["monitored"])
