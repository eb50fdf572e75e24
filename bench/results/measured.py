"""The records of a manifest, by cell."""

import gc
import math
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path

from bench.build import robust_dataset
from bench.cell import Cell
from bench.manifest.manifest import Manifest
from bench.records import (
    CertificationTiming,
    End,
    Epoch,
    MonitorPoint,
    Phases,
    Record,
    RobustChunk,
    Start,
    Verdict,
    read,
    read_all,
)
from crt.data import DATASETS


@dataclass(eq=False)
class Measured:
    """What is known of a cell: its times run by run, its training, and its verdicts by evaluation."""

    cell: Cell
    folder: Path
    """The runs folder that it was found in: what lies in two is never mixed into one number."""
    starts: list[Start] = field(default_factory=list)
    """Of what was timed."""
    runs: dict[int, dict[int, Epoch]] = field(default_factory=dict)
    """Of each run, the timed epochs (warm-up left out) by round."""
    phases: list[Phases] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What a reader must know of the records themselves."""
    flops: float | None = None
    """Of one image and one replay."""
    traffic: float | None = None
    """Bytes of one image and one replay."""
    study: str | None = None
    """What it was timed in, beside what it may be compared with; of what was trained, nothing."""
    making: float = 0.0
    """Seconds an image to make the robust dataset that it trains on; NaN where that was not recorded."""
    host_memory: float | None = None
    """Peak in MB of the process that trained it, and nothing else, to the end."""
    trainings: list[Start] = field(default_factory=list)
    """Of its training to the end, where its times are of a study instead."""
    losses: dict[int, float] = field(default_factory=dict)
    """Training loss by epoch, warm-up included; empty where it was timed alone."""
    curves: dict[tuple[str, int], MonitorPoint] = field(default_factory=dict)
    """What was seen of it in training, by evaluation and epoch."""
    verdicts: dict[str, dict[int, Verdict]] = field(default_factory=dict)
    """By evaluation and image: an image judged twice, by an attempt that was cut off and the next, counts once."""
    teachers: "tuple[Measured, ...]" = ()
    """Every teacher that is trained before it, the nearest first, with what the folder holds of each."""
    comparison_group: "list[Measured]" = field(default_factory=list)
    """What may stand beside it in one process, itself among them."""

    @cached_property
    def id(self) -> str:
        """The cell's."""
        return self.cell.id

    @property
    def timed(self) -> bool:
        """True where it has a time that counts."""
        return any(self.runs.values())

    @cached_property
    def paces(self) -> dict[int, dict[int, float]]:
        """Run by run, by round: seconds an image of one replay."""
        replays = self.cell.replays
        return {
            run: {turn: e.seconds / e.images / replays for turn, e in epochs.items()}
            for run, epochs in self.runs.items()
        }

    @cached_property
    def logs(self) -> dict[int, dict[int, float]]:
        """Of its paces."""
        return {run: {turn: math.log(pace) for turn, pace in paces.items()} for run, paces in self.paces.items()}

    @property
    def seconds(self) -> list[list[float]]:
        """Run by run, of each timed epoch, brought to the whole training set and to one replay of it."""
        whole = DATASETS[self.cell.dataset].train_images
        return [[pace * whole for pace in paces.values()] for paces in self.paces.values()]


def load(manifest: Manifest, folders: list[Path]) -> list[Measured]:
    """Every cell of the manifest with what each runs folder holds of it; ValueError for records that cannot be read."""
    # Records are many and none is garbage: to look for some among them takes as long as reading them.
    gc.disable()
    try:
        found = [measured for folder in folders for measured in _load(manifest, folder)]
    finally:
        gc.enable()
    comparison_group: dict[tuple, list[Measured]] = {}
    for m in found:
        m.comparison_group = comparison_group.setdefault((m.folder, m.study, m.cell.comparison_group), [])
        m.comparison_group.append(m)
    return found


def _load(manifest: Manifest, runs: Path) -> list[Measured]:
    if manifest.timing is None:
        found = [Measured(cell, runs) for cell in manifest.cells]
    else:
        found = _timed(manifest, runs)
    trained = {cell.id for cell in manifest.trained}
    for m in found:
        m.making = _making(m)
        if m.id in trained and (manifest.timing is None or m.cell.evals or m.cell.monitor):
            _trained(m, manifest.timing is not None)
    _teach(manifest, found)
    return found


def _teach(manifest: Manifest, found: list[Measured]) -> None:
    """Give each its teachers; of one that the manifest neither trains nor times, its training in this folder tells."""
    known: dict[str, Measured] = {}
    for m in found:
        # One arm may stand in several studies, of which some hold no time of it yet.
        if m.id not in known or (m.timed and not known[m.id].timed):
            known[m.id] = m
    own = known if manifest.timing is None else {name: m for name, m in known.items() if m.timed}
    elsewhere: dict[str, Measured] = {}
    for m in found:
        for cell in m.cell.lineage:
            if cell.id not in own and cell.id not in elsewhere:
                elsewhere[cell.id] = _outside(cell, m.folder)
        m.teachers = tuple(own.get(cell.id) or elsewhere[cell.id] for cell in m.cell.lineage)


def _outside(cell: Cell, runs: Path) -> Measured:
    """A cell's training alone, whichever manifest asked for it."""
    m = Measured(cell, runs)
    training = read(runs / cell.id / "train.jsonl")
    _add(m, training, 0)
    m.losses = {record.epoch: record.loss for record in training if isinstance(record, Epoch)}
    m.making = _making(m)
    return m


def _timed(manifest: Manifest, runs: Path) -> list[Measured]:
    """Every arm of the manifest's studies; those that stand beside its cells for a ratio's sake are not judged."""
    found, own = [], {cell.id for cell in manifest.cells}
    for study in manifest.studies:
        arms = [arm if arm.id in own else arm.model_copy(update={"evals": ()}) for arm in study.arms]
        name = study.id
        measured = [Measured(arm, runs, study=name) for arm in arms]
        for run in range(manifest.timing.runs):
            records = read(runs / name / f"run{run}" / "time.jsonl")
            shares: dict[str | None, list[Record]] = {}
            for record in records:
                arm = record.arm if isinstance(record, Epoch | MonitorPoint | Phases | CertificationTiming) else None
                shares.setdefault(arm, []).append(record)
            for m in measured:
                _add(m, [*shares.get(None, ()), *shares.get(m.id, ())], run)
                rounds = len(m.runs.get(run, ()))
                if rounds < manifest.timing.rounds and records:
                    m.remarks.append(f"run {run} has {rounds} of {manifest.timing.rounds} rounds")
        found += measured
    return found


def _trained(m: Measured, apart: bool) -> None:
    """What the cell's own folder says; its times, too, come from there unless they were taken apart."""
    files = {path.name: read(path) for path in sorted((m.folder / m.id).glob("*.jsonl"))}
    training = files.get("train.jsonl", [])
    if not apart:
        _add(m, training, 0)
    for record in training:
        if isinstance(record, Start) and apart:
            m.trainings.append(record)
        elif isinstance(record, Epoch):
            m.losses[record.epoch] = record.loss
            m.host_memory = max(filter(None, (m.host_memory, record.host_memory)), default=None)
        elif isinstance(record, MonitorPoint):
            m.curves[record.eval, record.epoch] = record
    wanted = {spec.id: spec for spec in m.cell.evals}
    for record in chain.from_iterable(files.values()):
        # An earlier, larger choice of images must not leak into this manifest's.
        if isinstance(record, Verdict) and record.eval in wanted and _asked(wanted[record.eval], record.index):
            m.verdicts.setdefault(record.eval, {})[record.index] = record


def _making(m: Measured) -> float:
    """Seconds an image of the robust dataset that the cell trains on; NaN where none were recorded."""
    if not m.cell.robust:
        return 0.0
    made = {r.first: r for r in read_all(robust_dataset.folder(m.cell, m.folder)) if isinstance(r, RobustChunk)}
    images = sum(r.images for r in made.values())
    return sum(r.seconds for r in made.values()) / images if images else math.nan


def _asked(spec, index: int) -> bool:
    return index % spec.every == 0 and (spec.images is None or index < spec.every * spec.images)


def _add(measured: Measured, records: list, run: int) -> None:
    times = [record.time for record in records if isinstance(record, Start | End)]
    if times != sorted(times):
        measured.remarks.append(f"run {run}: the host's clock was set back; its dates are not to be trusted")
    starts = [record for record in records if isinstance(record, Start)]
    own = measured.id
    epochs = [record for record in records if isinstance(record, Epoch) and record.arm == own]
    if not epochs:
        return
    measured.starts += starts
    measured.runs[run] = {e.epoch if e.round is None else e.round: e for e in epochs if not e.warmup}
    measured.phases += [r for r in records if isinstance(r, Phases) and r.arm == own]
    for start in starts:
        if own in start.flops:
            measured.flops = start.flops[own] / measured.cell.replays
        if own in start.traffic:
            measured.traffic = start.traffic[own] / measured.cell.replays
