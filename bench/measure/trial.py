"""A short paired trial of a recipe's switches: the choice with which a training step is fastest on this device."""

import gc
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from bench.build.networks import method, network
from bench.cell import Cell
from bench.manifest.labels import switches_in_words
from bench.measure.choices import compiled, eager, recorded, resolved
from bench.measure.time_limit import TimeLimitError, time_limit
from bench.measure.timer import Timer
from bench.records import Switches
from crt import distributed
from crt.text import printable
from crt.training.cuda_graph import EAGER
from crt.training.loop import Training

SECONDS = 20.0
"""Time of a stage, compilation aside; slow steps may take twice as long."""
COMPILING = 120.0
"""Longest time to compile one choice; a choice that takes longer is left out."""
_ROUNDS = 9
_FEW_ROUNDS = 3
"""Rounds that are taken unless they need twice the time of a stage."""
_LEAST = 0.1
"""Least seconds of one measurement, which repeats shorter steps."""
_FIRST_IMAGES = 4
"""Images of the first batch that is tried, for each part that a method splits a batch into."""
_MARGIN = 0.02
"""Share of the time that another choice must save for `exact` to give way, so that noise alone decides nothing."""

Batch = tuple[Tensor, Tensor, Tensor]


class Outcome(NamedTuple):
    """The fastest choice of a trial so far."""

    switches: Switches
    seconds: dict[str, float]
    """Median seconds of a batch by choice, in words."""
    images: int
    """Images of that batch."""


def trial(cell: Cell) -> Iterator[Outcome]:
    """Yield the fastest switches for a step of the cell's training on this rank alone, after each of three stages.

    The first stage tries eager steps, the second recorded ones, the third compiled ones, where the device has them.
    The batch has random images, and the whole size of a rank's batch where a step is fast enough. Choices take turns,
    round by round. A choice that fails is left out. Random numbers drawn later do not depend on it.
    """
    device = distributed.device()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        found = _run(cell, eager(cell), None)
        yield found
        for stage in (recorded, compiled):
            if choices := stage(cell, found.switches):
                best = _run(cell, [found.switches, *choices], found.images)
                found = best._replace(seconds=found.seconds | best.seconds)
                yield found


class _Candidate:
    """A copy of the training under one choice."""

    def __init__(self, cell: Cell, switches: Switches):
        self.switches, device = switches, distributed.device()
        teacher = network(cell.teacher).to(device) if cell.teacher else None
        bound = method(cell, teacher)
        # Ranks would wait for one another where one of them is still compiling.
        self.training = Training(bound, network(cell).to(device), resolved(cell.recipe, switches), ranks=1)
        self.epoch = math.ceil(bound.steady_from_epoch)
        self.seconds: list[float] = []

    def time(self, batch: Batch, repeats: int) -> float:
        """Seconds of a batch."""
        with Timer(alone=True) as timer:
            self.training.epoch([batch] * repeats, self.epoch)
        return timer.seconds / repeats

    def warm_up(self, batch: Batch) -> None:
        """Take steps until none compiles, chooses kernels or records a graph for the first time."""
        self.time(batch, 1 + EAGER if distributed.device().type == "cuda" else 1)


def _run(cell: Cell, choices: list[Switches], images: int | None) -> Outcome:
    """Time the choices, the first of which is kept unless another is faster; `images` are None to find a batch."""
    end, candidates, batch = time.monotonic() + SECONDS, [], None if images is None else _batch(cell, images)
    for switches in choices:
        if made := _prepared(cell, switches, batch, len(choices)):
            candidate, batch = made
            candidates.append(candidate)
            if "compile" in switches:
                end = time.monotonic() + SECONDS
    if batch is None or not candidates:
        raise ValueError(f"{cell.id}: no choice of compute: fastest runs here (allowed: compute: plain, exact)")
    repeats = max(1, min(20, int(_LEAST / max(candidates[0].time(batch, 1), 1e-3))))
    for turn in range(_ROUNDS):
        late = time.monotonic() - end
        if turn and late > (0 if turn >= _FEW_ROUNDS else SECONDS):
            break
        for candidate in candidates[turn % len(candidates) :] + candidates[: turn % len(candidates)]:
            candidate.seconds.append(candidate.time(batch, repeats))
    outcome = _outcome(candidates, len(batch[0]))
    candidates.clear()
    _free()
    if any("compile" in switches for switches in choices):
        torch.compiler.reset()
    return outcome


def _prepared(cell: Cell, switches: Switches, batch: Batch | None, count: int) -> tuple[_Candidate, Batch] | None:
    """A candidate after its warm-up, and the batch, which is found if there is none; None for a choice that fails."""
    try:
        with time_limit(COMPILING) if "compile" in switches else _unlimited():
            if batch is None:
                batch = _fitting(cell, switches, SECONDS / (5 * count))
            candidate = _Candidate(cell, switches)
            candidate.warm_up(batch)
    except TimeLimitError:
        _leave_out(cell, switches, f"compiling takes more than {COMPILING:.0f} s")
    except Exception as error:  # a compiler and a recording raise errors of many kinds
        _leave_out(cell, switches, (str(error).strip().splitlines() or [type(error).__name__])[0])
    else:
        return candidate, batch
    _free()
    # After some failed recordings no random numbers can be drawn, and this process cannot go on.
    torch.rand(1, device=distributed.device())
    return None


@contextmanager
def _unlimited() -> Iterator[None]:
    yield


def _leave_out(cell: Cell, switches: Switches, reason: str) -> None:
    print(printable(f"{cell.id}: {switches_in_words(switches)} is left out: {reason}"), file=sys.stderr, flush=True)


def _fitting(cell: Cell, switches: Switches, seconds: float) -> Batch:
    """A rank's batch, or as large a part of it as takes at most about `seconds`."""
    whole = cell.recipe.batch_size // cell.ranks
    images = min(whole, _FIRST_IMAGES * cell.build_method().chunks)
    while True:
        # Methods may keep tensors of the size of their first batch.
        candidate, batch = _Candidate(cell, switches), _batch(cell, images)
        candidate.warm_up(batch)
        if images == whole or 4 * candidate.time(batch, 1) > seconds:
            return batch
        images = min(whole, 4 * images)


def _batch(cell: Cell, images: int) -> Batch:
    dataset, device = cell.data, distributed.device()
    x = torch.rand(images, *dataset.shape, device=device)
    y = torch.randint(len(dataset.classes), (images,), device=device)
    return x, y, torch.arange(images, device=device)


def _outcome(candidates: list[_Candidate], images: int) -> Outcome:
    """The candidate with the least median ratio to the first, round by round, if that saves enough."""
    first = candidates[0]

    def relative(candidate: _Candidate) -> float:
        return median(mine / own for mine, own in zip(candidate.seconds, first.seconds, strict=True))

    best = min(candidates, key=relative)
    chosen = best if relative(best) < 1 - _MARGIN else first
    seconds = {switches_in_words(each.switches): median(each.seconds) for each in candidates}
    return Outcome(chosen.switches, seconds, images)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
