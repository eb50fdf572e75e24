"""Expand the blocks of a manifest into cells, resolve their teachers, and check each cell."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from bench.cell import Cell, Monitor, Paper, Spec, Weights
from bench.manifest.blocks import (
    INHERITED,
    CellBlock,
    Head,
    ManifestFile,
    SharedKeys,
    TeacherBlock,
    TeacherFile,
    TeacherName,
)
from bench.manifest.manifest import BARE, Manifest
from bench.manifest.messages import no_mapping, typed, unknown_key
from bench.manifest.plugin_spec import spec
from bench.manifest.validate import cell_fits, networks_fit, study_fits
from crt.models.import_weights.checkpoint_file import sha256_of
from crt.threat import Threat

AXES = ("dataset", "arch", "method", "threat", "recipe", "seed", "teacher", "ranks")


def _text(value: Any, where: str) -> str:
    """The text joined into one line; ValueError for a value that YAML does not read as text."""
    line = re.sub(r"[\t\n]+", " ", value).strip() if isinstance(value, str) else ""
    if not line:
        shown = json.dumps(value, default=str, ensure_ascii=False)
        raise ValueError(f"{where}: {shown} (allowed: text, in quotes where YAML reads a date, a number or a list)")
    return line


def _choice(value: Any, allowed: Any, where: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{where}: {value!r} (allowed: {', '.join(sorted(allowed))})")
    return value


class Reader:
    """Reads one manifest. It keeps cells by name, so that a teacher may refer to one of them."""

    def __init__(self, content: dict):
        for key in content:
            if key not in ManifestFile.model_fields:
                raise ValueError(f"manifest.{key}: {unknown_key(tuple(ManifestFile.model_fields))}")
        defaults = {key: value for key, value in content.items() if key in SharedKeys.model_fields}
        self.top = typed(Head, {"cells": None} | {key: content[key] for key in content if key not in defaults}, "")
        self.defaults, self.written = defaults, self.top.cells
        self.blocks = [self.parsed(i) for i in range(len(self.written))]
        self.named: dict[str, int] = {}
        for i, block in enumerate(self.blocks):
            if block.name is not None and self.named.setdefault(block.name, i) != i:
                raise ValueError(f"cells[{i}].name: {block.name!r} is the name of cells[{self.named[block.name]}]")
        self.done: dict[int, list[Cell]] = {}
        self.open: list[str] = []
        self.built: list[tuple[int, Cell, str]] = []
        """Block number, cell and place of each cell and inline teacher, for `check_networks`."""

    def parsed(self, i: int) -> CellBlock:
        """Block `i`, with the keys from the top of the file that it lacks."""
        if not isinstance(self.written[i], dict):
            raise ValueError(f"cells[{i}]: {no_mapping(self.written[i], tuple(CellBlock.model_fields))}")
        with self.pointing(i):
            return typed(CellBlock, self.defaults | self.written[i], f"cells[{i}]")

    def manifest(self, name: str) -> Manifest:
        """The manifest called `name`, with all its cells; ValueError for cells or a baseline that do not fit."""
        timing, baseline = self.top.timing, self.top.baseline
        by_id: dict[str, tuple[Cell, str]] = {}
        for i in range(len(self.blocks)):
            for cell in self.block(i):
                if cell.id in by_id:
                    raise ValueError(f"cells[{i}]: the same cell as {by_id[cell.id][1]} ({cell.id})")
                by_id[cell.id] = (cell, f"cells[{i}]")
        cells = tuple(cell for cell, _ in by_id.values())
        if baseline is not None:
            bare = {BARE} if any(cell.loop == "bare" for cell in cells) else set()
            _choice(baseline, {cell.method.name for cell in cells} | bare, "baseline")
        elif timing:
            raise ValueError("baseline: missing (a timing study needs the method that others are compared with)")
        title = _text(self.top.title, "title") if "title" in self.top.model_fields_set else name
        manifest = Manifest(name=name, title=title, baseline=baseline, timing=timing, cells=cells)
        if timing:
            study_fits(manifest)
        elif any(cell.loop == "bare" for cell in cells):
            raise ValueError("loop: 'bare' (allowed: in a timing study, for it trains nothing to an end)")
        return manifest

    def block(self, i: int) -> list[Cell]:
        """Cells of block `i`: the product of its axes, in the order of `AXES`."""
        if i in self.done:
            return self.done[i]
        where, block = f"cells[{i}]", self.blocks[i]
        axes = [key for key in AXES if isinstance(getattr(block, key), tuple)]
        settings = [dict(zip(axes, values, strict=True)) for values in product(*(getattr(block, key) for key in axes))]
        if block.name is not None and len(settings) > 1:
            raise ValueError(f"{where}.name: {block.name!r} names {len(settings)} cells (allowed: one)")
        self.open.append(where if block.name is None else block.name)
        papers = self.papers(i, len(settings))
        with self.pointing(i):
            cells = [
                self.cell(dict(block) | setting | {"paper": paper}, where, i)
                for setting, paper in zip(settings, papers, strict=True)
            ]
        self.open.pop()
        self.done[i] = cells
        return cells

    @contextmanager
    def pointing(self, i: int) -> Iterator[None]:
        """Within this context, an error of block `i` says so if its key is given at the top of the file."""
        try:
            yield
        except ValueError as error:
            place = re.match(rf"{re.escape(f'cells[{i}]')}\.(\w+)", str(error))
            if place and place[1] in self.defaults and place[1] not in self.written[i]:
                raise ValueError(f"{error}; {place[1]} is the one at the top of the file") from None
            raise

    def check_networks(self) -> None:
        """Raise ValueError if a network does not take its images, or a method or evaluation not the network."""
        for i, cell, where in self.built:
            with self.pointing(i):
                networks_fit(cell, where)

    def papers(self, i: int, count: int) -> list[Paper]:
        """Published figures of each of the `count` cells of block `i`; a list has one figure per cell."""
        block = self.blocks[i].paper
        rows: list[dict[str, Any]] = [{} for _ in range(count)]
        for key in [key for key in Paper.model_fields if block and key in block.model_fields_set]:
            figures = getattr(block, key)
            if count == 1 and not isinstance(figures, tuple):
                figures = (figures,)
            if not isinstance(figures, tuple) or len(figures) != count:
                allowed = f"a list of {count}, one for each cell" if count > 1 else "one figure, for there is one cell"
                raise ValueError(f"cells[{i}].paper.{key}: {self.written[i]['paper'][key]!r} (allowed: {allowed})")
            for row, figure in zip(rows, figures, strict=True):
                if figure is not None:
                    row[key] = figure
        return [Paper(**row) for row in rows]

    def cell(self, values: dict[str, Any], where: str, block: int) -> Cell:
        """The cell with these values, one for each key of a block or of a teacher; ValueError if they do not fit."""
        threat = values["threat"]
        method, kind = spec("crt.methods", values["method"], threat, f"{where}.method")
        values = {key: value for key, value in values.items() if key in Cell.model_fields} | {
            "method": method,
            "teacher": self.teacher(values, where, block),
            "evals": _evals(values.get("evals", ()), threat, f"{where}.evals"),
            "monitor": _monitor(values, where),
        }
        cell = Cell(**values)
        cell_fits(cell, kind, where)
        self.built.append((block, cell, where))
        return cell

    def teacher(self, student: dict[str, Any], where: str, block: int) -> Cell | Weights | None:
        """The teacher in a student's values: a named cell, weights from a file, or a cell to train first."""
        teacher, where = student["teacher"], f"{where}.teacher"
        if isinstance(teacher, TeacherName):
            if not self.named:
                raise ValueError(f"{where}.cell: {teacher.cell!r} (allowed: none, for no cell has a name)")
            name = _choice(teacher.cell, self.named, f"{where}.cell")
            if name in self.open:
                raise ValueError(f"{where}: a cycle of teachers: {' <- '.join([*self.open, name])}")
            return self.block(self.named[name])[0].model_copy(update={"evals": (), "paper": Paper()})
        if isinstance(teacher, TeacherFile):
            return _weights(teacher, student, where)
        if isinstance(teacher, TeacherBlock):
            inherited = {key: student[key] for key in INHERITED if key not in teacher.model_fields_set}
            return self.cell(dict(teacher) | inherited, where, block)
        return None


def _evals(written: tuple[Any, ...], threat: Threat, where: str) -> tuple[Spec, ...]:
    return tuple(spec("crt.evals", value, threat, f"{where}[{k}]")[0] for k, value in enumerate(written))


def _monitor(values: dict[str, Any], where: str) -> Monitor | None:
    """The evaluations during training; ValueError if they are missing and `select` needs them."""
    block, where = values["monitor"], f"{where}.monitor"
    if block is None:
        if values["select"] != "last":
            raise ValueError(f"{where}: missing, and select: {values['select']} chooses by it")
        return None
    evals = _evals(block.evals, values["threat"], f"{where}.evals")
    return Monitor(every=block.every, images=block.images, evals=evals)


def _weights(teacher: TeacherFile, student: dict[str, Any], where: str) -> Weights:
    """A teacher trained elsewhere; ValueError if its file is missing or has another SHA-256."""
    try:
        sha256 = sha256_of(Path(teacher.weights))
    except ValueError as error:
        raise ValueError(f"{where}.weights: {error}") from None
    if "sha256" in teacher.model_fields_set and str(teacher.sha256).lower() != sha256:
        raise ValueError(f"{where}.sha256: {teacher.sha256} (the file's is {sha256})")
    return Weights(
        dataset=student["dataset"],
        arch=teacher.arch,
        weights=teacher.weights,
        sha256=sha256,
        normalize=teacher.normalize,
        key=teacher.key,
        pipeline=teacher.pipeline or student["pipeline"],
    )
