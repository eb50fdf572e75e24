"""Load the records of a manifest: every cell with its own, in each runs folder."""

import gc
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.build import robust_dataset
from bench.cell import Cell, Spec
from bench.manifest.manifest import Manifest, Study
from bench.records import (
    CertificationTiming,
    End,
    Epoch,
    MonitorPoint,
    Phases,
    Record,
    Replaced,
    RobustChunk,
    Start,
    Verdict,
    read_lines,
)
from bench.results.measured import Measured


def load(manifest: Manifest, folders: list[Path]) -> list[Measured]:
    """Every cell of the manifest with its records in each runs folder; ValueError for records that cannot be read."""
    # Garbage collection would take as long as reading: records are many and all of them stay in use.
    gc.disable()
    try:
        measured = [m for folder in folders for m in _load(manifest, folder)]
    finally:
        # Nor does later collection look through them again.
        gc.freeze()
        gc.enable()
    groups: dict[tuple, list[Measured]] = {}
    for m in measured:
        m.comparison_group = groups.setdefault((m.folder, m.study, m.cell.comparison_group), [])
        m.comparison_group.append(m)
    return measured


def _load(manifest: Manifest, runs: Path) -> list[Measured]:
    if manifest.timing is None:
        measured = [Measured(cell, runs) for cell in manifest.cells]
    else:
        measured = _timed(manifest, runs)
    trained = {cell.id for cell in manifest.trained}
    for m in measured:
        m.making = _making(m)
        if m.id in trained and (manifest.timing is None or m.cell.evals or m.cell.monitor):
            _add_training(m, manifest.timing is not None)
    _add_teachers(manifest, measured)
    return measured


def _add_teachers(manifest: Manifest, measured: list[Measured]) -> None:
    """Set each cell's ancestors; those that the manifest neither trains nor times are read from this folder."""
    known: dict[str, Measured] = {}
    for m in measured:
        # Several studies may hold the same arm, and some of them may have no time for it yet.
        if m.id not in known or (m.timed and not known[m.id].timed):
            known[m.id] = m
    own = known if manifest.timing is None else {name: m for name, m in known.items() if m.timed}
    elsewhere: dict[str, Measured] = {}
    for m in measured:
        for cell in m.cell.ancestors:
            if cell.id not in own and cell.id not in elsewhere:
                elsewhere[cell.id] = _outside(cell, m.folder)
        m.teachers = tuple(own.get(cell.id) or elsewhere[cell.id] for cell in m.cell.ancestors)
        for teacher in m.teachers:
            if elsewhere.get(teacher.id) is teacher:  # no report of its own tells its warnings
                m.left_out |= teacher.left_out
                m.replaced |= teacher.replaced


def _outside(cell: Cell, runs: Path) -> Measured:
    """Training of a cell that is in the folder but not in the manifest."""
    m = Measured(cell, runs)
    training = _read(runs / cell.id / "train.jsonl", (m,))
    _add(m, training, 0)
    m.losses = {record.epoch: record.loss for record in training if isinstance(record, Epoch)}
    m.curves = {(record.eval, record.epoch): record for record in training if isinstance(record, MonitorPoint)}
    m.replaced = {record.text: None for record in training if isinstance(record, Replaced)}
    m.making = _making(m)
    return m


def _timed(manifest: Manifest, runs: Path) -> list[Measured]:
    """Every arm of the manifest's studies, and the cells that differ from an arm in their seed alone, without times.

    Arms that are no cells of the manifest serve ratios and have no evals.
    """
    measured: list[Measured] = []
    own = {cell.id for cell in manifest.cells}
    for study in manifest.studies:
        cells = [arm if arm.id in own else arm.model_copy(update={"evals": ()}) for arm in study.arms]
        measured += measure(study, runs, cells)
    arms = {m.id for m in measured}
    return measured + [Measured(cell, runs) for cell in manifest.cells if cell.id not in arms]


def measure(study: Study, runs: Path, cells: Sequence[Cell]) -> list[Measured]:
    """The cells, which are the arms of a study, with their records in a runs folder."""
    timing, name = study.timing, study.id
    first = timing.runs if timing.until else None
    arms = [Measured(cell, runs, study=name, first_runs=first) for cell in cells]
    for run in range(timing.most_runs):
        records = _read(runs / name / f"run{run}" / "time.jsonl", arms)
        shares: dict[str | None, list[Record]] = {}
        for record in records:
            arm = record.arm if isinstance(record, Epoch | MonitorPoint | Phases | CertificationTiming) else None
            shares.setdefault(arm, []).append(record)
        for m in arms:
            _add(m, [*shares.get(None, ()), *shares.get(m.id, ())], run)
            rounds = len(m.runs.get(run, ()))
            if rounds < timing.rounds and records:
                warning = f"run {run} has {rounds} of {timing.rounds} rounds"
                m.remarks.append((warning, "Submit the manifest again to complete them."))
    return arms


def _add_training(m: Measured, apart: bool) -> None:
    """Add the records in the cell's own folder; its times, too, unless they were measured `apart`, in a study."""
    files = {path.name: _read(path, (m,)) for path in sorted((m.folder / m.id).glob("*.jsonl"))}
    training = files.get("train.jsonl", [])
    if not apart:
        _add(m, training, 0)
    for record in training:
        if isinstance(record, Start) and apart:
            m.trainings.append(record)
        elif isinstance(record, Epoch):
            m.losses[record.epoch] = record.loss
            m.training[record.epoch] = record
            m.host_memory = max(filter(None, (m.host_memory, record.host_memory)), default=None)
        elif isinstance(record, MonitorPoint):
            m.curves[record.eval, record.epoch] = record
        elif isinstance(record, Replaced):
            m.replaced[record.text] = None
    for records in files.values():
        _add_verdicts(m, records)


def _add_verdicts(m: Measured, records: list[Record]) -> None:
    wanted, start = {spec.id: spec for spec in m.cell.evals}, None
    for record in records:
        if isinstance(record, Start):
            start = record
        # Verdicts on images that an earlier manifest evaluated, but this one does not, are left out.
        elif isinstance(record, Verdict) and record.eval in wanted and _selected(wanted[record.eval], record.index):
            m.verdicts.setdefault(record.eval, {})[record.index] = record
            if start and start.time >= m.evaluations.get(record.eval, start).time:
                m.evaluations[record.eval] = start


def _making(m: Measured) -> float:
    """Seconds an image to generate the cell's robust dataset; 0 without one, NaN where none were recorded."""
    if not m.cell.robust:
        return 0.0
    files = sorted(robust_dataset.folder(m.cell, m.folder).glob("*.jsonl"))
    records = [record for file in files for record in _read(file, (m,))]
    m.replaced |= {record.text: None for record in records if isinstance(record, Replaced)}
    chunks = {record.first: record for record in records if isinstance(record, RobustChunk)}
    images = sum(chunk.images for chunk in chunks.values())
    return sum(chunk.seconds for chunk in chunks.values()) / images if images else math.nan


def _selected(spec: Spec, index: int) -> bool:
    return index % spec.every == 0 and (spec.images is None or index < spec.every * spec.images)


def _read(path: Path, readers: Iterable[Measured]) -> list[Record]:
    """The records of a file; those whose records they are note which lines of it are left out."""
    lines = read_lines(path)
    if lines.left_out:
        for m in readers:
            m.left_out[lines.left_out] = None
    return lines.records


def _add(measured: Measured, records: list[Record], run: int) -> None:
    """Add a run's records of the timed arm."""
    times = [record.time for record in records if isinstance(record, Start | End)]
    if times != sorted(times):
        warning = f"run {run}: the host's clock was set back; its dates are not to be trusted"
        measured.remarks.append((warning, "Synchronize the clocks of the hosts."))
    starts = [record for record in records if isinstance(record, Start)]
    own = measured.id
    epochs = [record for record in records if isinstance(record, Epoch) and record.arm == own]
    if not epochs:
        return
    measured.starts += starts
    if starts:
        measured.started[run] = starts[-1]
        if ends := [record.time for record in records if isinstance(record, End)]:
            measured.spans[run] = ends[-1] - starts[-1].time
    measured.runs[run] = {e.epoch if e.round is None else e.round: e for e in epochs if not e.warmup}
    measured.phases += [r for r in records if isinstance(r, Phases) and r.arm == own]
    for start in starts:
        if own in start.flops:
            measured.flops = start.flops[own] / measured.cell.replays
        for first, flops in start.early_flops.get(own, {}).items():
            measured.early_flops[float(first)] = flops / measured.cell.replays
        if own in start.traffic:
            measured.traffic = start.traffic[own] / measured.cell.replays
