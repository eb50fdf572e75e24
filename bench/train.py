"""Train one cell to its last epoch; go on where an earlier attempt stopped."""

import os
import time
from pathlib import Path

import torch
from torch import nn

from bench.attempt import Claim, Place, attempt
from bench.cells import Cell
from bench.environment import start
from bench.gpu import Watch
from bench.networks import batches, method, network, trained
from bench.progress import Progress
from bench.records import End, Epoch, append, read
from bench.timer import Timer
from crt import dist
from crt.train import objective, optimizer, train_epoch


def run_cell(cell: Cell, place: Place) -> None:
    """Train the cell, leaving `model.pt`; ValueError where its teacher has none."""
    folder = place.runs / cell.id
    file = folder / ("train.jsonl" if dist.rank() == 0 else f"train-rank{dist.rank()}.jsonl")
    with attempt(file, place) as claim:
        if (folder / "model.pt").exists():
            return
        teacher = trained(cell.teacher, place.runs) if cell.teacher else None
        if dist.rank() == 0:
            with claim.held():
                write(folder / "cell.json", cell.model_dump_json(indent=1).encode())
            claim.append(start((cell,), place.process, cell.seed))
        dist.barrier()
        _train(cell, teacher, place, claim)
        if dist.rank() == 0:
            claim.append(End(time=time.time()))


def _train(cell: Cell, teacher: nn.Module | None, place: Place, claim: Claim) -> None:
    folder, recipe = place.runs / cell.id, cell.recipe
    model = network(cell).to(dist.device())
    bound = method(cell, teacher)
    goal, steps = objective(bound, model), optimizer(model, recipe)
    _seed(cell.seed, dist.rank())
    first = _resume(folder, model, steps, claim)
    loaded = batches(cell, place.images(cell, "train"), cell.images)
    with Progress(cell.id, recipe.epochs, first, "epoch") as progress:
        for epoch in range(first, recipe.epochs):
            loaded.epoch = epoch
            with Watch() as watch, Timer() as timer:
                loss = train_epoch(goal, bound, steps, loaded, recipe, epoch)
            record = Epoch(
                arm=cell.id,
                epoch=epoch,
                seconds=timer.seconds,
                warmup=epoch == first,
                images=loaded.images * dist.world_size(),
                lr=recipe.lr_at(epoch),
                loss=dist.mean(loss),
                memory=timer.memory,
                gpu=watch.gpu,
            )
            _checkpoint(folder, model, steps, record, claim)
            progress.step(f"loss {record.loss:.3f}, {record.images / record.seconds:,.0f} images/s")
    loaded.close()
    if dist.rank() == 0:
        with claim.held():
            _save(folder / "model.pt", model.state_dict())
            (folder / "checkpoint.pt").unlink(missing_ok=True)


def _checkpoint(folder: Path, model: nn.Module, steps: torch.optim.Optimizer, record: Epoch, claim: Claim) -> None:
    """The state after an epoch, then its record: a job killed between the two writes the record when it resumes."""
    states = dist.gather({"cpu": torch.get_rng_state(), "cuda": _cuda_state()})
    if dist.rank() == 0:
        state = {"model": model.state_dict(), "optimizer": steps.state_dict(), "rng": states}
        with claim.held():
            _save(folder / "checkpoint.pt", state | {"record": record.model_dump()})
            append(claim.file, record)


def _resume(folder: Path, model: nn.Module, steps: torch.optim.Optimizer, claim: Claim) -> int:
    """Take up the last checkpoint, if there is one; the epoch to go on with."""
    if not (folder / "checkpoint.pt").exists():
        return 0
    state = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    steps.load_state_dict(state["optimizer"])
    mine = state["rng"][dist.rank()]
    torch.set_rng_state(mine["cpu"])
    if mine["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(mine["cuda"])
    record = Epoch(**state["record"])
    dist.barrier()
    if dist.rank() == 0:
        written = [r for r in read(claim.file) if isinstance(r, Epoch) and r.epoch == record.epoch]
        if not written:
            claim.append(record)
    return record.epoch + 1


def _seed(seed: int, rank: int) -> None:
    # Ranks draw different noise; the network's first weights have a generator of their own.
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


def write(path: Path, content: bytes) -> None:
    """A small file, whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
