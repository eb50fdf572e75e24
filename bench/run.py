"""Train, judge and record one cell, or time the arms of one study; go on where an earlier attempt stopped."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from bench.cells import Cell, Study
from bench.environment import start
from bench.networks import method, network, step_flops
from bench.progress import Progress
from bench.records import End, Epoch, Verdict, append, read
from bench.timer import Timer
from crt import dist
from crt.classifier import Classifier
from crt.data import DATASETS
from crt.data.beton import Beton, ensure
from crt.data.loader import loader
from crt.plugins import find
from crt.train import objective, optimizer, train_epoch

Process = Literal["fresh", "shared"]


def run_cell(cell: Cell, runs: Path, data: Path, process: Process) -> None:
    """Train the cell to its last epoch, then judge every image that its evaluations ask for."""
    with dist.process_group():
        folder = runs / cell.id
        folder.mkdir(parents=True, exist_ok=True)
        if dist.rank() == 0:
            _write(folder / "cell.json", cell.model_dump_json(indent=1).encode())
            flops = {} if (folder / "model.pt").exists() else {cell.id: step_flops(cell)}
            append(folder / "rank0.jsonl", start(cell, process, flops))
        dist.barrier()
        if not (folder / "model.pt").exists():
            _train(cell, runs, data)
        dist.barrier()
        _judge(cell, folder, data)
        dist.barrier()
        if dist.rank() == 0:
            append(folder / "rank0.jsonl", End(time=time.time()))


def _train(cell: Cell, runs: Path, data: Path) -> None:
    folder, recipe = runs / cell.id, cell.recipe
    model = network(cell).to(dist.device())
    bound = method(cell, _teacher(cell, runs))
    goal, steps = objective(bound, model), optimizer(model, recipe)
    _seed(cell.seed, dist.rank())
    first = _resume(folder, model, steps)
    batches = _batches(cell, data, cell.images)
    with Progress(cell.id, recipe.epochs, first, "epoch") as progress:
        for epoch in range(first, recipe.epochs):
            batches.epoch = epoch
            with Timer() as timer:
                loss = train_epoch(goal, bound, steps, batches, recipe, epoch)
            record = Epoch(
                arm=cell.id,
                epoch=epoch,
                seconds=timer.seconds,
                warmup=epoch == first,
                images=batches.images * dist.world_size(),
                lr=recipe.lr_at(epoch),
                loss=dist.mean(loss),
                memory=timer.memory,
            )
            _checkpoint(folder, model, steps, record)
            progress.step(f"loss {record.loss:.3f}, {record.images / record.seconds:,.0f} images/s")
    batches.close()
    if dist.rank() == 0:
        _save(folder / "model.pt", model.state_dict())
        (folder / "checkpoint.pt").unlink(missing_ok=True)


def _checkpoint(folder: Path, model: nn.Module, steps: torch.optim.Optimizer, record: Epoch) -> None:
    """The state after an epoch, then its record: a job killed between the two writes the record when it resumes."""
    states = dist.gather({"cpu": torch.get_rng_state(), "cuda": _cuda_state()})
    if dist.rank() == 0:
        state = {"model": model.state_dict(), "optimizer": steps.state_dict(), "rng": states}
        _save(folder / "checkpoint.pt", state | {"record": record.model_dump()})
        append(folder / "rank0.jsonl", record)


def _resume(folder: Path, model: nn.Module, steps: torch.optim.Optimizer) -> int:
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
        written = [r for r in read(folder / "rank0.jsonl") if isinstance(r, Epoch) and r.epoch == record.epoch]
        if not written:
            append(folder / "rank0.jsonl", record)
    return record.epoch + 1


def _judge(cell: Cell, folder: Path, data: Path) -> None:
    """Each rank judges images i = rank mod world_size into its own file, those without a verdict yet."""
    if not cell.evals:
        return
    done = {(r.eval, r.index) for path in folder.glob("rank*.jsonl") for r in read(path) if isinstance(r, Verdict)}
    dist.barrier()
    images = Beton(ensure(DATASETS[cell.dataset], "test", data))
    model = _weights(network(cell), folder / "model.pt").to(dist.device()).eval()
    mine = folder / f"rank{dist.rank()}.jsonl"
    for spec in cell.evals:
        judge = find("crt.evals", spec.name)(threat=cell.threat, **spec.args)
        share = spec.indices(len(images))[dist.rank() :: dist.world_size()]
        left = [index for index in share if (spec.id, index) not in done]
        with Progress(f"{cell.id} {spec.label}", len(share), len(share) - len(left), "image") as progress:
            for index in left:
                x = torch.from_numpy(images.images([index])).to(dist.device())
                x = x[0].permute(2, 0, 1).float().div(255).contiguous()
                label, began = int(images.labels[index]), time.perf_counter()
                found = judge.judge(model, x, label, (cell.seed, index))
                append(
                    mine,
                    Verdict(
                        eval=spec.id,
                        index=index,
                        label=label,
                        prediction=found.prediction,
                        radius=found.radius,
                        seconds=time.perf_counter() - began,
                        details=found.details,
                    ),
                )
                progress.step("")


def run_study(study: Study, run: int, runs: Path, data: Path, process: Process) -> None:
    """Time every arm in this process: an epoch of warm-up each, then rounds in random balanced order."""
    with dist.process_group():
        file = runs / study.id / f"run{run}" / f"rank{dist.rank()}.jsonl"
        if dist.rank() == 0:
            file.parent.mkdir(parents=True, exist_ok=True)
            _write(runs / study.id / "study.json", study.model_dump_json(indent=1).encode())
            # A study's rounds are one experiment: what a cut-off attempt left is set aside, not continued.
            if file.exists():
                file.rename(file.with_suffix(f".{time.time():.0f}.cut"))
            flops = {arm.id: step_flops(arm) for arm in study.arms}
            append(file, start(study.arms[0], process, flops))
        dist.barrier()
        arms = [_Arm(arm) for arm in study.arms]
        shared = {arm.cell.recipe.batch_size: None for arm in arms}
        for size in shared:
            cell = next(arm.cell for arm in arms if arm.cell.recipe.batch_size == size)
            shared[size] = _batches(cell, data, study.timing.images)
        title = f"{study.id} run {run + 1}/{study.timing.runs}"
        with Progress(title, len(arms) * (1 + study.timing.rounds), 0, "epoch") as progress:
            for number, (turn, arm) in enumerate(_turns(arms, study.timing.rounds, seed=run)):
                batches = shared[arm.cell.recipe.batch_size]
                batches.epoch = number
                with Timer() as timer:
                    loss = train_epoch(arm.goal, arm.method, arm.steps, batches, arm.cell.recipe, turn)
                record = Epoch(
                    arm=arm.cell.id,
                    round=turn,
                    epoch=turn,
                    seconds=timer.seconds,
                    warmup=turn == 0,
                    images=batches.images * dist.world_size(),
                    lr=arm.cell.recipe.lr_at(turn),
                    loss=dist.mean(loss),
                    memory=timer.memory,
                )
                if dist.rank() == 0:
                    append(file, record)
                progress.step(f"{arm.cell.method.label} {record.images / record.seconds:,.0f} images/s")
        for batches in shared.values():
            batches.close()
        if dist.rank() == 0:
            append(file, End(time=time.time()))


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


def _batches(cell: Cell, data: Path, images: int | None):
    return loader(
        cell.loader,
        DATASETS[cell.dataset],
        "train",
        data=data,
        pipeline=cell.pipeline,
        batch_size=cell.recipe.batch_size // dist.world_size(),
        device=dist.device(),
        seed=cell.seed,
        images=images,
        rank=dist.rank(),
        world=dist.world_size(),
    )


def _teacher(cell: Cell, runs: Path) -> Classifier | None:
    if cell.teacher is None:
        return None
    return _weights(network(cell.teacher), runs / cell.teacher.id / "model.pt").to(dist.device())


def _weights(model: Classifier, path: Path) -> Classifier:
    if not path.exists():
        raise ValueError(f"{path}: missing, so its network was not trained to the end (submit again to train it)")
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model


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


def _write(path: Path, content: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)
