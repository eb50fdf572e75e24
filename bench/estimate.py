"""How long jobs will take: from records of the same device where there are some, else from counted operations."""

from pathlib import Path

from bench.chunks import dataset
from bench.jobs import run_cell, run_judge, run_robustify, run_study
from bench.networks import forward_flops, forwards, step_flops
from bench.records import Epoch, Start, read
from crt.data import DATASETS
from crt.data.beton import held
from launchers.job import Job

GPU_TFLOPS = 8.0
"""What a GPU that no record tells of is taken to do in a second, in 10^12 operations: as `slurm/a100.yaml` says."""

Rates = dict[str, float]
"""Counted operations a second that a rank was seen to do, by `arch-Method`."""


def rates(runs: Path, device: str | None) -> Rates:
    """What the records in a runs folder show of `device` (a GPU's name as torch gives it, or cpu)."""
    seen: dict[str, list[float]] = {}
    for file in (*runs.glob("*/train.jsonl"), *runs.glob("*/run*/time.jsonl")) if device else ():
        start = None
        for record in read(file):
            if isinstance(record, Start):
                start = record
            elif isinstance(record, Epoch) and start and start.device == device and not record.warmup:
                rate = start.flops.get(record.arm, 0.0) * record.images / record.seconds / start.world_size
                seen.setdefault(_kind(record.arm), []).append(rate)
    return {kind: sorted(found)[len(found) // 2] for kind, found in seen.items()}


def _kind(cell_id: str) -> str:
    return cell_id.rsplit("-", 2)[0]


def hours(job: Job, flops: float, known: Rates) -> tuple[float, bool]:
    """Hours that are left of a job at `flops` a second and rank, and whether records told (else it is an estimate)."""
    left = 1 - job.steps[0] / job.steps[1]
    if job.function is run_study:
        study = job.args[0]
        images = study.timing.images or DATASETS[study.arms[0].dataset].train_images
        each = [(_kind(arm.id), step_flops(arm) * images * (1 + study.timing.rounds)) for arm in study.arms]
        told = all(kind in known for kind, _ in each)
        seconds = sum(operations / (known[kind] if told else flops) for kind, operations in each)
        return seconds * left / job.ranks / 3600, told
    cell = job.args[0]
    if job.function is run_cell:
        images = cell.images or DATASETS[cell.dataset].train_images
        rate = known.get(_kind(cell.id))
        return step_flops(cell) * images * cell.recipe.epochs * left / (rate or flops) / job.ranks / 3600, bool(rate)
    if job.function is run_robustify:
        # A forward pass and the input's gradient, which costs as much.
        descents = dataset(cell).train_images * 2 * (cell.method.args["steps"] + 1)
        return descents / job.args[2] * forward_flops(cell.teacher) * left / flops / job.ranks / 3600, False
    if job.function is run_judge:
        shards = job.args[2]
        images = held(DATASETS[cell.dataset], "test", job.args[3].data)
        draws = sum(len(spec.indices(images)) * forwards(cell, spec) for spec in cell.evals)
        return draws / shards * forward_flops(cell) * left / flops / job.ranks / 3600, False
    return 0.0, False
