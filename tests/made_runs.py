"""Made-up records of several seeds of many methods, drawn from a seeded generator: for figures of whole studies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from test_reports import epoch, start

from bench.build import robust_dataset
from bench.cell import Cell
from bench.manifest import Manifest, read_manifest
from bench.records import End, MonitorPoint, Record, RobustChunk, Verdict
from bench.results.contenders import settings
from bench.results.loading import load
from bench.results.robustness import kind
from reports.tables.certificates import certificates
from reports.tables.monitor import monitored
from reports.tables.robustness import robustness
from reports.tables.scaling import scaling
from reports.tables.schedule import epoch_costs
from reports.tables.sweeps import sweeps
from reports.tables.teachers import teachers
from reports.tables.timing import timing

SMOOTHING = """
title: Eight methods of smoothing
baseline: Standard
dataset: cifar10
loader: device
threat: {norm: l2, sigma: 0.25}
recipe: {epochs: 12, batch_size: 64, lr: 0.1}
evals: [Clean, Smoothing]
seed: [0, 1, 2]
cells:
  - method: [Standard, Gaussian, Consistency, MACER, SmoothAdv]
    arch: [resnet20, resnet110]
  - {name: teacher, method: SmoothMix, arch: resnet110, seed: 0}
  - {method: SmoothMix, arch: resnet20}
  - {method: [CRT, KD], arch: [resnet20, resnet110], teacher: {cell: teacher}}
"""
ADVERSARIAL = """
title: Eight methods of adversarial training
baseline: Standard
dataset: cifar10
loader: device
arch: resnet18
threat: {norm: linf, eps: 8/255}
recipe: {epochs: 12, batch_size: 64, lr: 0.1}
monitor: {evals: [PGD: {steps: 10}]}
evals: [AutoPGD]
seed: [0, 1, 2]
cells:
  - method: [Standard, SAT, FGSMRS, PGD7Fast]
  - {method: FreeAT, recipe: {epochs: 3, batch_size: 64, lr: 0.1}}
  - {name: teacher, method: SAT, arch: resnet10, seed: 0}
  - {method: [RRM, KD, RDT], teacher: {cell: teacher}}
"""
_COST = dict(Standard=1, Gaussian=1.05, Consistency=2.1, MACER=16, SmoothMix=9, SmoothAdv=12, CRT=1.25, KD=1.4)
_COST |= dict(SAT=8.1, FGSMRS=2.2, PGD7Fast=7.4, FreeAT=1.3, RRM=1.2, RDT=1.1)
_QUALITY = dict(Standard=0.02, Gaussian=0.35, Consistency=0.5, MACER=0.51, SmoothMix=0.54, SmoothAdv=0.55, CRT=0.545)
_QUALITY |= dict(KD=0.4, SAT=0.52, FGSMRS=0.43, PGD7Fast=0.49, FreeAT=0.44, RRM=0.48, RDT=0.3)
"""Seconds of an epoch over those of Standard, and robustness between 0 and 1."""


def frames(folder: Path, text: str, images: int = 1000) -> dict[str, pd.DataFrame]:
    """Frames of the manifest's records, which are written into the folder."""
    (folder / "m.yaml").write_text(text, encoding="utf-8")
    manifest, runs, draws = read_manifest(folder / "m.yaml"), folder / "runs", np.random.default_rng(0)
    for cell in manifest.cells:
        _train(cell, runs, draws)
        _evaluate(cell, runs, draws, images)
    return of_records(manifest, runs)


def of_records(manifest: Manifest, *runs: Path) -> dict[str, pd.DataFrame]:
    """The frames from which figures are drawn."""
    measured = load(manifest, list(runs))
    return {
        "epoch_costs": epoch_costs(settings(manifest, measured), measured),
        "timing": timing(manifest, measured),
        "robustness": robustness(measured),
        "scaling": scaling(measured),
        "certificates": certificates(measured),
        "monitored": monitored(manifest, measured),
        "sweeps": sweeps(measured),
        "teachers": teachers(measured),
    }


def _pace(cell: Cell) -> float:
    return 10 * _COST[cell.method.name] * {"resnet110": 5, "resnet10": 0.5}.get(cell.arch, 1)


def _quality(cell: Cell, draws: np.random.Generator) -> float:
    return _QUALITY[cell.method.name] * (1.1 if cell.arch == "resnet110" else 1) + float(draws.normal(0, 0.01))


def _train(cell: Cell, runs: Path, draws: np.random.Generator) -> None:
    records: list[Record] = [start(flops={cell.id: 1e6 * _pace(cell)}, seed=cell.seed)]
    final = _quality(cell, draws)
    for number in range(cell.recipe.epochs):
        grown = 1 - np.exp(-(number + 1) / 4)
        for spec in cell.monitor.evals if cell.monitor else ():
            seen = {
                "right": 0.85 * grown - final / 8,
                "standing": max(0.0, final * grown + float(draws.normal(0, 0.01))),
            }
            records.append(MonitorPoint(arm=cell.id, epoch=number, eval=spec.id, images=1000, **seen))
        seconds = _pace(cell) * float(np.exp(draws.normal(0, 0.03)))
        records.append(epoch(cell.id, number, seconds, 50_000).model_copy(update={"loss": 2.3 - 1.5 * grown}))
    _write(runs / cell.id / "train.jsonl", [*records, End(time=1.0)])
    if cell.robust:
        chunk = RobustChunk(first=0, images=50_000, seconds=200.0, distance=0.1)
        _write(robust_dataset.folder(cell, runs) / "made.jsonl", [chunk])


def _write(file: Path, records: Sequence[Record]) -> None:
    """Write all records at once: appending them one by one waits for the disk each time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(record.model_dump_json(by_alias=True) + "\n" for record in records), encoding="utf-8")


def _evaluate(cell: Cell, runs: Path, draws: np.random.Generator, images: int) -> None:
    quality, records = _quality(cell, draws), []
    for spec in cell.evals:
        correct = draws.random(images) < 0.88 - quality / 5
        reach = draws.beta(1 + 4 * quality, 1.5, images)
        for index in range(images):
            radius, details = 0.0, {}
            if kind(spec.name) == "smoothing":
                radius = round(float(0.95 * reach[index]) if quality > 0.1 else 0.01 * float(reach[index]), 3)
                details = {"pA_low": 0.5 + float(reach[index]) / 2}
            elif kind(spec.name) == "attack":
                radius = cell.threat.eps * float(reach[index] > 0.95 - quality)
            found = {"prediction": int(correct[index]), "radius": radius, "seconds": 0.0, "details": details}
            records.append(Verdict(eval=spec.id, index=index, label=1, **found))
    _write(runs / cell.id / "judge.jsonl", records)
