"""Warnings about suspicious timings; nothing is excluded."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from bench.manifest.labels import name
from bench.records import Epoch
from bench.results.columns import folders
from bench.results.intervals import drift, outliers
from bench.results.measured import Measured
from bench.results.noise import control_ratio

_NAMED = 8
"""Cells that a line names; a line about more gives their number, and the CSV names them."""

_DETAILS = 3
"""Details of a cell that a line gives."""
_BUSY = 1.5
"""Load per core above which a host does other work: the timed processes themselves load each core once."""


CUT_SCHEDULE = "Shorten these arguments of the method, or train longer."
"""Remedy for a schedule that is longer than the training."""


class _Warning(NamedTuple):
    """One warning about a cell, in the words of the wide CSV and of the header."""

    kind: str
    detail: str
    heading: str
    """The kind in the header."""
    place: str = ""
    """The detail in the header."""
    remedy: str = ""
    """What to do about it; a sentence."""


def remarks(measured: list[Measured]) -> list[str]:
    """A line for each kind of warning, with the cells and the detail of each."""
    groups: dict[str, dict[Measured, list[str]]] = {}
    remedies: dict[str, str] = {}
    for m in measured:
        for warning in _warnings(m):
            groups.setdefault(warning.heading, {}).setdefault(m, []).append(warning.place)
            remedies[warning.heading] = f" {warning.remedy}" if warning.remedy else ""
    apart = len(folders(measured)) > 1
    return [
        f"{heading}: "
        + (
            f"{_share(cells, measured)} (column remarks of --wide-csv)"
            if len(cells) > _NAMED
            else "; ".join(_places(cells, apart))
        )
        + f".{remedies[heading]}"
        for heading, cells in groups.items()
    ]


def _share(cells: Iterable[Measured], measured: list[Measured]) -> str:
    """The number of cells, of those that are timed if all of them are."""
    cells = list(cells)
    timed = [m for m in measured if m.runs]
    if all(m.runs for m in cells):
        return f"{len(cells)} of {len(timed)} timed cells"
    return f"{len(cells)} of {len(measured)} cells"


def kinds(measured: Iterable[Measured]) -> list[str]:
    """The kinds of warning about these cells, each once."""
    return list(dict.fromkeys(warning.heading for m in measured for warning in _warnings(m)))


def several(names: Iterable[str]) -> str:
    """The names, or their number where a line cannot hold them."""
    names = list(dict.fromkeys(names))
    return f"{len(names)} cells" if len(names) > _NAMED else ", ".join(names)


def remark(m: Measured) -> str | None:
    """All warnings about one cell, as the CSV has them."""
    texts = [f"{warning.kind}: {warning.detail}" if warning.detail else warning.kind for warning in _warnings(m)]
    return "; ".join(texts) or None


def _places(cells: dict[Measured, list[str]], apart: bool) -> Iterator[str]:
    places: dict[str, list[str]] = {}
    for m, details in cells.items():
        where = f" in {m.folder}" if apart else ""
        places.setdefault(f"{m.cell.arch} {name(m.cell)}{where}", []).extend(details)
    for label, details in places.items():
        known = list(dict.fromkeys(filter(None, details)))
        more = [f"{len(known) - _DETAILS} more"] if len(known) > _DETAILS + 1 else known[_DETAILS:]
        place = " and ".join([*known[:_DETAILS], *more])
        yield f"{label}, {place}" if place else label


@cache
def _warnings(m: Measured) -> tuple[_Warning, ...]:
    """The warnings about a cell; cached, because the header and every table of times ask for them."""
    return tuple(_find(m))


def _find(m: Measured) -> Iterator[_Warning]:
    for lines in m.left_out:
        yield _Warning(
            "Left out of the records",
            lines,
            "Left out of the records",
            lines,
            "A disk or another program damaged them: copy the files from a backup, or measure these cells anew.",
        )
    for text in m.replaced:
        kind, remedy = "A damaged file was replaced", "Nothing is lost; look after the disk."
        yield _Warning(kind, text, kind, text, remedy)
    for text, remedy in m.remarks:
        yield _Warning(text, "", text[:1].upper() + text[1:], remedy=remedy)
    for (run, epochs), times in zip(m.runs.items(), m.seconds, strict=True):
        change = drift(times)
        if change is not None:
            yield _Warning(
                "Times drift from the first round to the last",
                f"run {run}: {change:+.0%}",
                "Drift from the first round to the last",
                f"run {run} by {change:+.0%}",
                "Time more rounds, or wait until the machine is warm.",
            )
        rounds = list(epochs)
        far = [str(rounds[k]) for k in outliers(times)]
        if far:
            plural = "s" if len(far) > 1 else ""
            yield _Warning(
                "Rounds stand out",
                f"run {run}: {', '.join(far)}",
                "Outliers",
                f"run {run}, round{plural} {', '.join(far)}",
                "Time on a machine without other work, or take more runs.",
            )
    control = control_ratio(m)
    if control.low > 1 or control.high < 1:
        ends = f"{control.mean:.3f} ({control.low:.3f} to {control.high:.3f})"
        yield _Warning(
            "The control's time differs from that of its baseline, though both do the same",
            ends,
            "The control's time differs from that of its baseline, though both do the same",
            ends,
            "Take more runs, or time on a machine without other work.",
        )
    yield from _schedule(m)
    yield from _hosts(m)
    yield from _gpus(m)


def _schedule(m: Measured) -> Iterator[_Warning]:
    """A training that ended before the method's own schedule, so that the method never was at full strength."""
    if m.losses and (parts := m.cell.cut_schedule):
        text = "The method's own schedule is longer than the training"
        yield _Warning(text, parts, text, parts, CUT_SCHEDULE)


def _hosts(m: Measured) -> Iterator[_Warning]:
    """Busy hosts and unlike devices, of all ranks."""
    remedy = "Time on a machine without other work."
    machines = [machine for start in m.starts for machine in start.machines]
    if loads := [machine.load for machine in machines if machine.load > machine.cpus]:
        cores = f"its {m.starts[0].cpus} cores"
        yield _Warning(
            f"The host was busy at the start, with a load above {cores}",
            f"{max(loads):.1f}",
            f"Busy host at the start (load above {cores})",
            f"load {max(loads):.1f}",
            remedy,
        )
    epochs = [epoch for run in m.runs.values() for epoch in run.values()]
    cpus = max((machine.cpus for machine in machines), default=0)
    busy = [max(loads) for epoch in epochs if (loads := _loads(epoch)) and max(loads) > _BUSY * cpus]
    if busy:
        detail = f"in {len(busy)} of {len(epochs)} epochs, load up to {max(busy):.1f}"
        heading = f"Busy host while it was timed (load above {_BUSY:g} per core)"
        yield _Warning(heading.replace("Busy host", "The host was busy"), detail, heading, detail, remedy)
    for start in m.starts:
        if len(devices := sorted({machine.device for machine in start.machines})) > 1:
            words = ", ".join(devices)
            yield _Warning("Ranks on unlike devices", words, "Ranks on unlike devices", words, "Ask for equal GPUs.")


def _loads(epoch: Epoch) -> list[float]:
    """Load of the host of each rank."""
    return [load for load in (epoch.load, *(rank.load for rank in epoch.other_ranks)) if load is not None]


def _gpus(m: Measured) -> Iterator[_Warning]:
    """Throttled and shared GPUs, of all ranks."""
    epochs = [epoch for run in m.runs.values() for epoch in run.values() if epoch.gpus]
    by_rank = [dict(enumerate((epoch.gpu, *epoch.other_gpus))) for epoch in epochs]
    throttled = [{rank: gpu.throttle for rank, gpu in ranks.items() if gpu and gpu.throttle} for ranks in by_rank]
    if any(throttled):
        reasons = sorted({reason for ranks in throttled for names in ranks.values() for reason in names})
        count = sum(map(bool, throttled))
        extent = "throughout" if count == len(epochs) else f"in {count} of {len(epochs)} epochs"
        detail = f"{extent}{_ranks(m, throttled)}: {', '.join(reasons)}"
        remedy = "Improve the cooling or the power limit, or lock the clocks below the limit."
        yield _Warning("The GPU was throttled", detail, "Throttled GPU", detail, remedy)
    used = [{rank: gpu.processes or 0 for rank, gpu in ranks.items() if gpu} for ranks in by_rank]
    shared = [{rank: number for rank, number in ranks.items() if number > 1} for ranks in used]
    if any(shared):
        most = max(number for ranks in shared for number in ranks.values())
        detail = f"in {sum(map(bool, shared))} of {len(epochs)} epochs{_ranks(m, shared)}: up to {most} processes"
        yield _Warning("The GPU was shared", detail, "Shared GPU", detail, "Ask for a GPU of your own.")


def _ranks(m: Measured, epochs: Sequence[Collection[int]]) -> str:
    """The ranks that any of the epochs names, in words, where there are several ranks."""
    ranks = sorted({rank for names in epochs for rank in names})
    return f", rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}" if m.cell.ranks > 1 else ""
