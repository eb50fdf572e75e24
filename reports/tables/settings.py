"""Settings of the cells: those in which they differ, those that all share, and arguments beside the paper's."""

import inspect
from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.cell import Cell, Spec
from bench.manifest.labels import choice, lineage, name, written
from crt.plugins import declaration
from crt.training.recipe import Recipe
from reports.render.table_spec import TEXT, Column, TableSpec

_MISSING = "–"


def settings_tables(cells: list[Cell]) -> Iterator[TableSpec]:
    """Describe the cells' settings, those that differ first."""
    frame = pd.DataFrame(map(settings, cells)).astype(object)
    frame = frame.where(frame.notna(), _MISSING)
    differs = [key for key in frame if frame[key].nunique() > 1]
    own = [key for key in frame if key in ("arch", "method") or key in differs] if len(cells) > 1 else []
    if own:
        columns = [Column(key, key, "name" if key in ("method", "teacher") else "word") for key in own]
        yield _spec("Settings in which the cells differ", columns, frame[own])
    shared = [(key, frame[key].iloc[0]) for key in frame if key not in own]
    shared = [(key, value) for key, value in shared if value not in (_MISSING, _DEFAULTS.get(key))]
    columns = [Column("setting", "setting", "name"), Column("value", "value", "name")]
    yield _spec("Settings that all cells share", columns, pd.DataFrame(shared, columns=["setting", "value"]))
    arguments = _arguments(cells)
    if not arguments.empty:
        yield _spec(
            "Arguments of methods and evaluations beside the paper's defaults",
            [
                Column("of", "method or evaluation", "name"),
                *(Column(key, key, "word") for key in ("argument", "value", "default", "differs")),
            ],
            arguments,
        )


def settings(cell: Cell) -> dict[str, str | None]:
    """Everything that a manifest sets of a cell, by its place there; None where it is not set."""
    threat, recipe = cell.threat, cell.recipe.model_dump()
    return {
        "arch": cell.arch,
        "method": name(cell),
        "teacher": lineage(cell.teacher),
        "init": lineage(cell.init),
        "dataset": cell.dataset,
        "pipeline": cell.pipeline,
        "loader": cell.loader,
        "threat.norm": threat.norm,
        "threat.eps": written(threat.eps) if threat.eps else None,
        "threat.sigma": f"{threat.sigma:g}" if threat.sigma else None,
        **{f"recipe.{key}": _value(value) for key, value in recipe.items()},
        "seed": str(cell.seed),
        "ranks": str(cell.ranks),
        "nodes": str(cell.nodes),
        "images": f"{cell.images:,}" if cell.images else "all",
        "select": cell.select,
        "tune": _tune(cell),
        "monitor": _monitor(cell),
        "evals": ", ".join(map(_judged, cell.evals)) or None,
    }


def _monitor(cell: Cell) -> str | None:
    """The evaluations during training, with the number of images if these are held out; None without any."""
    if cell.monitor is None:
        return None
    images = f" on {cell.held_out:,} training images held out" if cell.held_out else ""
    return ", ".join(spec.label for spec in cell.monitor.evals) + images


def _tune(cell: Cell) -> str | None:
    """The candidates for the recipe; None without any."""
    return "; ".join(choice(each, cell) for each in cell.candidates) or None


def _judged(spec: Spec) -> str:
    """An evaluation with its choice of images."""
    every = [f"every {spec.every}th image"] if spec.every > 1 else []
    most = [f"at most {spec.images:,} images"] if spec.images else []
    return " on ".join([spec.label, *([", ".join(every + most)] if every + most else [])])


def _arguments(cells: list[Cell]) -> pd.DataFrame:
    """A row for each argument of each method and evaluation; those that differ from the paper's defaults first."""
    rows: dict[tuple, dict[str, str]] = {}
    for package, spec in _plugins(cells):
        parameters = inspect.signature(declaration(package, spec.name)).parameters
        for argument, value in spec.args.items():
            default = parameters[argument].default
            row = {"of": spec.name, "argument": argument, "value": _value(value), "default": _value(default)}
            row["differs"] = "yes" if row["value"] != row["default"] else "no"
            rows[tuple(row.values())] = row
    frame = pd.DataFrame(rows.values(), columns=["of", "argument", "value", "default", "differs"])
    return frame.sort_values("differs", ascending=False, kind="stable")


def _plugins(cells: list[Cell]) -> Iterator[tuple[str, Spec]]:
    """Yield the package and the spec of each method, teachers' included, and of each evaluation."""
    for cell in cells:
        for each in (cell, *cell.ancestors):
            yield "crt.methods", each.method
    for cell in cells:
        for spec in (*cell.evals, *(cell.monitor.evals if cell.monitor else ())):
            yield "crt.evals", spec


def _value(value: Any) -> str:
    """A value as a manifest writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(each)}" for key, each in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(map(_value, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _spec(title: str, columns: list[Column], rows: pd.DataFrame) -> TableSpec:
    return TableSpec(title, "", columns, rows, writers=TEXT)


_DEFAULTS = {f"recipe.{key}": _value(field.default) for key, field in Recipe.model_fields.items()}
"""Values of the recipe's fields that say nothing about a cell."""
