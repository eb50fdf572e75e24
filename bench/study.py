"""Time the arms of one study side by side in one process."""

import time
from collections.abc import Iterator

import torch

from bench.attempt import Place, attempt
from bench.cells import Cell, Study
from bench.environment import start
from bench.networks import batches, method, network, step_flops
from bench.progress import Progress
from bench.records import End, Epoch
from bench.timer import Timer
from bench.train import write
from crt import dist
from crt.data.batches import Loader
from crt.train import objective, optimizer, train_epoch


def run_study(study: Study, run: int, place: Place) -> None:
    """Time every arm in this process: an epoch of warm-up each, then rounds in random balanced order."""
    folder = place.runs / study.id / f"run{run}"
    file = folder / ("time.jsonl" if dist.rank() == 0 else f"time-rank{dist.rank()}.jsonl")
    with attempt(file, place) as claim:
        if dist.rank() == 0:
            with claim.held():
                write(place.runs / study.id / "study.json", study.model_dump_json(indent=1).encode())
                # A study's rounds are one experiment: what a cut-off attempt left is set aside, not continued.
                if file.exists():
                    file.rename(file.with_suffix(f".{time.time():.0f}.cut"))
            claim.append(start(study.arms[0], place.process, {arm.id: step_flops(arm) for arm in study.arms}))
        dist.barrier()
        arms = [_Arm(arm) for arm in study.arms]
        shared = {arm.cell.recipe.batch_size: None for arm in arms}
        for size in shared:
            cell = next(arm.cell for arm in arms if arm.cell.recipe.batch_size == size)
            shared[size] = batches(cell, place.images(cell, "train"), study.timing.images)
        title = f"{study.id} run {run + 1}/{study.timing.runs}"
        with Progress(title, len(arms) * (1 + study.timing.rounds), 0, "epoch") as progress:
            for number, (turn, arm) in enumerate(_turns(arms, study.timing.rounds, seed=run)):
                record = _epoch(arm, turn, number, shared[arm.cell.recipe.batch_size])
                if dist.rank() == 0:
                    claim.append(record)
                progress.step(f"{arm.cell.method.label} {record.images / record.seconds:,.0f} images/s")
        for loaded in shared.values():
            loaded.close()
        if dist.rank() == 0:
            claim.append(End(time=time.time()))


def _epoch(arm: "_Arm", turn: int, number: int, loaded: Loader) -> Epoch:
    """One epoch of one arm on the clock; `number` orders the images, `turn` is its round (0: warm-up)."""
    loaded.epoch = number
    with Timer() as timer:
        loss = train_epoch(arm.goal, arm.method, arm.steps, loaded, arm.cell.recipe, turn)
    return Epoch(
        arm=arm.cell.id,
        round=turn,
        epoch=turn,
        seconds=timer.seconds,
        warmup=turn == 0,
        images=loaded.images * dist.world_size(),
        lr=arm.cell.recipe.lr_at(turn),
        loss=dist.mean(loss),
        memory=timer.memory,
    )


class _Arm:
    """A cell set up to be timed; its teacher is untrained, for weights do not change the time."""

    def __init__(self, cell: Cell):
        self.cell = cell
        self.model = network(cell).to(dist.device())
        teacher = network(cell.teacher).to(dist.device()) if cell.teacher else None
        self.method = method(cell, teacher)
        self.goal = objective(self.method, self.model)
        self.steps = optimizer(self.model, cell.recipe)


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
