"""Settings of several manifests together, whose methods compete wherever they are listed, each on one machine."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bench.manifest.manifest import BARE, Manifest
from bench.records import Start
from bench.results.contenders import Setting, settings
from bench.results.judging import judged_alike
from bench.results.measured import Measured
from bench.results.ratios import environment

Loaded = tuple[Manifest, list[Measured]]
"""A manifest, and its cells with their records."""


class Ranked(NamedTuple):
    """A setting to be ranked, with its records from one runs folder and one machine."""

    setting: Setting
    folder: Path
    machine: dict[str, str]
    """Values of the fields that times must share to be compared; empty without any record."""


def ranked_settings(loaded: Sequence[Loaded], allow: Collection[str] = ()) -> list[Ranked]:
    """The settings of all manifests in which the robustness of several methods is evaluated.

    Cells without records are among the methods. Trainings on machines that differ in a field that is not in `allow` are
    ranked apart, as their times would be, so that no interval covers both.
    """
    manifest, measured = _merged([manifest for manifest, _ in loaded]), _distinct([m for _, own in loaded for m in own])
    return [
        ranked
        for folder in dict.fromkeys(m.folder for m in measured)
        for ranked in _of_folder(manifest, folder, [m for m in measured if m.folder == folder], allow)
    ]


def training_starts(m: Measured) -> list[Start]:
    """Start records of the attempts that trained, or else timed or evaluated, a network."""
    return m.trainings or m.starts or list(m.evaluations.values())


def _merged(manifests: Sequence[Manifest]) -> Manifest:
    """One manifest of all cells that the harness trains; its baseline is the first method that is one."""
    cells = {(cell.id, cell.evals_digest): cell for manifest in manifests for cell in manifest.cells}
    baseline = next((each.baseline for each in manifests if each.baseline not in (None, BARE)), None)
    own = tuple(cell for cell in cells.values() if cell.loop == "train")
    return Manifest(name="board", title="Board", baseline=baseline, cells=own)


def _distinct(measured: Sequence[Measured]) -> list[Measured]:
    """The records of each cell and way of judging it once in each folder: those that were timed, if any."""
    found: dict[tuple, Measured] = {}
    for m in measured:
        key = m.folder, m.id, judged_alike(m.cell)
        if key not in found or (m.timed and not found[key].timed):
            found[key] = m
    return list(found.values())


def _of_folder(manifest: Manifest, folder: Path, measured: list[Measured], allow: Collection[str]) -> Iterator[Ranked]:
    """Yield the settings of a folder by machine, and last those without any record."""
    machines = {id(m): environment(training_starts(m), allow) for m in measured if m.recorded}
    known = [dict(items) for items in dict.fromkeys(tuple(machine.items()) for machine in machines.values())]
    shown: set[frozenset[str]] = set()
    for machine in (*known, {}):
        own = [m if machines.get(id(m), {}) == machine else Measured(m.cell, folder) for m in measured]
        for setting in settings(manifest, own, allow, unrecorded=True):
            methods = frozenset(each.first.cell.seedless.id for each in setting.contenders)
            recorded = any(m.recorded for each in setting.contenders for m in each.by_seed.values())
            if setting.figure and len(methods) > 1 and (recorded or (not machine and methods not in shown)):
                shown.add(methods)
                yield Ranked(replace(setting, paired=_paired(setting)), folder, machine)


def _paired(setting: Setting) -> bool:
    """True if all times come from one study, whose rounds are paired."""
    studies = {m.study for each in setting.contenders for m in each.by_seed.values() if m.timed}
    return len(studies) == 1 and None not in studies
