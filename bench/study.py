"""Time the arms of one study side by side in one process."""

import math
import time
from collections.abc import Iterator

import torch

from bench.attempt import Place, attempt, write
from bench.bare import bare_epoch
from bench.cells import Cell, Study
from bench.environment import start
from bench.gpu import Watch
from bench.networks import batches, method, network
from bench.phases import Phases
from bench.progress import Progress
from bench.records import End, Epoch
from bench.records import Phases as PhasesRecord
from bench.timer import Timer
from crt import dist
from crt.data.batches import Loader
from crt.train import grad_scaler, objective, optimizer, train_epoch


def run_study(study: Study, run: int, place: Place) -> None:
    """Time every arm in this process: an epoch of warm-up each, then rounds in random balanced order.

    Last, an epoch of each is looked into for its phases.
    """
    folder = place.runs / study.id / f"run{run}"
    file = folder / ("time.jsonl" if dist.rank() == 0 else f"time-rank{dist.rank()}.jsonl")
    with attempt(file, place) as claim:
        if dist.rank() == 0:
            with claim.held():
                write(place.runs / study.id / "study.json", study.model_dump_json(indent=1).encode())
                # A study's rounds are one experiment: what a cut-off attempt left is set aside, not continued.
                if file.exists():
                    file.rename(file.with_suffix(f".{time.time():.0f}.cut"))
            claim.append(start(study.arms, place.process, seed=run))
        dist.barrier()
        arms = [_Arm(arm) for arm in study.arms]
        shared = {arm.cell.recipe.batch_size: None for arm in arms}
        for size in shared:
            cell = next(arm.cell for arm in arms if arm.cell.recipe.batch_size == size)
            shared[size] = batches(cell, place.images(cell, "train"), study.timing.images)
        title = f"{study.id} run {run + 1}/{study.timing.runs}"
        with Progress(title, len(arms) * (2 + study.timing.rounds), 0, "epoch") as progress:
            for number, (turn, arm) in enumerate(_turns(arms, study.timing.rounds, seed=run)):
                record = _epoch(arm, turn, number, shared[arm.cell.recipe.batch_size])
                if dist.rank() == 0:
                    claim.append(record)
                progress.step(f"{arm.cell.method.label} {record.images / record.seconds:,.0f} images/s")
            for arm in study.arms:
                record = _phases(arm, study.timing.rounds + 1, shared[arm.recipe.batch_size])
                if dist.rank() == 0:
                    claim.append(record)
                progress.step(f"{arm.method.label} phases")
        for loaded in shared.values():
            loaded.close()
        if dist.rank() == 0:
            claim.append(End(time=time.time()))


def _epoch(arm: "_Arm", turn: int, number: int, loaded: Loader) -> Epoch:
    """One epoch of one arm on the clock; `number` orders the images, `turn` is its round (0: warm-up)."""
    loaded.epoch = number
    with Watch() as watch, Timer() as timer:
        loss = arm.train(loaded, turn)
    return Epoch(
        arm=arm.cell.id,
        round=turn,
        epoch=turn,
        seconds=timer.seconds,
        warmup=turn == 0,
        images=loaded.images * dist.world_size(),
        lr=arm.cell.recipe.lr_at(arm.first + turn),
        loss=dist.mean(loss),
        memory=timer.memory,
        host_memory=timer.host_memory,
        gpu=watch.gpu,
    )


def _phases(cell: Cell, turn: int, loaded: Loader) -> PhasesRecord:
    """An epoch on a network of its own, for what looks into the all-reduce can never be taken off again."""
    arm = _Arm(cell)
    seen = Phases(loaded, arm.goal)
    dist.barrier()
    arm.train(seen, turn)
    images = loaded.images * dist.world_size()
    return PhasesRecord(arm=cell.id, images=images, host=seen.host, device=seen.device)


class _Arm:
    """A cell set up to be timed; its teacher is untrained, for weights do not change the time."""

    def __init__(self, cell: Cell):
        self.cell = cell
        self.model = network(cell).to(dist.device())
        teacher = network(cell.teacher).to(dist.device()) if cell.teacher else None
        self.method = method(cell, teacher)
        self.goal = objective(self.method, self.model)
        self.steps = optimizer(self.model, cell.recipe)
        self.scaler = grad_scaler(dist.device(), cell.recipe)
        self.first = math.ceil(self.method.settled)

    def train(self, batches: Loader | Phases, turn: int) -> torch.Tensor:
        """One epoch, after those whose steps cost less; a loss of it."""
        if self.cell.loop == "bare":
            return bare_epoch(self.model, self.steps, batches)
        recipe = self.cell.recipe
        return train_epoch(self.goal, self.method, self.steps, batches, recipe, self.first + turn, self.scaler)


def _turns(arms: list[_Arm], rounds: int, seed: int) -> Iterator[tuple[int, _Arm]]:
    """Warm-up of every arm (round 0), then rounds; every len(arms) rounds each arm has taken each place once."""
    for arm in arms:
        yield 0, arm
    order = torch.Generator().manual_seed(seed)
    for turn in range(rounds):
        shift = turn % len(arms)
        if shift == 0:
            places = torch.randperm(len(arms), generator=order).tolist()
        for place in places[shift:] + places[:shift]:
            yield turn + 1, arms[place]
