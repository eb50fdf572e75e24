"""Methods beside their restatements in plain PyTorch: time of a step, and peak memory."""

from collections.abc import Collection, Iterator

import pandas as pd

from bench.manifest.labels import name, switches
from bench.manifest.manifest import Manifest
from bench.results.columns import Source, columns, named
from bench.results.measured import Measured
from bench.results.restated import restated
from reports.render.table_spec import ARCH, Column, TableSpec, alike, datasets, varying

_RESTATED = (
    "dataset,arch,method,batch,switches,device,runs,rounds,ms_per_step,ms_per_step_low,ms_per_step_high,"
    "plain_ms_per_step,plain_ms_per_step_low,plain_ms_per_step_high,ratio,ratio_low,ratio_high,"
    "memory_mb,plain_memory_mb,memory_ratio"
).split(",")


def restatements(manifest: Manifest, measured: list[Measured], allow: Collection[str] = ()) -> pd.DataFrame:
    """A row for each cell that was timed beside its restatement, with a ratio paired by round.

    ValueError for a ratio of times that differ in a field that is not in `allow`.
    """
    rows = []
    for folder in dict.fromkeys(m.folder for m in measured) if manifest.timing else ():
        for ours, plain, ratio in restated(manifest, folder, allow):
            m, cell = ours.measured, ours.measured.cell
            rows.append(
                {
                    "dataset": cell.dataset,
                    "arch": cell.arch,
                    "method": name(cell),
                    "batch": cell.per_step,
                    "switches": switches(cell),
                    "device": m.starts[-1].device if m.starts else None,
                    "runs": len(m.runs),
                    "rounds": max(map(len, m.runs.values())),
                    **named("ms_per_step", type(ours.step)(*(1000 * value for value in ours.step))),
                    **named("plain_ms_per_step", type(plain.step)(*(1000 * value for value in plain.step))),
                    **named("ratio", ratio),
                    "memory_mb": ours.memory,
                    "plain_memory_mb": plain.memory,
                    "memory_ratio": ours.memory / plain.memory,
                    "folder": str(folder),
                    "source": Source(m, plain.measured),
                }
            )
    return pd.DataFrame(rows, columns=columns(_RESTATED, measured))


def restatements_table(frame: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe time and memory relative to the restatements."""
    columns = [
        *datasets(frame),
        ARCH,
        Column("method", "method", "name"),
        *varying(frame, alike("switches", "label")),
        Column("batch", "batch", "count", hide=1),
        Column("ms_per_step", "ours", "rounded", group="ms/step", hide=3),
        Column("plain_ms_per_step", "restated", "rounded", group="ms/step", hide=4),
        Column("ratio", "time", "ratio", group="ours / restated"),
        Column("memory_ratio", "memory", "ratio", group="ours / restated"),
        Column("memory_mb", "ours", "rounded", group="MB", hide=2),
        Column("plain_memory_mb", "restated", "rounded", group="MB", hide=2),
    ]
    title = "Time and peak memory beside plain PyTorch restatements"
    yield TableSpec(title, "time and peak memory beside plain restatements.", columns, frame)
