"""Similarity of trained networks to a teacher, and their Lipschitz constants (Duet paper, table 1)."""

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from bench.build.networks import network, trained
from bench.cell import Cell, Weights
from bench.command import set_options
from bench.jobs.evaluate import image
from bench.manifest import read_manifest
from bench.manifest.manifest import Manifest
from bench.results.csv_file import write_csv
from crt import screen
from crt.data.beton_file import Beton, ensure
from crt.fitted_table import FittedTable
from crt.lipschitz.boxes import regions
from crt.lipschitz.chain import Layer, chain
from crt.lipschitz.local import last_ball, local_estimate, parts
from crt.lipschitz.measures import Products, products, tightness
from crt.lipschitz.norms import estimates, final_norms, first_vectors
from crt.lipschitz.same_layers import alike
from crt.lipschitz.similarity import similarity
from crt.lipschitz.translation import distances
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import plain
from crt.plugins import declaration
from crt.table_layout import Column
from crt.text import invocation, printable

_READINGS = tuple(f"M{k}" for k in range(1, 7))
_LEGEND = (
    "Means over layers. M1: cosine of the rotations; M2: cosine of their outputs on each network's own inputs; M3: of"
    " their outputs on the same inputs; M4: alignment of the layers' outputs; M5: overlap of the leading input"
    " directions; M6: M1 rescaled to [0, 1]. box/ball: translations over box and ball, relative to those over the ball"
    " alone."
)
_CONSTANTS = ("logits", "margins", "local_logits", "local_margins")
_GLOBAL, _LOCAL = 100, 20
"""Power iterations for the norms of a network, and then, from their vectors, for the norms of an image."""
_HIDE = {"M6": 1, "begins": 2, "M5": 3, "M4": 4, "M3": 5, "local_margins": 6, "tightness": 7}
"""Columns that a narrow terminal hides, in this order. M6 is M1, rescaled."""
_BATCH = 50
"""Images per batch of local norms; the regions of all layers of each image are in memory."""


def report(
    path: Path,
    teacher: str | None,
    runs: Path,
    data: Path,
    images: int,
    quick: bool,
    csv: Path | None,
    overrides: list[str],
) -> None:
    """Print the similarity of a manifest's trained networks to the teacher, and write it to `csv`.

    ValueError if no network is trained.
    """
    console = screen.output()
    manifest = read_manifest(path, quick, networks=False, overrides=overrides)
    reference = _teacher(manifest, teacher)
    frame, notes = likeness(manifest, reference, runs, data, images)
    if frame.empty:
        command = invocation("bench.submit", path, *(["--quick"] if quick else []), *set_options(overrides))
        raise ValueError(f"{path}: no network to compare: {'; '.join(notes)} (train them: {command})")
    if csv:
        write_csv(frame, csv)
    console.print(f"{manifest.title}: compared with {reference.id}, at most {images} test images", soft_wrap=True)
    for table in _tables(frame):
        console.print(table, crop=False)
    console.print(_LEGEND, soft_wrap=True)
    for note in notes:
        console.print(f"left out: {printable(note)}", soft_wrap=True)


def likeness(
    manifest: Manifest, teacher: Cell | Weights, runs: Path, data: Path, images: int
) -> tuple[pd.DataFrame, list[str]]:
    """One row per trained cell and per untrained network of each architecture, and the reasons why cells are left out.

    `..._floor` is the value of the untrained network. `..._shared` is the value of the same cell with the teacher's
    seed, and so with the teacher's initial weights, if the manifest has that cell. Similarities are shares. Constants
    are for pixels in [0, 1]; local constants are means over images. `tightness` is the ratio of translations over box
    and ball to those over the ball.
    """
    cells = [cell for cell in manifest.trained if (runs / cell.id / "model.pt").exists()]
    left_out = [f"{cell.id}: not trained" for cell in manifest.trained if cell not in cells]
    if not cells:
        return pd.DataFrame(), left_out
    reference, (x, y) = plain(trained(teacher, runs).eval().double()), _images(teacher, data, images)
    unused_seed = 1 + max(source.seed for cell in cells for source in (cell, *cell.lineage, teacher))
    local = {cell.arch for cell in cells if _uses_local_norms(cell)}
    rows, floors = [], {}
    for cell in cells:
        try:
            model = plain(trained(cell, runs).eval().double())
            alike(model, reference)
        except ValueError as error:
            left_out.append(f"{cell.id}: {error}")
            continue
        eps, kind = cell.threat.eps, (cell.arch, cell.threat.eps)
        if kind not in floors:
            initial = network(cell.model_copy(update={"seed": unused_seed})).eval().double().to(x.device)
            floors[kind] = _measured(plain(initial), reference, x, y, eps, cell.arch in local)
        rows.append((cell, _measured(model, reference, x, y, eps, _uses_local_norms(cell))))
    untrained = [
        {"arch": arch, "method": "untrained", "seed": unused_seed, "begins": "", "eps": eps, "id": ""} | floor
        for (arch, eps), floor in floors.items()
    ]
    return pd.DataFrame(_rows(rows, floors, teacher) + untrained), left_out


def _uses_local_norms(cell: Cell) -> bool:
    return declaration("crt.methods", cell.method.name).uses_local_norms


def _rows(rows: list[tuple[Cell, dict]], floors: dict[tuple[str, float], dict], teacher: Cell | Weights) -> list[dict]:
    table, by_id = [], {cell.id: values for cell, values in rows}
    for cell, values in rows:
        # The seed of weights trained elsewhere is unknown.
        own = isinstance(teacher, Cell) and cell.seed == teacher.seed
        twin = cell.model_copy(update={"seed": teacher.seed}).id
        shared = by_id.get(twin, {}) if isinstance(teacher, Cell) and not own else {}
        row = {"arch": cell.arch, "method": cell.method.label, "seed": cell.seed}
        row |= {"begins": "as the teacher" if own else "alone", "eps": cell.threat.eps, "id": cell.id} | values
        row |= {f"{key}_floor": value for key, value in floors[cell.arch, cell.threat.eps].items()}
        row |= {f"{key}_shared": shared.get(key, math.nan) for key in values}
        row |= {"paper_similarity": _number(cell.paper.similarity) / 100}
        table.append(row | {"paper_lipschitz": _number(cell.paper.lipschitz)})
    return table


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _measured(
    model: Classifier, teacher: Classifier, x: Tensor, y: Tensor, eps: float, local: bool
) -> dict[str, float]:
    """Similarity to the teacher, Lipschitz constants (local ones if `local`, else NaN) and tightness of a network."""
    layers = chain(model, x.shape[1:])
    norms = final_norms(layers, "fft_upper")
    constants = *products(model, layers, norms), *(_local(model, layers, x, eps, norms) if local else (math.nan,) * 2)
    values = similarity(model, teacher, x) | dict(zip(_CONSTANTS, constants, strict=True))
    return values | {"tightness": tightness(model, layers, x, y, eps, norms)}


@torch.no_grad()
def _local(model: Classifier, layers: tuple[Layer, ...], x: Tensor, eps: float, norms: dict[str, Tensor]) -> Products:
    """Means over images of both constants from local norms, which power iteration bounds from below."""
    _, vectors = estimates(layers[:-1], first_vectors(layers[:-1]), _GLOBAL)
    radii = []
    for batch in x.split(_BATCH):
        local_parts = parts(layers, regions(model, layers, batch, eps, norms))
        local_norms = [
            local_estimate(part, vectors[part.layer.name].expand_as(part.inner), _LOCAL)[0] for part in local_parts
        ]
        radii.append(last_ball(model, 1.0, math.prod(local_norms)))
    body = torch.cat(radii).mean()
    return Products(float(body * norms["head"]), float(body * distances(model.head.weight).max()))


def _teacher(manifest: Manifest, part: str | None) -> Cell | Weights:
    """The network with `part` in its id, else the manifest's only teacher; ValueError unless there is exactly one."""
    known: dict[str, Cell | Weights] = {cell.teacher.id: cell.teacher for cell in manifest.trained if cell.teacher}
    if part:
        known |= {network.id: network for cell in manifest.trained for network in (cell, *cell.lineage)}
    matches = [network for network in known.values() if not part or part in network.id]
    if len(matches) != 1:
        given = (
            f"--teacher {part}: in {len(matches)} ids"
            if part
            else f"--teacher: {len(matches)} teachers in the manifest"
        )
        raise ValueError(f"{given} (allowed: part of one id of {', '.join(known) or 'the trained cells'})")
    return matches[0]


def _images(teacher: Cell | Weights, data: Path, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` test images (B, C, H, W) in float64 and their labels (B,), on the device."""
    test = Beton(ensure(teacher.data, "test", data))
    x = torch.stack([image(test, i) for i in range(min(count, len(test)))]).double()
    return x, torch.from_numpy(test.labels[: len(x)]).to(x.device)


def _tables(frame: pd.DataFrame) -> Iterator[FittedTable]:
    shares = {key: key for key in _READINGS} | {"paper_similarity": "paper"}
    frame = frame.assign(**{key: 100 * frame[key] for key in shares})
    yield _table("Similarity (%)", frame, shares, ".1f")
    constants = {key: key.replace("_", " ") for key in _CONSTANTS if frame[key].notna().any()}
    constants |= {"paper_lipschitz": "paper", "tightness": "box/ball"}
    yield _table("Lipschitz constants, and tightening of translations by boxes", frame, constants, ".3g")


def _table(title: str, frame: pd.DataFrame, heads: dict[str, str], form: str) -> FittedTable:
    words = ["arch", "method", "seed", "begins", *(["eps"] if frame["eps"].nunique() > 1 else [])]
    columns = []
    for word in words:
        texts = [f"{value:.3g}" if word == "eps" else str(value) for value in frame[word]]
        columns.append(Column(word, texts, left=True, fold=True, hide=_HIDE.get(word, 0)))
    for key, heading in heads.items():
        texts = ["–" if math.isnan(value) else format(value, form) for value in frame[key]]
        columns.append(Column(heading, texts, hide=_HIDE.get(key, 0), fixed=frame[key].notna().any()))
    return FittedTable(title, columns, hint="--csv writes them")
