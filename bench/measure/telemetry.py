"""Readings of every rank beside a timed epoch: its GPU, its memory and the load of its host."""

import os
from typing import TypedDict

from bench.measure.gpu_telemetry import Watch
from bench.measure.timer import Timer
from bench.records import GPU, RankUse
from crt import distributed


class Readings(TypedDict):
    """The fields of an Epoch record with the readings of every rank."""

    memory: float | None
    host_memory: float | None
    load: float | None
    other_ranks: tuple[RankUse, ...]
    gpu: GPU | None
    other_gpus: tuple[GPU | None, ...]


def of_all_ranks(watch: Watch, timer: Timer, graphs: bool) -> Readings:
    """The readings of all ranks, on every rank; every rank must call this, after the clock has stopped.

    `graphs`: the epoch used CUDA graphs, whose memory torch counts as free, so that its peak is unknown.
    """
    memory = None if graphs else timer.memory
    own = RankUse(memory=memory, host_memory=timer.host_memory, load=os.getloadavg()[0])
    (gpu, first), *others = distributed.gather((watch.gpu, own))
    return {
        "memory": first.memory,
        "host_memory": first.host_memory,
        "load": first.load,
        "other_ranks": tuple(use for _, use in others),
        "gpu": gpu,
        "other_gpus": tuple(other for other, _ in others),
    }
