"""Scaling over ranks: speedup and parallel efficiency."""

from collections.abc import Collection, Iterator

import pandas as pd

from bench.cell import Cell
from bench.manifest.labels import name
from bench.results.columns import Source, columns, named
from bench.results.measured import Measured
from bench.results.noise import noise_floor
from bench.results.ratios import ratio
from reports.render.table_spec import ARCH, INTERVALS, TableSpec, alike, datasets
from reports.tables.noise import NOISE_FLOOR, ratio_of_times, with_marks

_NAMES = (
    "dataset,arch,method,kind,ranks,nodes,batch,speedup,speedup_low,speedup_high,"
    "efficiency,efficiency_low,efficiency_high,noise_floor"
)


def scaling(measured: list[Measured], allow: Collection[str] = ()) -> pd.DataFrame:
    """Images per second of n ranks relative to one rank.

    `strong`: the same global batch size; `weak`: the same batch size per rank. Each number of ranks has its own job, so
    the ratio is unpaired.
    """
    rows = []
    alone = [m for m in measured if m.cell.ranks == 1]
    for m in (m for m in measured if m.cell.ranks > 1 and not m.cell.control):
        for kind in ("strong", "weak"):
            reference = next((each for each in alone if is_reference(each, m, kind)), None)
            if reference is None or not m.runs or not reference.runs:
                continue
            speedup = ratio(reference, m, False, {*allow, "world_size", "nodes"}).interval
            row: dict[str, object] = {
                "dataset": m.cell.dataset,
                "arch": m.cell.arch,
                "method": name(m.cell),
                "kind": kind,
            }
            row |= {"ranks": m.cell.ranks, "nodes": m.cell.nodes, "batch": m.cell.recipe.batch_size}
            row |= named("speedup", speedup)
            row |= named("efficiency", type(speedup)(*(value / m.cell.ranks for value in speedup)))
            row["noise_floor"] = noise_floor(m, reference)
            rows.append(row | {"folder": str(m.folder), "source": Source(m, reference)})
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def is_reference(single: Measured, m: Measured, kind: str) -> bool:
    """True where `single` trains on one rank as m does on several, with the batch size of this kind of scaling."""
    batch = m.cell.recipe.batch_size // (m.cell.ranks if kind == "weak" else 1)
    same = single.folder == m.folder and single.cell.recipe.batch_size == batch
    return same and _on_one_rank(single.cell) == _on_one_rank(m.cell)


def _on_one_rank(cell: Cell) -> Cell:
    """The cell without its ranks and its batch size, which the kind of scaling sets."""
    recipe = cell.recipe.model_copy(update={"batch_size": 1})
    return cell.model_copy(update={"ranks": 1, "nodes": 1, "recipe": recipe, "paper": type(cell.paper)()})


def scaling_table(scaling: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe speedup and efficiency over ranks."""
    columns = [*datasets(scaling), ARCH, *alike("method", "name"), *alike("kind", "word")]
    columns += [
        *alike("ranks nodes batch", "count"),
        ratio_of_times("speedup"),
        NOISE_FLOOR,
        *alike("efficiency", "ratio"),
    ]
    yield TableSpec("Speedup by ranks", "speedup by ranks.", columns, with_marks(scaling, "speedup"), [INTERVALS])
