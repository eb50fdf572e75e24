"""All frames of a report."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bench.manifest import read_manifest
from bench.manifest.manifest import Manifest
from bench.results.against import changes, told_apart
from bench.results.contenders import Setting, settings
from bench.results.energy import NO_RATES, Rates
from bench.results.loading import load
from bench.results.measured import Measured
from bench.results.ratios import check_fields
from reports.tables.attack_checks import masking
from reports.tables.certificates import certificates
from reports.tables.changes import change_frame
from reports.tables.claims import claims
from reports.tables.comparisons import comparisons
from reports.tables.energy import energy
from reports.tables.factors import factors, means
from reports.tables.monitor import monitored
from reports.tables.probabilities import probabilities
from reports.tables.repetitions import repetitions
from reports.tables.restated import restatements
from reports.tables.robustness import robustness
from reports.tables.robustness_cost import robustness_cost
from reports.tables.scaling import scaling
from reports.tables.scaling_fit import scaling_fit
from reports.tables.schedule import epoch_costs, schedule
from reports.tables.seeds import seed_differences, seeds
from reports.tables.speed import certification, speed
from reports.tables.sweeps import sweeps
from reports.tables.targets import targets
from reports.tables.teachers import teachers
from reports.tables.timing import timing
from reports.tables.trainings import trainings


class Results(NamedTuple):
    """A manifest, and what its records show."""

    manifest: Manifest
    measured: list[Measured]
    compared: list[Setting]
    frames: dict[str, pd.DataFrame]
    """The frame of each table, by its name."""


def read_frames(
    path: Path,
    runs: Sequence[Path],
    quick: bool,
    allow: Collection[str],
    rates: Rates = NO_RATES,
    overrides: Sequence[str] = (),
    every: bool = True,
    against: str | None = None,
    target: float | None = None,
) -> Results:
    """Read a manifest and its records, and compute the frames; ValueError for records that cannot be read or compared.

    Without `every`, differences of pairs that no table shows are not computed. `against` is a runs folder or a commit,
    whose times are compared with the others, and `target` the accuracy that a time is sought to.
    """
    check_fields(allow)
    rates.check()
    manifest = read_manifest(path, quick, networks=False, overrides=overrides)
    # Published figures belong to the manifest without overrides.
    original = read_manifest(path, networks=False) if overrides and not quick else manifest
    measured = load(manifest, list(dict.fromkeys(runs)))
    before: list[Measured] = []
    if against:
        measured, before = told_apart(manifest, measured, against)
    compared = settings(manifest, measured, allow)
    frames = make_frames(manifest, measured, compared, original, allow, rates, every)
    frames |= {"changes": change_frame(changes(manifest, measured, before)), "targets": targets(measured, target)}
    return Results(manifest, measured, compared, frames)


def make_frames(
    manifest: Manifest,
    measured: list[Measured],
    compared: Sequence[Setting],
    original: Manifest,
    allow: Collection[str],
    rates: Rates = NO_RATES,
    every: bool = True,
) -> dict[str, pd.DataFrame]:
    """The frame of each table, by its name; ValueError for times that cannot be divided."""
    return {
        "timing": timing(manifest, measured, allow),
        "robustness": robustness(measured),
        "means": means(manifest, measured),
        "factors": factors(manifest, measured, allow, every),
        "repetitions": repetitions(manifest, measured),
        "schedule": schedule(compared, measured),
        "epoch_costs": epoch_costs(compared, measured),
        "scaling": scaling(measured, allow),
        "scaling_fit": scaling_fit(measured),
        "speed": speed(manifest, measured, allow),
        "certification": certification(manifest, measured),
        "restatements": restatements(manifest, measured, allow),
        "trainings": trainings(measured),
        "masking": masking(measured),
        "comparisons": comparisons(manifest, measured, every),
        "robustness_cost": robustness_cost(compared, measured),
        "seeds": seeds(compared, measured),
        "seed_differences": seed_differences(manifest, compared, measured),
        "certificates": certificates(measured),
        "probabilities": probabilities(compared, measured),
        "monitored": monitored(manifest, measured),
        "sweeps": sweeps(measured),
        "teachers": teachers(measured),
        "claims": claims(manifest, measured, original, allow),
        "energy": energy(measured, rates),
    }
