"""Records of runs: append-only JSON lines."""

from bench.records.schema import (
    GPU,
    PLAIN,
    READABLE,
    SCHEMA,
    CertificationTiming,
    Cost,
    End,
    Epoch,
    Fail,
    MonitorPoint,
    Phases,
    Provenance,
    Record,
    RobustChunk,
    Start,
    Verdict,
)
from bench.records.store import append, read, read_all

__all__ = [
    "GPU",
    "PLAIN",
    "READABLE",
    "SCHEMA",
    "CertificationTiming",
    "Cost",
    "End",
    "Epoch",
    "Fail",
    "MonitorPoint",
    "Phases",
    "Provenance",
    "Record",
    "RobustChunk",
    "Start",
    "Verdict",
    "append",
    "read",
    "read_all",
]
