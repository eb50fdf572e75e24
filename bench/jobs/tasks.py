"""The tasks of datasets and cells. Nothing here imports torch before a task runs."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.build import workload
from bench.build.robust_dataset import chunks, folder
from bench.build.workload import Workload
from bench.cell import Cell, Weights
from bench.jobs.task import BenchTask, ended
from bench.records import Epoch, Record, Verdict
from crt.data import DATASETS, Dataset
from crt.data.held import held
from launchers.task import TaskProgress


@dataclass(frozen=True, kw_only=True)
class DataTask(BenchTask):
    """Write a dataset's .beton files from the images in the folder `source`."""

    dataset: str
    source: Path
    image_folder: Dataset | None = None
    """The dataset, if it is made from an image folder."""

    timed = False

    @property
    def data(self) -> Dataset:
        """The dataset's description."""
        return self.image_folder or DATASETS[self.dataset]

    @property
    def group(self) -> str:
        return f"data/{self.dataset}"

    @property
    def key(self) -> str:
        return self.group

    @property
    def records(self) -> Path:
        return self.place.data / f"{self.dataset}.jsonl"

    def progress(self, records: Sequence[Record]) -> TaskProgress:
        splits = [self.data.path(split, self.place.data) for split in ("train", "test")]
        return TaskProgress(finished=all(path.exists() for path in splits))

    def run(self) -> None:
        from bench.jobs.prepare_data import run_prepare

        run_prepare(self.data, self.source, self.place)

    @staticmethod
    def sources_of(keys: Iterable[str], folder: Path) -> dict[str, Path]:
        """Sources by dataset for the tasks of these keys that write datasets; a key does not name the source."""
        return {key.removeprefix("data/"): folder for key in keys if key.startswith("data/")}


@dataclass(frozen=True, kw_only=True)
class _CellTask(BenchTask):
    """A task of one cell."""

    cell: Cell

    @property
    def label_cell(self) -> Cell:
        return self.cell

    @property
    def folder(self) -> Path:
        """The cell's folder of records and weights."""
        return self.place.runs / self.cell.id

    @property
    def train_images(self) -> int:
        """Training images that the cell uses, those held out included."""
        return self.cell.images or self.cell.data.train_images


class TrainTask(_CellTask):
    """Train a cell to its last epoch."""

    @property
    def group(self) -> str:
        return f"train/{self.cell.id}"

    @property
    def key(self) -> str:
        return self.group

    @property
    def ranks(self) -> int:
        return self.cell.ranks

    @property
    def nodes(self) -> int:
        return self.cell.nodes

    @property
    def records(self) -> Path:
        return self.folder / "train.jsonl"

    @property
    def training_cells(self) -> tuple[Cell, ...]:
        return (self.cell,)

    def progress(self, records: Sequence[Record]) -> TaskProgress:
        epochs = {record.epoch for record in records if isinstance(record, Epoch)}
        # Weights without their last record are of an attempt that was killed; those without any record are a copy.
        finished = (self.folder / "model.pt").exists() and (not records or ended(records))
        planned = range(self.cell.recipe.epochs)
        return TaskProgress(sum(epoch in planned for epoch in epochs), len(planned), finished)

    def cost(self) -> Iterable[Workload]:
        yield workload.training(self.cell, (self.train_images - self.cell.held_out) * self.cell.recipe.epochs)
        if self.cell.monitor and self.cell.held_out:
            looks = math.ceil(self.cell.recipe.epochs / self.cell.monitor.every)
            for spec in self.cell.monitor.evals:
                yield workload.evaluation(self.cell, spec, looks * self.cell.held_out)

    def run(self) -> None:
        from bench.jobs.train import run_cell

        run_cell(self.cell, self.place)


@dataclass(frozen=True, kw_only=True)
class _ShardTask(_CellTask):
    """Share number `shard` of `shards` of a cell's work, divided further among the task's ranks."""

    shard: int
    shards: int
    ranks: int = 1
    nodes: int = 1

    @property
    def key(self) -> str:
        return f"{self._whole}/{self.shard}of{self.shards}"

    @property
    @abstractmethod
    def _whole(self) -> str:
        """Key of the whole work: the prefix of the shards' keys."""

    @property
    def _first_rank(self) -> str:
        """Number of the task's first rank among the ranks of all shards, and their count, such as `2of8`."""
        return f"{self.shard * self.ranks}of{self.shards * self.ranks}"


class EvaluateTask(_ShardTask):
    """Evaluate a trained cell on every `shards`-th test image of each evaluation, from image `shard` on."""

    timed = False

    @property
    def group(self) -> str:
        return f"judge/{self.cell.id}"

    @property
    def _whole(self) -> str:
        return f"{self.group}/{self.cell.evals_digest}"

    @property
    def records(self) -> Path:
        return self.folder / f"judge-{self.cell.evals_digest}-{self._first_rank}.jsonl"

    def progress(self, records: Sequence[Record]) -> TaskProgress:
        judged = {(record.eval, record.index) for record in records if isinstance(record, Verdict)}
        images = self._images
        share = [(s.id, i) for s in self.cell.evals for i in s.indices(images)[self.shard :: self.shards]]
        done = sum(question in judged for question in share)
        return TaskProgress(done, len(share), done == len(share) and (self.folder / "model.pt").exists())

    def cost(self) -> Iterable[Workload]:
        images = self._images
        for spec in self.cell.evals:
            yield workload.evaluation(self.cell, spec, len(spec.indices(images)) / self.shards)

    def run(self) -> None:
        from bench.jobs.evaluate import run_judge

        run_judge(self.cell, self.shard, self.shards, self.place)

    @property
    def _images(self) -> int:
        """Number of test images in the data folder."""
        return held(self.cell.data, "test", self.place.data)

    @staticmethod
    def shards_of(keys: Iterable[str]) -> int | None:
        """Number of shards of the last evaluation among the keys; None where there is no evaluation."""
        shards = [int(key.rsplit("of", 1)[1]) for key in keys if key.startswith("judge/")]
        return shards[-1] if shards else None


class RobustDatasetTask(_ShardTask):
    """Make every `shards`-th chunk of the robust dataset of an RDT cell, from chunk `shard` on."""

    @property
    def teacher(self) -> Cell | Weights:
        """Teacher that the dataset is generated from."""
        assert self.cell.teacher is not None  # a manifest with an RDT cell without a teacher is refused
        return self.cell.teacher

    @property
    def group(self) -> str:
        return f"robust/{self.teacher.id}"

    @property
    def _whole(self) -> str:
        return f"{self.group}/{self.cell.robust}"

    @property
    def folder(self) -> Path:
        return folder(self.cell, self.place.runs)

    @property
    def records(self) -> Path:
        return self.folder / f"{self._first_rank}.jsonl"

    def progress(self, records: Sequence[Record]) -> TaskProgress:
        first, parts = self.shard * self.ranks, self.shards * self.ranks
        mine = [chunk for rank in range(self.ranks) for chunk in chunks(self.cell)[first + rank :: parts]]
        done = sum((self.folder / f"part-{chunk}.npz").exists() for chunk in mine)
        return TaskProgress(done, len(mine), (self.folder / "made.json").exists())

    def cost(self) -> Iterable[Workload]:
        # Each step has a forward pass and the input's gradient, which costs as much as one.
        passes = self.train_images * 2 * (self.cell.method.args["steps"] + 1)
        yield workload.forward_passes(self.teacher, passes / self.shards)

    def run(self) -> None:
        from bench.jobs.make_robust_dataset import run_robustify

        run_robustify(self.cell, self.shard, self.shards, self.place)
