"""Count the launches of a training step of each arm of a manifest's studies."""

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.progress import BarColumn, Progress, TextColumn

from bench.build.count_cache import kept
from bench.build.launches import PHASES, count_bodies, count_launches, count_recorded
from bench.cell import Cell
from bench.commands.speed_study import chosen
from bench.manifest import read_manifest
from bench.results.csv_file import write_csv
from crt import screen
from crt.disk import replacing
from crt.fitted_table import FittedTable
from crt.table_layout import Column

HOST_US = 6
"""Microseconds that the host of a GPU takes for a launch."""
_PLAIN = {"precision": "fp32", "channels_last": False, "fused": False, "fold": False}
_TEXTS = ("network", "method", "settings")
HEADINGS = (*_TEXTS, "launches", "host ms", *PHASES, "recorded", "bodies")
METHOD = (
    "An operation is one launch if it reads or writes values; views and allocations are none. An operation on lists of"
    " tensors, such as an optimizer's, is one launch for each chunk in which torch's CUDA kernels take the lists."
    " relu(conv(x) + other) in an attacked network without BatchNorm (fold) is one, as with cuDNN."
    " Counted on the CPU, without a clock, in the second step of each arm; several steps on a batch have their mean."
    f" Host ms: launches at {HOST_US} us each."
    " Attack: the passes of attacks in both directions, which the other columns leave out."
    " Recorded: launches under cuda_graph, the graph itself and the copies of its inputs; a dash where a step asks the"
    " device something, so that no graph can hold it."
    " Bodies: passes forward through networks' bodies; under compile, each is one graph, and its way back another;"
    " methods with 0 work layer by layer, which cuda_graph covers and compile does not."
)
"""How launches are counted."""


class _Arm(NamedTuple):
    """A method on a network, under those settings that change its launches."""

    cell: Cell
    method: str
    settings: str

    def row(self) -> dict[str, str | float]:
        counts = _kept("launches", self.cell, lambda: count_launches(self.cell))
        # Settings change neither.
        plain = self.cell.model_copy(update={"recipe": self.cell.recipe.model_copy(update=_PLAIN)})
        recorded = _kept("recorded", plain, lambda: {"launches": count_recorded(plain) or 0})["launches"]
        bodies = _kept("bodies", plain, lambda: {"calls": count_bodies(plain)})["calls"]
        total = sum(counts.values())
        row: dict[str, str | float] = {"network": self.cell.arch, "method": self.method, "settings": self.settings}
        row |= {"launches": total, "host ms": total * HOST_US / 1000} | counts
        return row | {"recorded": recorded or float("nan"), "bodies": bodies}


def _kept(kind: str, cell: Cell, count: Callable[[], dict[str, float]]) -> dict[str, float]:
    recipe = cell.recipe.model_dump(mode="json", exclude={"cuda_graph", "compile", "teacher_stream"})
    key = [kind, cell.model_dump(mode="json", exclude={"recipe", "evals", "monitor", "paper"}), recipe]
    return kept(json.dumps(key, sort_keys=True), count)


def count_arms(path: Path, methods: str | None, archs: str | None, page: Path | None) -> None:
    """Count and print all arms of a manifest, or those with these names; a page gets the table, too.

    ValueError for a manifest without a timing study or unknown names.
    """
    manifest = read_manifest(path)
    if not manifest.timing:
        raise ValueError(f"{path}: timing: missing (bench.speed counts a study's arms)")
    arms = [arm for study in manifest.studies for arm in study.arms]
    names = chosen("methods", methods, {arm.method.name for arm in arms})
    networks = chosen("archs", archs, {arm.arch for arm in arms})
    rows = []
    with Progress(TextColumn("{task.description}", markup=False), BarColumn(), console=screen.errors()) as progress:
        todo = list(_arms(arms, names, networks))
        task = progress.add_task("counting launches", total=len(todo))
        for arm in todo:
            progress.update(task, description=f"{arm.cell.arch} {arm.method} {arm.settings}")
            rows.append(arm.row())
            progress.advance(task)
    columns = [
        Column(name, [_text(row[name]) for row in rows], left=name in _TEXTS, hide=max(0, place - 4))
        for place, name in enumerate(HEADINGS)
    ]
    screen.output().print(FittedTable("Launches of a training step", columns, caption=METHOD))
    if page is not None:
        _write(page, rows)


def _arms(arms: list[Cell], methods: Collection[str] | None, archs: Collection[str] | None) -> Iterator[_Arm]:
    """Arms with these names, each network and method once under each setting that changes its launches."""
    seen = set()
    for cell in arms:
        low = cell.recipe.precision if cell.recipe.precision in ("bf16", "fp16") else ""
        on = [key for key in ("channels_last", "fused", "fold") if getattr(cell.recipe, key)]
        settings = ", ".join(filter(None, (low, *on))) or "plain"
        key = (cell.arch, cell.method.label, settings)
        named = (methods is None or cell.method.name in methods) and (archs is None or cell.arch in archs)
        if named and key not in seen:
            seen.add(key)
            yield _Arm(cell, cell.method.label, settings)


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "–" if value != value else f"{value:,.1f}".removesuffix(".0")


def _write(page: Path, rows: list[dict[str, str | float]]) -> None:
    lines = [
        "# Launches of a training step",
        "",
        METHOD,
        "",
        f"| {' | '.join(HEADINGS)} |",
        "| --- " * len(HEADINGS) + "|",
    ]
    lines += [f"| {' | '.join(_text(row[name]) for name in HEADINGS)} |" for row in rows]
    with replacing(page) as out:
        out.write(("\n".join(lines) + "\n").encode())
    write_csv(pd.DataFrame(rows), page.with_suffix(".csv"))
