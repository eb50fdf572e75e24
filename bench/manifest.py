"""Read a manifest: YAML to cells, every name, argument and number checked here."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench import shipped
from bench.cells import Cell, Monitor, Paper, Weights, digest
from bench.fits import cell_fits, networks_fit, study_fits
from bench.specs import explain, keys, spec, typed
from bench.tables import BARE, Manifest, Timing
from bench.yamls import load_yaml
from crt.checkpoint_file import sha256_of
from crt.data import DATASETS, LOADERS, PIPELINES
from crt.plugins import declared
from crt.recipe import Recipe
from crt.text import check_folder_name
from crt.threat import Threat

AXES = ("dataset", "arch", "method", "threat", "recipe", "seed", "teacher", "ranks")
_CELL = (*AXES, "pipeline", "loader", "nodes", "images", "loop", "evals", "monitor", "select", "paper", "name")
_ONLY_IN_CELLS = ("loop", "paper", "name")
_TOP = ("title", "baseline", "timing", "recipes", "cells", *(key for key in _CELL if key not in _ONLY_IN_CELLS))
_INHERITED = ("dataset", "threat", "pipeline", "loader", "ranks", "nodes", "images")
_WEIGHTS = ("weights", "sha256", "arch", "normalize", "key", "pipeline")
_TEACHER = (*_INHERITED, "arch", "method", "recipe", "seed", "teacher", "monitor", "select")
_DEFAULTS = {"pipeline": "crt", "loader": "ffcv", "threat": {}, "seed": 0, "ranks": 1, "nodes": 1}


def read(path: Path, quick: bool = False, networks: bool = True) -> Manifest:
    """The manifest in a file, or the shipped one of that name, reduced where `quick`.

    ValueError with file, place, value and what is allowed.

    Whatever can be told from words is checked first. Then `networks` says whether networks are built, without storage,
    to see that methods and evaluations can take them: it needs torch, and only of manifests that hold such a choice.
    """
    content = load_yaml(shipped.manifest(path))
    try:
        reader = _Reader(content)
        manifest = reader.manifest(_name(path))
        if networks:
            reader.check_networks()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not quick:
        return manifest
    from bench.quick import reduce

    return reduce(manifest)


def _name(path: Path) -> str:
    """The file's name without its suffix, by which the folders of its studies begin; ValueError if it cannot be."""
    check_folder_name(path.stem, max(len(f"-{arch}-{digest('')}") for arch in declared("crt.archs")))
    return path.stem


def _text(value: Any, where: str) -> str:
    """One line of words, whatever lines it was written in; ValueError for what YAML reads as something else."""
    line = re.sub(r"[\t\n]+", " ", value).strip() if isinstance(value, str) else ""
    if not line:
        shown = json.dumps(value, default=str, ensure_ascii=False)
        raise ValueError(f"{where}: {shown} (allowed: text, in quotes where YAML reads a date, a number or a list)")
    return line


def _choice(value: Any, allowed: Any, where: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{where}: {value!r} (allowed: {', '.join(sorted(allowed))})")
    return value


class _Reader:
    """One manifest while it is read; cells by name, so that a teacher may be one of them."""

    def __init__(self, content: dict):
        self.top = keys(content, _TOP, "manifest")
        blocks = self.top.get("cells")
        if not isinstance(blocks, list) or not blocks:
            raise ValueError(f"cells: {blocks!r} (allowed: a list of at least one cell)")
        self.defaults = _DEFAULTS | {key: value for key, value in self.top.items() if key in _CELL}
        self.blocks = [keys(block, _CELL, f"cells[{i}]") for i, block in enumerate(blocks)]
        self.named: dict[str, int] = {}
        for i, block in enumerate(self.blocks):
            if not isinstance(block.get("name", ""), str):
                raise ValueError(f"cells[{i}].name: {block['name']!r} (allowed: a word)")
            if "name" in block and self.named.setdefault(block["name"], i) != i:
                raise ValueError(
                    f"cells[{i}].name: {block['name']!r} is the name of cells[{self.named[block['name']]}]"
                )
        self.done: dict[int, list[Cell]] = {}
        self.open: list[str] = []
        self.built: list[tuple[int, Cell, str]] = []
        """Each cell and inline teacher as it was read: its block and its place, to be checked by its network."""

    def manifest(self, name: str) -> Manifest:
        timing = typed(Timing, self.top["timing"], "timing") if "timing" in self.top else None
        cells: dict[str, tuple[Cell, str]] = {}
        for i in range(len(self.blocks)):
            for cell in self.block(i):
                if cell.id in cells:
                    raise ValueError(f"cells[{i}]: the same cell as {cells[cell.id][1]} ({cell.id})")
                cells[cell.id] = (cell, f"cells[{i}]")
        found = [cell for cell, _ in cells.values()]
        baseline = self.top.get("baseline")
        if baseline is not None:
            bare = {BARE} if any(cell.loop == "bare" for cell in found) else set()
            _choice(baseline, {cell.method.name for cell in found} | bare, "baseline")
        elif timing:
            raise ValueError("baseline: missing (a timing study needs the method that others are compared with)")
        title = _text(self.top.get("title", name), "title")
        manifest = Manifest(name=name, title=title, baseline=baseline, timing=timing, cells=tuple(found))
        if timing:
            study_fits(manifest)
        elif any(cell.loop == "bare" for cell in found):
            raise ValueError("loop: 'bare' (allowed: in a timing study, for it trains nothing to an end)")
        return manifest

    def block(self, i: int) -> list[Cell]:
        """The product of a block's axes, in the order in which the axes are written in the schema."""
        if i in self.done:
            return self.done[i]
        where, written = f"cells[{i}]", self.defaults | self.blocks[i]
        axes = [key for key in AXES if isinstance(written.get(key), list)]
        for key in axes:
            if not written[key]:
                raise ValueError(f"{where}.{key}: an empty list")
        settings = [dict(zip(axes, values, strict=True)) for values in product(*(written[key] for key in axes))]
        if "name" in written and len(settings) > 1:
            raise ValueError(f"{where}.name: {written['name']!r} names {len(settings)} cells (allowed: one)")
        self.open.append(str(written.get("name", where)))
        papers = self.papers(written.get("paper", {}), len(settings), f"{where}.paper")
        with self.pointing(i):
            cells = [
                self.cell(written | setting, where, i).model_copy(update={"paper": paper})
                for setting, paper in zip(settings, papers, strict=True)
            ]
        self.open.pop()
        self.done[i] = cells
        return cells

    @contextmanager
    def pointing(self, i: int) -> Iterator[None]:
        """Within: an error of block `i` says where its key stands at the top of the file, once for all blocks."""
        try:
            yield
        except ValueError as error:
            place = re.match(rf"{re.escape(f'cells[{i}]')}\.(\w+)", str(error))
            if place and place[1] in self.top and place[1] not in self.blocks[i]:
                raise ValueError(f"{error}; {place[1]} is the one at the top of the file") from None
            raise

    def check_networks(self) -> None:
        """ValueError where a network cannot take its images, or a method or evaluation cannot take the network."""
        for i, cell, where in self.built:
            with self.pointing(i):
                networks_fit(cell, where)

    def papers(self, value: Any, count: int, where: str) -> list[Paper]:
        """A block's published figures, one for each of its cells: lists run along the product."""
        value = keys(value, tuple(Paper.model_fields), where)
        for key, figures in value.items():
            if count > 1 and (not isinstance(figures, list) or len(figures) != count):
                raise ValueError(f"{where}.{key}: {figures!r} (allowed: a list of {count}, one for each cell)")
        single = lambda figure: figure[0] if isinstance(figure, list) and len(figure) == 1 else figure  # noqa: E731
        rows = [{key: v[k] if count > 1 else single(v) for key, v in value.items()} for k in range(count)]
        return [typed(Paper, {k: v for k, v in row.items() if v is not None}, where) for row in rows]

    def cell(self, written: dict, where: str, block: int, teaching: bool = False) -> Cell:
        for key in ("dataset", "arch", "method", "recipe"):
            if key not in written:
                raise ValueError(f"{where}.{key}: missing")
        threat = typed(Threat, written["threat"], f"{where}.threat")
        method, kind = spec("crt.methods", written["method"], threat, f"{where}.method")
        teacher = self.teacher(written, where, block)
        evals = [] if teaching else written.get("evals", [])
        if not isinstance(evals, list):
            raise ValueError(f"{where}.evals: {evals!r} (allowed: a list of evaluations)")
        fields = {
            "dataset": _choice(written["dataset"], DATASETS, f"{where}.dataset"),
            "pipeline": _choice(written["pipeline"], PIPELINES, f"{where}.pipeline"),
            "loader": _choice(written["loader"], LOADERS, f"{where}.loader"),
            "arch": _choice(written["arch"], declared("crt.archs"), f"{where}.arch"),
            "method": method,
            "threat": threat,
            "recipe": typed(Recipe, written["recipe"], f"{where}.recipe"),
            "teacher": teacher,
            "evals": tuple(spec("crt.evals", e, threat, f"{where}.evals[{k}]")[0] for k, e in enumerate(evals)),
            "monitor": self.monitor(written, threat, where),
            **{key: written[key] for key in ("seed", "ranks", "nodes", "images", "loop", "select") if key in written},
        }
        try:
            cell = Cell(**fields)
        except ValidationError as error:
            raise ValueError(explain(error, where)) from None
        cell_fits(cell, kind, where)
        self.built.append((block, cell, where))
        return cell

    def monitor(self, written: dict, threat: Threat, where: str) -> Monitor | None:
        """What is evaluated during training; best weights cannot be told without."""
        value, where = written.get("monitor"), f"{where}.monitor"
        if value is None:
            if written.get("select", "last") != "last":
                raise ValueError(f"{where}: missing, and select: {written['select']} chooses by it")
            return None
        keys(value, tuple(Monitor.model_fields), where)
        evals = value.get("evals")
        if not isinstance(evals, list) or not evals:
            raise ValueError(f"{where}.evals: {evals!r} (allowed: a list of at least one evaluation)")
        specs = [spec("crt.evals", e, threat, f"{where}.evals[{k}]")[0] for k, e in enumerate(evals)]
        return typed(Monitor, value | {"evals": specs}, where)

    def teacher(self, written: dict, where: str, block: int) -> Cell | Weights | None:
        value = written.get("teacher")
        if value is None:
            return None
        where = f"{where}.teacher"
        if isinstance(value, dict) and set(value) == {"cell"}:
            if not self.named:
                raise ValueError(f"{where}.cell: {value['cell']!r} (allowed: none, for no cell has a name)")
            name = _choice(value["cell"], self.named, f"{where}.cell")
            if name in self.open:
                raise ValueError(f"{where}: a cycle of teachers: {' <- '.join([*self.open, name])}")
            return self.block(self.named[name])[0].model_copy(update={"evals": (), "paper": Paper()})
        if isinstance(value, dict) and "weights" in value:
            return self.weights({"pipeline": written["pipeline"]} | value, written["dataset"], where)
        keys(value, _TEACHER, where)
        inherited = {key: written[key] for key in _INHERITED if key in written}
        return self.cell(_DEFAULTS | inherited | value, where, block, teaching=True)

    def weights(self, value: dict, dataset: str, where: str) -> Weights:
        """A teacher from elsewhere: its file is there, and is the one that is meant."""
        keys(value, _WEIGHTS, where)
        arch = _choice(value.get("arch"), declared("crt.archs"), f"{where}.arch")
        path = value["weights"]
        if not isinstance(path, str):
            raise ValueError(f"{where}.weights: {path!r} (allowed: the path of a file, as text)")
        try:
            held = sha256_of(Path(path))
        except ValueError as error:
            raise ValueError(f"{where}.weights: {error}") from None
        if str(value.get("sha256", held)).lower() != held:
            raise ValueError(f"{where}.sha256: {value['sha256']} (the file's is {held})")
        if not isinstance(value.get("normalize"), bool | None):
            raise ValueError(f"{where}.normalize: {value['normalize']!r} (allowed: true, false)")
        if not isinstance(value.get("key"), str | None):
            raise ValueError(f"{where}.key: {value['key']!r} (allowed: the name of a state dict in the file)")
        file = {"weights": path, "sha256": held}
        file |= {key: value.get(key) for key in ("normalize", "key")}
        pipeline = _choice(value["pipeline"], PIPELINES, f"{where}.pipeline")
        return Weights(dataset=dataset, arch=arch, pipeline=pipeline, **file)
