"""Train one cell to its last epoch; continue where an earlier attempt stopped."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from bench.build.cost import training_cost
from bench.build.networks import batches, initial, method, trained, untrained
from bench.build.robust_dataset import dataset
from bench.build.validation import held_out
from bench.build.weights import load_network, save
from bench.cell import Cell
from bench.jobs.checkpoints import Checkpoints
from bench.jobs.events import Events
from bench.jobs.fastest import choose, recipe_with
from bench.jobs.lease import JobPaths, RecordLease, take_lease
from bench.jobs.make_robust_dataset import robust_images
from bench.jobs.monitor import Monitor
from bench.jobs.progress import Progress
from bench.jobs.task import ended
from bench.jobs.tuned import tuned
from bench.measure.gpu_telemetry import Watch
from bench.measure.provenance import machines, start
from bench.measure.telemetry import of_all_ranks
from bench.measure.timer import Timer
from bench.records import End, Epoch, MonitorPoint, Replaced, append, read
from crt import distributed
from crt.data.batches import Loader
from crt.disk import replacing
from crt.models.classifier import Classifier
from crt.sealed import DamagedError
from crt.training.loop import Training
from crt.training.recipe import Recipe


def run_cell(cell: Cell, place: JobPaths) -> None:
    """Train the cell and write its `model.pt`; ValueError where a network that it begins from has none."""
    folder = place.runs / cell.id
    file = folder / ("train.jsonl" if distributed.rank() == 0 else f"train-rank{distributed.rank()}.jsonl")
    with take_lease(file, place) as lease:
        checkpoints = Checkpoints(cell, folder, lease)
        # Rank 0 decides, since other nodes may see older files.
        if distributed.gather((folder / "model.pt").exists())[0]:
            if distributed.rank() == 0:
                _tidy(cell, folder / "model.pt", checkpoints, lease)
            return
        teacher = trained(cell.teacher, place.runs) if cell.teacher else None
        model = initial(cell, place.runs)
        ranks = machines()
        if distributed.rank() == 0:
            checkpoints.choose()
        switches = choose(cell, place.runs, ranks[0], read(file) if distributed.rank() == 0 else ())
        settings = tuned(cell, place.runs)
        if distributed.rank() == 0:
            with lease.held(), replacing(folder / "cell.json") as out:
                out.write(cell.model_dump_json(indent=1).encode())
            cost = training_cost((cell,))
            chosen = {cell.id: switches}, {cell.id: settings}
            lease.append(start((cell,), place.process, cell.seed, cost, ranks, *chosen))
            if checkpoints.replaced:
                lease.append(Replaced(time=time.time(), text=checkpoints.replaced))
        distributed.barrier()
        recipe = recipe_with(cell, switches).model_copy(update=settings or {})
        _train(cell, recipe, model, teacher, place, lease, checkpoints)
        if distributed.rank() == 0:
            lease.append(End(time=time.time()))


def _tidy(cell: Cell, weights: Path, checkpoints: Checkpoints, lease: RecordLease) -> None:
    """Finish for an attempt that was killed between the weights and its last record."""
    if ended(read(lease.file)):
        return
    try:
        load_network(weights, cell.id, untrained(cell).state_dict())
    except DamagedError as error:
        raise ValueError(f"{error} (remove it and submit again, and training goes on from its checkpoint)") from None
    with lease.held():
        checkpoints.remove()
    lease.append(End(time=time.time()))


def _train(
    cell: Cell,
    recipe: Recipe,
    model: Classifier,
    teacher: Classifier | None,
    place: JobPaths,
    lease: RecordLease,
    checkpoints: Checkpoints,
) -> None:
    folder = place.runs / cell.id
    training = Training(method(cell, teacher), model.to(distributed.device()), recipe)
    state = _State(training)
    _seed(cell.seed, distributed.rank())
    first = _resume(checkpoints, state)
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
                _look(monitor, training, epoch, checkpoints)
            _checkpoint(checkpoints, state, record)
            if events:
                events.update()
            progress.step(f"loss {record.loss:.3f}, {record.images / record.seconds:,.0f} images/s")
    loaded.close()
    if events:
        events.close()
    if distributed.rank() == 0:
        with lease.held():
            if cell.select == "best":
                load_network(checkpoints.best, cell.id, training.weights)
                checkpoints.best.replace(folder / "model.pt")
            else:
                save(folder / "model.pt", training.weights, cell.id)
            checkpoints.remove()


def _images(cell: Cell, place: JobPaths) -> Loader:
    """Loader of the cell's training images but those held out; an RDT cell trains on its robust dataset."""
    left_out = held_out(cell)
    if cell.robust:
        return batches(cell, robust_images(cell, place.runs), cell.images, dataset(cell), left_out)
    return batches(cell, place.images(cell, "train"), cell.images, held_out=left_out)


def _look(monitor: Monitor, training: Training, epoch: int, checkpoints: Checkpoints) -> None:
    """Record the monitored evaluations; with `select: best`, keep the weights if robust accuracy is a new maximum."""
    points, lease = list(monitor.curves(training, epoch)), checkpoints.lease
    if distributed.rank() == 0:
        first = points[0]
        recorded = [r for r in read(lease.file) if isinstance(r, MonitorPoint)]
        before = [r for r in recorded if r.epoch < epoch and r.eval == first.eval]
        # An epoch that is trained again after a kill has its records already, and its weights were kept before them.
        new = [point for point in points if (epoch, point.eval) not in {(r.epoch, r.eval) for r in recorded}]
        if monitor.cell.select == "best" and first in new and all(r.standing < first.standing for r in before):
            with lease.held():
                save(checkpoints.best, training.weights, monitor.cell.id)
        for point in new:
            lease.append(point)


@dataclass(frozen=True)
class _State:
    """All state that an epoch changes: the part common to all ranks, and each rank's own."""

    COMMON: ClassVar = ("model", "optimizer", "scaler", "average")
    """Members of the training with a state; one without an average has none."""

    training: Training

    def common(self) -> dict:
        parts = {name: getattr(self.training, name) for name in self.COMMON}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def own(self) -> dict:
        buffers = {name: tensor.cpu() for name, tensor in self.training.method.state().items()}
        return {"cpu": torch.get_rng_state(), "cuda": _cuda_state(), "method": buffers}

    def restore(self, common: dict, own: dict) -> None:
        for name in self.COMMON:
            if name in common:
                getattr(self.training, name).load_state_dict(common[name])
        self.training.method.restore({name: tensor.to(distributed.device()) for name, tensor in own["method"].items()})
        torch.set_rng_state(own["cpu"])
        if own["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"])


def _checkpoint(checkpoints: Checkpoints, state: _State, record: Epoch) -> None:
    """Save the state after an epoch, then its record; a job killed in between writes the record when it resumes."""
    ranks, lease = distributed.gather(state.own()), checkpoints.lease
    if distributed.rank() == 0:
        with lease.held():
            checkpoints.save(state.common() | {"ranks": ranks, "record": record.model_dump()})
            if record.epoch not in checkpoints.recorded:
                append(lease.file, record)


def _resume(checkpoints: Checkpoints, state: _State) -> int:
    """Restore the last whole checkpoint, if there is one; the epoch to continue with."""
    saved = checkpoints.load()
    if saved is None:
        return 0
    state.restore(saved, saved["ranks"][distributed.rank()])
    record = Epoch(**saved["record"])
    distributed.barrier()
    if distributed.rank() == 0 and record.epoch not in checkpoints.recorded:
        checkpoints.lease.append(record)
    return record.epoch + 1


def _seed(seed: int, rank: int) -> None:
    # Each rank draws other noise; the initial weights have their own generator.
    torch.manual_seed(1_000_003 * (seed + 1) + rank)


def _cuda_state() -> torch.Tensor | None:
    return torch.cuda.get_rng_state() if torch.cuda.is_available() else None
