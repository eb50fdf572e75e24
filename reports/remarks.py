"""What a reader must know before trusting a number: said, and nothing left out for it."""

from reports.load import Measured
from reports.ratios import seconds
from reports.stats import drift, outliers
from reports.tables import name


def remarks(measured: list[Measured]) -> list[str]:
    """A line for each thing that is odd about cells' times."""
    found: dict[str, list[str]] = {}
    for m in measured:
        for said in _of(m):
            found.setdefault(said, []).append(f"{m.cell.arch} {name(m.cell)}")
    return [f"{', '.join(dict.fromkeys(whose))}: {said}" for said, whose in found.items()]


def _of(m: Measured) -> list[str]:
    said = list(m.remarks)
    for (run, epochs), times in zip(m.runs.items(), seconds(m), strict=True):
        change = drift(times)
        if change is not None:
            said.append(f"run {run} drifts by {change:+.0%} from its first round to its last")
        turns = sorted(epochs)
        far = ", ".join(str(turns[k]) for k in outliers(times))
        if far:
            said.append(f"run {run}: round {far} stands out")
    busy = {f"{s.load:.1f} on {s.cpus} cores" for s in m.starts if s.load > s.cpus}
    if busy:
        said.append(f"the host was busy at the start: load {', '.join(sorted(busy))}")
    epochs = [epoch for run in m.runs.values() for epoch in run.values() if epoch.gpu]
    throttled = [epoch for epoch in epochs if epoch.gpu.throttle]
    if throttled:
        reasons = sorted({reason for epoch in throttled for reason in epoch.gpu.throttle})
        extent = "throughout" if len(throttled) == len(epochs) else f"in {len(throttled)} of {len(epochs)} epochs"
        said.append(f"the GPU was throttled {extent} ({', '.join(reasons)})")
    return said
