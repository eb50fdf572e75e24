"""How long jobs will take: from records of the same device where there are some, else from counted operations."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from bench import cost
from bench.cells import Cell
from bench.devices import Speed
from bench.records import Epoch, Start, read
from crt.data import DATASETS
from crt.data.beton_file import held
from launchers.job import Job, Wave, unfinished

Rates = dict[str, float]
"""Counted operations a second that a rank was seen to do, by `arch-Method`."""


class Expected(NamedTuple):
    """How long a job will take."""

    seconds: float | None
    """None where nothing tells, as of a dataset that is written."""
    recorded: bool
    """True where records give the time, False where it is estimated."""


def rates(runs: Path, speed: Speed) -> Rates:
    """Speeds by the records in a runs folder: those of the median epoch on a device."""
    seen: dict[str, list[float]] = {}
    for file in (*runs.glob("*/train.jsonl"), *runs.glob("*/run*/time.jsonl")):
        start = None
        for record in read(file):
            if isinstance(record, Start):
                start = record if speed.is_of(record.device) else None
            elif isinstance(record, Epoch) and start and not record.warmup:
                rate = start.flops.get(record.arm, 0.0) * record.images / record.seconds / start.world_size
                seen.setdefault(_kind(record.arm), []).append(rate)
    return {kind: sorted(found)[len(found) // 2] for kind, found in seen.items()}


def _kind(cell_id: str) -> str:
    return cell_id.rsplit("-", 2)[0]


class _Part(NamedTuple):
    """A part of a job's work, done in one precision."""

    operations: float
    precision: str
    kind: str | None = None
    """Training's `arch-Method`, which records tell of."""


def expected(job: Job, speed: Speed, known: Rates) -> Expected:
    """Seconds that are left of a job."""
    parts = list(_parts(job))
    if not parts:
        return Expected(None, False)
    recorded = all(part.kind in known for part in parts)
    seconds = sum(part.operations / (known[part.kind] if recorded else speed.flops(part.precision)) for part in parts)
    return Expected(seconds * max(0.0, 1 - job.steps[0] / job.steps[1]) / job.ranks, recorded)


def precisions(job: Job) -> set[str]:
    """The precisions that a job computes in."""
    return {part.precision for part in _parts(job)}


def counts(job: Job) -> Iterable[cost.Count]:
    """Everything that must be counted before a job can be estimated."""
    asked = job.args[0]
    match _task(job):
        case "time":
            yield from map(cost.step, asked.arms)
        case "train":
            yield cost.step(asked)
        case "robust":
            yield cost.forward(asked.teacher)
        case "judge":
            yield cost.forward(asked)
            yield from (cost.judging(asked, spec) for spec in asked.evals)


def _parts(job: Job) -> Iterable[_Part]:
    """All of a job's work, whatever of it is done."""
    asked = job.args[0]
    match _task(job):
        case "time":
            for arm in asked.arms:
                images = asked.timing.images or DATASETS[arm.dataset].train_images
                yield _training(arm, images * (1 + asked.timing.rounds))
        case "train":
            yield _training(asked, _images(asked) * asked.recipe.epochs)
        case "robust":
            # A forward pass and the input's gradient, which costs as much.
            descents = _images(asked) * 2 * (asked.method.args["steps"] + 1)
            yield _Part(descents / job.args[2] * cost.forward_flops(asked.teacher), "fp32")
        case "judge":
            images, each = held(DATASETS[asked.dataset], "test", job.args[3].data), cost.forward_flops(asked)
            for spec in asked.evals:
                draws = len(spec.indices(images)) / job.args[2] * cost.forwards(asked, spec)
                yield _Part(draws * each, spec.args.get("precision", "fp32"))


def _task(job: Job) -> str:
    """A job's name begins with its kind of task: data, time, train, robust or judge."""
    return job.name.partition("/")[0]


def _training(cell: Cell, images: int) -> _Part:
    return _Part(cost.step_flops(cell) * images, cell.recipe.precision, _kind(cell.id))


def _images(cell: Cell) -> int:
    return cell.images or DATASETS[cell.dataset].train_images


def longest_chain(waves: list[Wave], seconds: Mapping[str, float | None]) -> list[Job]:
    """The unfinished jobs, each waiting for the one before, that take longest together: no GPUs make it faster.

    A wave waits for every job of the wave that it comes after, as it does under Slurm. `seconds` are by job name.
    """
    chains: list[list[Job]] = []
    took = lambda job: seconds.get(job.name) or 0.0  # noqa: E731
    for wave in waves:
        before = chains[wave.after] if wave.after is not None else []
        left = unfinished([wave])
        chains.append([*before, max(left, key=took)] if left else before)
    return max(chains, key=lambda chain: sum(map(took, chain)), default=[])
