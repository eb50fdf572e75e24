"""Train one cell to its last epoch; continue where an earlier attempt stopped."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from bench.build.cost import training_cost
from bench.build.networks import batches, method, network, trained
from bench.build.robust_dataset import dataset
from bench.cell import Cell
from bench.jobs.events import Events
from bench.jobs.lease import JobPaths, RecordLease, take_lease, write
from bench.jobs.make_robust_dataset import robust_images
from bench.jobs.monitor import Monitor
from bench.jobs.progress import Progress
from bench.measure.gpu_telemetry import Watch
from bench.measure.provenance import machines, start
from bench.measure.telemetry import of_all_ranks
from bench.measure.timer import Timer
from bench.records import End, Epoch, MonitorPoint, append, read
from crt import distributed
from crt.data.batches import Loader
from crt.models.classifier import Classifier
from crt.training.loop import Training


def run_cell(cell: Cell, place: JobPaths) -> None:
    """Train the cell and write its `model.pt`; ValueError where its teacher has none."""
    folder = place.runs / cell.id
    file = folder / ("train.jsonl" if distributed.rank() == 0 else f"train-rank{distributed.rank()}.jsonl")
    with take_lease(file, place) as lease:
        if (folder / "model.pt").exists():
            return
        teacher = trained(cell.teacher, place.runs) if cell.teacher else None
        ranks = machines()
        if distributed.rank() == 0:
            with lease.held():
                write(folder / "cell.json", cell.model_dump_json(indent=1).encode())
            lease.append(start((cell,), place.process, cell.seed, training_cost((cell,)), ranks))
        distributed.barrier()
        _train(cell, teacher, place, lease)
        if distributed.rank() == 0:
            lease.append(End(time=time.time()))


def _train(cell: Cell, teacher: Classifier | None, place: JobPaths, lease: RecordLease) -> None:
    folder, recipe = place.runs / cell.id, cell.recipe
    model = network(cell).to(distributed.device())
    training = Training(method(cell, teacher), model, recipe)
    state = _State(training)
    _seed(cell.seed, distributed.rank())
    first = _resume(folder, state, lease)
    loaded = _images(cell, place)
    monitor = Monitor(cell, place) if cell.monitor else None
    events = Events(cell, place.tensorboard, lease, first) if place.tensorboard and distributed.rank() == 0 else None
    with Progress(cell.id, recipe.epochs, first, "epoch") as progress:
        for epoch in range(first, recipe.epochs):
            loaded.epoch = epoch
            with Watch() as watch, Timer() as timer:
                loss = training.epoch(loaded, epoch)
            record = Epoch(
                arm=cell.id,
                epoch=epoch,
                seconds=timer.seconds,
                warmup=epoch == first,
                images=loaded.images * distributed.world_size(),
                lr=recipe.lr_at(epoch),
                loss=distributed.mean(loss),
                **of_all_ranks(watch, timer, recipe.cuda_graph),
            )
            if monitor and monitor.due(epoch):
                _look(monitor, model, epoch, folder, lease)
            _checkpoint(folder, state, record, lease)
            if events:
                events.update()
            progress.step(f"loss {record.loss:.3f}, {record.images / record.seconds:,.0f} images/s")
    loaded.close()
    if events:
        events.close()
    if distributed.rank() == 0:
        with lease.held():
            if cell.select == "best":
                (folder / "best.pt").replace(folder / "model.pt")
            else:
                _save(folder / "model.pt", model.state_dict())
            (folder / "checkpoint.pt").unlink(missing_ok=True)


def _images(cell: Cell, place: JobPaths) -> Loader:
    """Loader of the cell's training images; an RDT cell trains on its robust dataset."""
    if cell.robust:
        return batches(cell, robust_images(cell, place.runs), cell.images, dataset(cell))
    return batches(cell, place.images(cell, "train"), cell.images)


def _look(monitor: Monitor, model: Classifier, epoch: int, folder: Path, lease: RecordLease) -> None:
    """Record the monitored evaluations; with `select: best`, keep the weights if robust accuracy is a new maximum."""
    points = list(monitor.curves(model, epoch))
    if distributed.rank() == 0:
        first = points[0]
        # An epoch that is trained again after a kill may be recorded twice, with equal values.
        before = [
            r for r in read(lease.file) if isinstance(r, MonitorPoint) and r.epoch < epoch and r.eval == first.eval
        ]
        if monitor.cell.select == "best" and all(r.standing < first.standing for r in before):
            with lease.held():
                _save(folder / "best.pt", model.state_dict())
        for point in points:
            lease.append(point)


@dataclass(frozen=True)
class _State:
    """All state that an epoch changes: the part common to all ranks, and each rank's own."""

    COMMON: ClassVar = ("model", "optimizer", "scaler")

    training: Training

    def common(self) -> dict:
        return {name: getattr(self.training, name).state_dict() for name in self.COMMON}

    def own(self) -> dict:
        buffers = {name: tensor.cpu() for name, tensor in self.training.method.state().items()}
        return {"cpu": torch.get_rng_state(), "cuda": _cuda_state(), "method": buffers}

    def restore(self, common: dict, own: dict) -> None:
        for name in self.COMMON:
            getattr(self.training, name).load_state_dict(common[name])
        self.training.method.restore({name: tensor.to(distributed.device()) for name, tensor in own["method"].items()})
        torch.set_rng_state(own["cpu"])
        if own["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"])


def _checkpoint(folder: Path, state: _State, record: Epoch, lease: RecordLease) -> None:
    """Save the state after an epoch, then its record; a job killed in between writes the record when it resumes."""
    ranks = distributed.gather(state.own())
    if distributed.rank() == 0:
        with lease.held():
            _save(folder / "checkpoint.pt", state.common() | {"ranks": ranks, "record": record.model_dump()})
            append(lease.file, record)


def _resume(folder: Path, state: _State, lease: RecordLease) -> int:
    """Restore the last checkpoint, if there is one; the epoch to continue with."""
    if not (folder / "checkpoint.pt").exists():
        return 0
    saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    state.restore(saved, saved["ranks"][distributed.rank()])
    record = Epoch(**saved["record"])
    distributed.barrier()
    if distributed.rank() == 0:
        written = [r for r in read(lease.file) if isinstance(r, Epoch) and r.epoch == record.epoch]
        if not written:
            lease.append(record)
    return record.epoch + 1


def _seed(seed: int, rank: int) -> None:
    # Each rank draws other noise; the initial weights have their own generator.
    torch.manual_seed(1_000_003 * (seed + 1) + rank)


def _cuda_state() -> torch.Tensor | None:
    return torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def _save(path: Path, state: dict) -> None:
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
