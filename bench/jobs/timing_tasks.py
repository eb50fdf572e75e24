"""The tasks of studies, whose seconds are the result. Nothing here imports torch before a task runs."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.build import workload
from bench.build.workload import Workload
from bench.cell import Cell
from bench.jobs.task import BenchTask, ended
from bench.manifest.manifest import Certification, Study
from bench.records import CertificationTiming, Epoch, Record, StepMemory, read
from launchers.task import TaskProgress


@dataclass(frozen=True, kw_only=True)
class TimingTask(BenchTask):
    """A task that times several things round by round, possibly in less time than all rounds need.

    Beside the members of `BenchTask`, it implements `id`, `compiled` and `run_within`.
    """

    number: int = 0
    """Number of the run; each run is a process of its own."""

    @property
    @abstractmethod
    def id(self) -> str:
        """Id of the study or certification, and name of its folder."""

    @property
    @abstractmethod
    def compiled(self) -> bool:
        """True if anything is compiled, which takes long."""

    @abstractmethod
    def run_within(self, seconds: float) -> None:
        """Time everything, or as much as `seconds` allow."""

    @property
    def group(self) -> str:
        return f"time/{self.id}"

    @property
    def key(self) -> str:
        return f"{self.group}/run{self.number}"

    @property
    def records(self) -> Path:
        return self.place.runs / self.id / f"run{self.number}" / "time.jsonl"

    def run(self) -> None:
        self.run_within(math.inf)


@dataclass(frozen=True, kw_only=True)
class TimeTask(TimingTask):
    """Time the arms of a study side by side in one process."""

    study: Study
    left_out: tuple[str, ...] = ()
    """Ids of arms that are not timed."""

    @property
    def id(self) -> str:
        return self.study.id

    @property
    def compiled(self) -> bool:
        return any(arm.recipe.compile for arm in self.study.arms)

    @property
    def ranks(self) -> int:
        return self.study.arms[0].ranks

    @property
    def nodes(self) -> int:
        return self.study.arms[0].nodes

    @property
    def label_cell(self) -> Cell | None:
        # A study of one method has that method's label; a study of one architecture times many methods.
        return self.study.arms[0] if self.study.timing.together == "method" else None

    @property
    def training_cells(self) -> tuple[Cell, ...]:
        return self.study.arms

    def progress(self, records: Sequence[Record]) -> TaskProgress:
        arms, turns = {arm.id for arm in self.study.arms}, range(1 + self.study.timing.rounds)
        done = {(record.arm, record.round) for record in records if isinstance(record, Epoch)}
        count = sum(arm in arms and turn in turns for arm, turn in done)
        return TaskProgress(count, len(arms) * len(turns), ended(records))

    def cost(self) -> Iterable[Workload]:
        for arm in self.study.arms:
            images = self.study.timing.images or arm.data.train_images
            yield workload.training(arm, images * (1 + self.study.timing.rounds))

    def run_within(self, seconds: float) -> None:
        from bench.jobs.time_arms import run_study

        run_study(self.study, self.number, self.place, seconds, self.left_out)


@dataclass(frozen=True, kw_only=True)
class RestatementTask(TimeTask):
    """Time an arm beside its restatement in plain PyTorch, and measure the peak memory of both."""

    def progress(self, records: Sequence[Record]) -> TaskProgress:
        progress = super().progress(records)
        return progress._replace(finished=progress.finished and self._has_memory())

    def run_within(self, seconds: float) -> None:
        from bench.jobs.step_memory import measure_memory
        from bench.jobs.time_arms import run_study

        # Memory takes no time of the rounds' share: without all of its rounds a run must be repeated.
        if not ended(read(self.records)):
            run_study(self.study, self.number, self.place, seconds, self.left_out, ratios_only=True)
        measure_memory(self.study, self.place)

    def _has_memory(self) -> bool:
        """True if the peak memory of every arm is recorded, for all runs of the study."""
        records = read(self.place.runs / self.id / "memory.jsonl")
        arms = {record.arm for record in records if isinstance(record, StepMemory)}
        return arms >= {arm.id for arm in self.study.arms}


@dataclass(frozen=True, kw_only=True)
class CertificationTask(TimingTask):
    """Time the certification engine against the plain procedure."""

    certification: Certification

    @property
    def id(self) -> str:
        return self.certification.id

    @property
    def compiled(self) -> bool:
        return self.certification.compiled

    @property
    def label_cell(self) -> Cell:
        return self.certification.cell

    def progress(self, records: Sequence[Record]) -> TaskProgress:
        rounds = {record.round for record in records if isinstance(record, CertificationTiming)}
        turns = range(1 + self.certification.rounds)
        return TaskProgress(sum(turn in turns for turn in rounds), len(turns), ended(records))

    def run_within(self, seconds: float) -> None:
        from bench.jobs.time_certification import run_certification

        run_certification(self.certification, self.records, self.place, seconds)
