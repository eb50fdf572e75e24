"""Records of runs: append-only JSON lines."""

from bench.records.schema import (
    GPU,
    READABLE,
    SCHEMA,
    Cost,
    Curve,
    Drawn,
    End,
    Epoch,
    Fail,
    Made,
    Phases,
    Provenance,
    Record,
    Start,
    Verdict,
)
from bench.records.store import append, read, read_all

__all__ = [
    "GPU",
    "READABLE",
    "SCHEMA",
    "Cost",
    "Curve",
    "Drawn",
    "End",
    "Epoch",
    "Fail",
    "Made",
    "Phases",
    "Provenance",
    "Record",
    "Start",
    "Verdict",
    "append",
    "read",
    "read_all",
]
