"""What more ranks bring: speedup and parallel efficiency."""

from collections.abc import Collection, Iterator

import pandas as pd

from bench.cell import Cell
from bench.manifest.labels import name
from bench.results.columns import columns, named
from bench.results.measured import Measured
from bench.results.ratios import ratio
from reports.render.table_spec import ARCH, INTERVALS, TableSpec, alike, datasets

_NAMES = (
    "dataset,arch,method,kind,ranks,nodes,batch,speedup,speedup_low,speedup_high,"
    "efficiency,efficiency_low,efficiency_high"
)


def scaling(measured: list[Measured], allow: Collection[str] = ()) -> pd.DataFrame:
    """Images a second of n ranks over those of one: `strong` at the same batch, `weak` at the same batch a rank.

    Ranks run in jobs of their own, so the ratio is unpaired.
    """
    rows = []
    alone = [m for m in measured if m.cell.ranks == 1]
    for m in (m for m in measured if m.cell.ranks > 1):
        for kind in ("strong", "weak"):
            one = next((o for o in alone if _is_reference(o, m, kind)), None)
            if one is None or not m.runs or not one.runs:
                continue
            speedup = ratio(one, m, False, {*allow, "world_size", "nodes"}).interval
            row = {"dataset": m.cell.dataset, "arch": m.cell.arch, "method": name(m.cell), "kind": kind}
            row |= {"ranks": m.cell.ranks, "nodes": m.cell.nodes, "batch": m.cell.recipe.batch_size}
            row |= named("speedup", speedup)
            row |= named("efficiency", type(speedup)(*(value / m.cell.ranks for value in speedup)))
            rows.append(row | {"folder": str(m.folder)})
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _is_reference(one: Measured, m: Measured, kind: str) -> bool:
    batch = m.cell.recipe.batch_size // (m.cell.ranks if kind == "weak" else 1)
    like = (one.folder, one.cell.recipe.batch_size, one.cell.arch, one.cell.method, one.cell.seed)
    return like == (m.folder, batch, m.cell.arch, m.cell.method, m.cell.seed) and _shape(one.cell) == _shape(m.cell)


def _shape(cell: Cell) -> Cell:
    """The cell but for its ranks and its batch, which the kind of scaling sets."""
    recipe = cell.recipe.model_copy(update={"batch_size": 1})
    return cell.model_copy(update={"ranks": 1, "nodes": 1, "recipe": recipe, "paper": type(cell.paper)()})


def scaling_table(scaling: pd.DataFrame) -> Iterator[TableSpec]:
    """Speedup and efficiency of more ranks."""
    columns = [*datasets(scaling), ARCH, *alike("method", "name"), *alike("kind", "word")]
    columns += [*alike("ranks nodes batch", "count"), *alike("speedup efficiency", "ratio")]
    yield TableSpec("Speedup by ranks", "speedup by ranks.", columns, scaling, [INTERVALS])
