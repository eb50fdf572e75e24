"""The records of a manifest, by cell."""

from dataclasses import dataclass, field
from pathlib import Path

from bench.cells import Cell, Manifest
from bench.records import Epoch, Start, Verdict, read, read_all

COMPARED = (
    "device",
    "cpu",
    "python",
    "torch",
    "cuda",
    "ffcv",
    "loader",
    "precision",
    "threads",
    "allocator",
    "world_size",
    "nodes",
)
"""What two times must share before one is divided by the other."""


@dataclass
class Measured:
    """What is known of a cell: its times run by run, and its verdicts by evaluation."""

    cell: Cell
    folder: Path
    """The runs folder that it was found in: what lies in two is never mixed into one number."""
    starts: list[Start] = field(default_factory=list)
    runs: list[dict[int, Epoch]] = field(default_factory=list)
    """Of each run, the timed epochs (warm-up left out) by round."""
    verdicts: dict[str, dict[int, Verdict]] = field(default_factory=dict)
    """By evaluation and image: an image judged twice, by an attempt that was cut off and the next, counts once."""
    epochs: int = 0
    """Recorded in all, warm-up included."""
    flops: float | None = None


def load(manifest: Manifest, folders: list[Path]) -> list[Measured]:
    """Every cell of the manifest with what each runs folder holds of it; ValueError for records that cannot be read."""
    return [measured for folder in folders for measured in _load(manifest, folder)]


def _load(manifest: Manifest, runs: Path) -> list[Measured]:
    if manifest.timing is None:
        return [_trained(cell, runs) for cell in manifest.cells]
    measured = {cell.id: Measured(cell, runs) for cell in manifest.cells}
    for study in manifest.studies:
        for run in range(manifest.timing.runs):
            records = read(runs / study.id / f"run{run}" / "time.jsonl")
            for arm in study.arms:
                _add(measured[arm.id], records)
    return list(measured.values())


def _trained(cell: Cell, runs: Path) -> Measured:
    measured = Measured(cell, runs)
    _add(measured, read(runs / cell.id / "train.jsonl"))
    wanted = {spec.id: spec for spec in cell.evals}
    for record in read_all(runs / cell.id):
        # An earlier, larger choice of images must not leak into this manifest's.
        if isinstance(record, Verdict) and record.eval in wanted and _asked(wanted[record.eval], record.index):
            measured.verdicts.setdefault(record.eval, {})[record.index] = record
    return measured


def _asked(spec, index: int) -> bool:
    return index % spec.every == 0 and (spec.images is None or index < spec.every * spec.images)


def _add(measured: Measured, records: list) -> None:
    starts = [record for record in records if isinstance(record, Start)]
    epochs = [record for record in records if isinstance(record, Epoch) and record.arm == measured.cell.id]
    if not epochs:
        return
    measured.starts += starts
    measured.epochs += len(epochs)
    measured.runs.append({e.epoch if e.round is None else e.round: e for e in epochs if not e.warmup})
    for start in starts:
        measured.flops = start.flops.get(measured.cell.id, measured.flops)


def unlike(one: Measured, other: Measured) -> str | None:
    """The first field in which the machines, programs or settings of two cells' times differ."""
    for name in COMPARED:
        values = {getattr(start, name) for start in (*one.starts, *other.starts)}
        if len(values) > 1:
            return f"{name}: {', '.join(sorted(map(str, values)))}"
    return None
