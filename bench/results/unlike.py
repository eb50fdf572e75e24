"""Remarks on times that are compared although they were measured under unlike conditions."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from statistics import fmean

from bench.records import Start
from bench.results.measured import Measured

_CLOCKS = 0.05
"""Relative difference of the mean SM clocks of two cells from which on it is remarked on."""


def _commit(start: Start) -> str | None:
    if start.commit is None:
        return None
    return start.commit[:10] + (f" with changes {start.diff or ''}".rstrip() if start.dirty else "")


REMARKED: dict[str, tuple[str, Callable[[Start], str | None], str]] = {
    "commit": ("commits of this project", _commit, "Measure all at one commit, or compare commits by --against."),
    "host": (
        "hosts",
        lambda start: " and ".join(sorted({machine.host for machine in start.machines})),
        "Time all on one host, or in a study, which pairs them.",
    ),
    "watts": (
        "power limits of the GPU",
        lambda start: None if start.watts is None else f"{start.watts:g} W",
        "Set one power limit.",
    ),
    "max_sm": (
        "highest clocks of the GPU",
        lambda start: None if start.max_sm is None else f"{start.max_sm} MHz",
        "Lock the clocks of all GPUs alike.",
    ),
}
"""Fields of a start record in which compared times may differ, with a remark: words, value and remedy, by name."""
_WITHIN_A_RUN = ("host", "watts", "max_sm")
"""Fields that are equal for all arms of a study's run, so that its paired ratios do not depend on them."""


def unlike(measured: Iterable[Measured]) -> list[str]:
    """A line for each field in which timed cells that are compared with one another differ."""
    groups = {id(m.comparison_group): m.comparison_group for m in measured if m.timed}
    return list(dict.fromkeys(line for group in groups.values() for line in _lines(group)))


def _lines(group: list[Measured]) -> Iterator[str]:
    timed = [m for m in group if m.timed]
    for name, (words, value, remedy) in REMARKED.items():
        if name in _WITHIN_A_RUN and timed[0].study:
            continue
        counts = Counter(dict.fromkeys((value(start), m) for m in timed for start in m.started.values()))
        found = Counter(key for key, _ in counts if key is not None)
        if len(found) > 1:
            parts = ", ".join(f"{key} ({count} cell{'s' * (count > 1)})" for key, count in sorted(found.items()))
            yield f"Compared times come from {len(found)} {words}: {parts}. {remedy}"
    clocks = {m: clock for m in timed if (clock := _clock(m)) is not None}
    if clocks and max(clocks.values()) > (1 + _CLOCKS) * min(clocks.values()):
        low, high = min(clocks.values()), max(clocks.values())
        words = f"at mean SM clocks from {low:.0f} to {high:.0f} MHz"
        yield f"Compared times were measured {words}. Lock the clocks of the GPUs."


def _clock(m: Measured) -> float | None:
    """Mean SM clock in MHz of all GPUs after the timed epochs."""
    clocks = [gpu.sm_after for run in m.runs.values() for epoch in run.values() for gpu in epoch.gpus if gpu.sm_after]
    return fmean(clocks) if clocks else None
