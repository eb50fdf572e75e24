"""Records of one cell in one runs folder."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bench.cell import Cell
from bench.manifest.manifest import Manifest
from bench.records import Epoch, MonitorPoint, Phases, Settings, Start, Switches, Verdict


@dataclass(eq=False)
class Measured:
    """Records of one cell in one runs folder: its times by run, its training, and its verdicts by evaluation."""

    cell: Cell
    folder: Path
    """Runs folder of the records; records of two folders are never combined into one number."""
    starts: list[Start] = field(default_factory=list)
    """Start records of the timed runs."""
    runs: dict[int, dict[int, Epoch]] = field(default_factory=dict)
    """Timed epochs (without warm-up) by run and round."""
    started: dict[int, Start] = field(default_factory=dict)
    """Start record of the last attempt of each timed run."""
    first_runs: int | None = None
    """Number of runs whose spread decided the number of all; None where that was fixed."""
    spans: dict[int, float] = field(default_factory=dict)
    """Seconds from the start record to the end record by run."""
    phases: list[Phases] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    """Warnings about the records themselves, each with its remedy."""
    left_out: dict[str, None] = field(default_factory=dict)
    """Of each file of the records, the first line that is no record, with the number of such lines."""
    replaced: dict[str, None] = field(default_factory=dict)
    """Damaged files that attempts found, each with what they used or did instead."""
    flops: float | None = None
    """Floating-point operations for one image and one replay."""
    early_flops: dict[float, float] = field(default_factory=dict)
    """`flops` in each phase of training before the steady one, by the first epoch of the phase."""
    traffic: float | None = None
    """Bytes read and written for one image and one replay."""
    study: str | None = None
    """Id of the study that timed the cell; None where its times come from its training."""
    making: float = 0.0
    """Seconds an image to generate the robust dataset that the cell trains on; NaN where they were not recorded."""
    host_memory: float | None = None
    """Peak memory in MB of the process that trained this cell alone."""
    trainings: list[Start] = field(default_factory=list)
    """Start records of the cell's training, where its times come from a study."""
    training: dict[int, Epoch] = field(default_factory=dict)
    """Epochs of the cell's own training, warm-up included; empty where the cell was only timed."""
    losses: dict[int, float] = field(default_factory=dict)
    """Training loss by epoch, warm-up included; empty where the cell was only timed."""
    curves: dict[tuple[str, int], MonitorPoint] = field(default_factory=dict)
    """Monitored evaluations by evaluation id and epoch."""
    verdicts: dict[str, dict[int, Verdict]] = field(default_factory=dict)
    """Verdicts by evaluation id and image; one for an image that two attempts evaluated."""
    evaluations: dict[str, Start] = field(default_factory=dict)
    """Start record of the last attempt that wrote verdicts, by evaluation id."""
    teachers: "tuple[Measured, ...]" = ()
    """The cell's ancestors, teachers and networks of initial weights, nearest first, with the folder's records."""
    comparison_group: "list[Measured]" = field(default_factory=list)
    """All cells that may be compared with this one, itself included."""

    @cached_property
    def id(self) -> str:
        """The cell's id."""
        return self.cell.id

    @property
    def recorded(self) -> bool:
        """True if there is any record of the cell's own times, training or evaluations."""
        return bool(self.starts or self.losses or self.verdicts)

    @property
    def timed(self) -> bool:
        """True if there is any timed epoch."""
        return any(self.runs.values())

    @property
    def chosen(self) -> list[Switches]:
        """Switches that trials chose for a cell with `compute: fastest`, each choice once."""
        choices = [start.switches[self.id] for start in self.starts if self.id in start.switches]
        return [choice for i, choice in enumerate(choices) if choice not in choices[:i]]

    @property
    def tuned(self) -> Settings | None:
        """Settings of the best candidate, by which the cell was trained; None for a cell without candidates."""
        starts = reversed([*self.starts, *self.trainings])
        return next((start.tuned[self.id] for start in starts if self.id in start.tuned), None)

    @cached_property
    def paces(self) -> dict[int, dict[int, float]]:
        """Seconds an image of one replay, by run and round."""
        replays = self.cell.replays
        return {
            run: {turn: e.seconds / e.images / replays for turn, e in epochs.items()}
            for run, epochs in self.runs.items()
        }

    @cached_property
    def logs(self) -> dict[int, dict[int, float]]:
        """Logarithms of `paces`."""
        return {run: {turn: math.log(pace) for turn, pace in paces.items()} for run, paces in self.paces.items()}

    @property
    def seconds(self) -> list[list[float]]:
        """Seconds of each timed epoch by run, scaled to the whole training set and one replay."""
        whole = self.cell.data.train_images
        return [[pace * whole for pace in paces.values()] for paces in self.paces.values()]


def count_recorded(manifest: Manifest, measured: list[Measured]) -> int:
    """Number of the manifest's cells with records in any runs folder."""
    known = {m.id for m in measured if m.recorded}
    return sum(cell.id in known for cell in manifest.cells)
