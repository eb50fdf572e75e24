"""Energy of training on GPUs, and the share of an epoch by phase, over all ranks."""

import math
from typing import Literal, NamedTuple

from bench.manifest.labels import epochs
from bench.records import Epoch, RankPhases
from bench.results.intervals import nested_ci
from bench.results.measured import Measured
from bench.results.statistics import Interval

JOULES_PER_KWH = 3.6e6
Phase = Literal["loader", "transfer", "all_reduce"]
Clock = Literal["GPU", "host"]


class Rates(NamedTuple):
    """Grid intensity and hourly rate, as the user states them; None for one that is not stated."""

    grid_intensity: float | None = None
    """Grams of CO2 per kWh."""
    hourly_rate: float | None = None
    """Price of one GPU for an hour, in any currency."""

    def check(self) -> None:
        """Raise ValueError for a negative or infinite rate."""
        for option, value in (("--grid-intensity", self.grid_intensity), ("--hourly-rate", self.hourly_rate)):
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{option} {value:g}: allowed are finite numbers of 0 or more")

    def kg_co2(self, joules: float) -> float:
        return math.nan if self.grid_intensity is None else joules / JOULES_PER_KWH * self.grid_intensity / 1000

    def price(self, gpu_hours: float) -> float:
        return math.nan if self.hourly_rate is None else gpu_hours * self.hourly_rate


NO_RATES = Rates()


def board_joules(epoch: Epoch, ranks: int) -> float:
    """Energy of the GPUs of all ranks in an epoch; NaN where one of them has none recorded.

    It is the difference of two readings of the counter in which the driver integrates the power of the whole board,
    just before the clock starts and just after it stops.
    """
    joules = [gpu.joules for gpu in epoch.gpus if gpu.joules is not None]
    return sum(joules) if len(joules) == ranks else math.nan


def joules(m: Measured) -> dict[int, dict[int, float]]:
    """Energy of each timed epoch by run and round, scaled to the whole training set and one replay.

    Rounds without the energy of every rank are left out.
    """
    whole = m.cell.data.train_images / m.cell.replays
    scaled = {
        run: {turn: board_joules(e, m.cell.ranks) * whole / e.images for turn, e in rounds.items()}
        for run, rounds in m.runs.items()
    }
    return {run: {turn: j for turn, j in rounds.items() if not math.isnan(j)} for run, rounds in scaled.items()}


def joules_by_run(m: Measured) -> list[list[float]]:
    return [list(rounds.values()) for rounds in joules(m).values()]


def training_joules(m: Measured) -> Interval:
    """Energy of the whole training, computed as joules per epoch x epochs; each replay counts as an epoch."""
    return Interval(*(value * epochs(m.cell) for value in nested_ci(joules_by_run(m))))


def energy_unknown(m: Measured) -> str | None:
    """Reason why an epoch on GPUs has no energy, or None."""
    epochs = [epoch for rounds in m.runs.values() for epoch in rounds.values()]
    if all(not epoch.gpus or not math.isnan(board_joules(epoch, m.cell.ranks)) for epoch in epochs):
        return None
    counted = min(sum(gpu.joules is not None for gpu in epoch.gpus) for epoch in epochs)
    return f"the energy of {counted} of {m.cell.ranks} GPUs is recorded"


def watts(m: Measured) -> float:
    """Mean power of all GPUs together over the timed epochs whose energy is known."""
    known = [
        (energy, epoch.seconds)
        for rounds in m.runs.values()
        for epoch in rounds.values()
        if not math.isnan(energy := board_joules(epoch, m.cell.ranks))
    ]
    return sum(energy for energy, _ in known) / sum(seconds for _, seconds in known) if known else math.nan


def phase_clock(m: Measured) -> Clock | None:
    """The clock of the cell's phases: the GPUs', or the host's where there is no GPU; None without phases.

    A GPU that still computes while its host waits for data loses no time by that, so its own clock says what is lost.
    """
    parts = [part for record in m.phases for part in (record, *record.other_ranks)]
    if not parts:
        return None
    return "GPU" if all(part.device and "loader" in part.device for part in parts) else "host"


def phase_shares(m: Measured, phase: Phase) -> list[list[float]]:
    """Share of the epoch that was split into phases, mean over ranks, by run; empty where the phase has no record."""
    clock = phase_clock(m)
    shares = []
    for record in m.phases:
        ranks = [_seconds(part, clock) for part in (record, *record.other_ranks)]
        if all(phase in seconds for seconds in ranks):
            shares.append([sum(seconds[phase] / sum(seconds.values()) for seconds in ranks) / len(ranks)])
    return shares


def _seconds(part: RankPhases, clock: Clock | None) -> dict[str, float]:
    return part.device if clock == "GPU" and part.device else part.host
