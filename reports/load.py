"""The records of a manifest, by cell."""

from dataclasses import dataclass, field
from pathlib import Path

from bench.cells import Cell, Manifest
from bench.records import End, Epoch, Phases, Start, Verdict, read, read_all


@dataclass
class Measured:
    """What is known of a cell: its times run by run, and its verdicts by evaluation."""

    cell: Cell
    folder: Path
    """The runs folder that it was found in: what lies in two is never mixed into one number."""
    starts: list[Start] = field(default_factory=list)
    runs: dict[int, dict[int, Epoch]] = field(default_factory=dict)
    """Of each run, the timed epochs (warm-up left out) by round."""
    phases: list[Phases] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What a reader must know of the records themselves."""
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
    found = []
    for study in manifest.studies:
        measured = [Measured(arm, runs) for arm in study.arms]
        for run in range(manifest.timing.runs):
            records = read(runs / study.id / f"run{run}" / "time.jsonl")
            for m in measured:
                _add(m, records, run)
                rounds = len(m.runs.get(run, ()))
                if rounds < manifest.timing.rounds and records:
                    m.remarks.append(f"run {run} has {rounds} of {manifest.timing.rounds} rounds")
        found += measured
    return found


def _trained(cell: Cell, runs: Path) -> Measured:
    measured = Measured(cell, runs)
    _add(measured, read(runs / cell.id / "train.jsonl"), 0)
    wanted = {spec.id: spec for spec in cell.evals}
    for record in read_all(runs / cell.id):
        # An earlier, larger choice of images must not leak into this manifest's.
        if isinstance(record, Verdict) and record.eval in wanted and _asked(wanted[record.eval], record.index):
            measured.verdicts.setdefault(record.eval, {})[record.index] = record
    return measured


def _asked(spec, index: int) -> bool:
    return index % spec.every == 0 and (spec.images is None or index < spec.every * spec.images)


def _add(measured: Measured, records: list, run: int) -> None:
    times = [record.time for record in records if isinstance(record, Start | End)]
    if times != sorted(times):
        measured.remarks.append(f"run {run}: the host's clock was set back; its dates are not to be trusted")
    starts = [record for record in records if isinstance(record, Start)]
    epochs = [record for record in records if isinstance(record, Epoch) and record.arm == measured.cell.id]
    if not epochs:
        return
    measured.starts += starts
    measured.epochs += len(epochs)
    measured.runs[run] = {e.epoch if e.round is None else e.round: e for e in epochs if not e.warmup}
    measured.phases += [r for r in records if isinstance(r, Phases) and r.arm == measured.cell.id]
    for start in starts:
        measured.flops = start.flops.get(measured.cell.id, measured.flops)
