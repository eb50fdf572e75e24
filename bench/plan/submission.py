"""One manifest on its way to a launcher: planned, checked, estimated, handed over."""

import fnmatch
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

from bench.command import set_options
from bench.jobs.lease import JobPaths
from bench.manifest import profile as profiles
from bench.manifest import read_manifest, shipped
from bench.manifest.labels import labels_beside_ids
from bench.manifest.manifest import Manifest
from bench.manifest.quick import reduce
from bench.plan import devices, estimate, forecast, preflight
from bench.plan.waves import BenchWave, pluralize, waves
from crt import screen
from crt.text import CONTROL, invocation, printable
from launchers import inline, local, slurm, states
from launchers.choose import choose
from launchers.ledger import Ledger
from launchers.profile import Profile
from launchers.task import unfinished

MANIFESTS = shipped.folder("manifests").resolve()


def submit(
    manifest: Path,
    launcher: str,
    profile: Path | None,
    runs: Path,
    data: Path,
    quick: bool,
    only: str | None,
    failed: bool,
    max_gpu_hours: float | None,
    device: str | None,
    overrides: list[str],
    dry_run: bool,
) -> int:
    """Plan what the manifest asks for and hand it over, or show it where `dry_run`; how many jobs failed here.

    ValueError before anything runs.
    """
    if device is not None and device not in devices.TABLE:
        raise ValueError(f"--device {device}: unknown (allowed: {', '.join(devices.TABLE)})")
    if profile and launcher not in ("auto", "slurm"):
        raise ValueError(f"--profile {profile}: of use to Slurm alone (allowed: with --launcher slurm)")
    asked = read_manifest(manifest, overrides=overrides)
    if launcher == "auto":
        launcher = choose(profile=profile is not None)
    if launcher == "slurm":
        _check_paths(runs, data)
    if launcher == "slurm" and not dry_run:
        _check_slurm(profile)
    if quick:
        # Operations are counted for it, which takes a while: mistakes and a silent Slurm are told before.
        asked = reduce(asked)
    submission = Submission(
        chosen(asked, only),
        manifest,
        launcher,
        runs.absolute(),
        data.absolute(),
        profile,
        failed,
        max_gpu_hours,
        device,
        overrides,
    )
    return submission.dry() if dry_run else submission.launch()


def _check_slurm(profile: Path | None) -> None:
    try:
        states.can_submit()
    except ValueError as error:
        raise ValueError(f"{error} (allowed: --launcher local{', without --profile' if profile else ''})") from None


def _check_paths(runs: Path, data: Path) -> None:
    """ValueError for a folder that Slurm would take for another, or that would end a line of the batch script."""
    # Slurm puts numbers in for what follows a % in the path of a log, unless there is a backslash.
    for option, folder, found in (
        ("--runs", runs, re.search(rf"[%\\]|{CONTROL.pattern}", str(runs.absolute()))),
        ("--data", data, CONTROL.search(str(data.absolute()))),
    ):
        if found:
            allowed = "no control characters" + (", no % and no backslash" if option == "--runs" else "")
            raise ValueError(f"{option} {folder}: {found[0]!r} in the path (allowed with Slurm: {allowed})")


def chosen(manifest: Manifest, pattern: str | None) -> Manifest:
    """The manifest's cells with the pattern in id or label; of a timing study, whole studies. ValueError if none."""
    if pattern is None:
        return manifest
    # Labels hold lists in brackets, which are no choice of characters.
    hit = lambda name: fnmatch.fnmatchcase(name, f"*{pattern.replace('[', '[[]')}*")  # noqa: E731
    asked = lambda cell: hit(cell.id) or hit(cell.method.label)  # noqa: E731
    if manifest.timing:
        cells = [a for s in manifest.studies if hit(s.id) or any(map(asked, s.arms)) for a in s.arms]
    else:
        cells = [cell for cell in manifest.cells if asked(cell)]
    if not cells:
        cells = {cell.id: cell for cell in manifest.cells}
        said = labels_beside_ids(cells)
        there = ", ".join(f"{key} ({said[key]})" if key in said else key for key in cells)
        raise ValueError(f"--only {pattern}: in no cell's id or label (there are: {there})")
    return manifest.model_copy(update={"cells": tuple(cells)})


def manifest_name(manifest: Path) -> str:
    """What its arrays' names begin with: its path under `manifests/`, for each paper may have a table1.yaml there."""
    path = shipped.manifest(manifest).resolve().with_suffix("")
    return "-".join(path.relative_to(MANIFESTS).parts) if path.is_relative_to(MANIFESTS) else manifest.stem


class Submission:
    """One manifest on its way to a launcher."""

    def __init__(
        self,
        manifest: Manifest,
        path: Path,
        launcher: str,
        runs: Path,
        data: Path,
        profile: Path | None,
        failed: bool,
        most: float | None,
        device: str | None,
        overrides: list[str],
    ):
        self.manifest, self.path, self.launcher, self.failed, self.most = manifest, path, launcher, failed, most
        self.overrides = overrides
        on_slurm = launcher == "slurm"
        self.profile = profiles.read(profile or profiles.DEFAULT) if on_slurm else Profile()
        self.speed = self._speed(device)
        process = "shared" if launcher == "inline" else "fresh"
        stage = self.profile.stage
        self.place = JobPaths(runs=runs, data=data, process=process, stage=stage, submitted=time.time())
        self.ledger = Ledger(runs)
        self.console = screen.output()

    def plan(self) -> list[BenchWave]:
        """Every job, as the records are now."""
        shards = self.profile.shards if self.launcher == "slurm" else None
        found = waves(self.manifest, self.place, shards, self.profile.sources)
        if not self.failed:
            return found
        tried = self.ledger.names()
        again = lambda job: job.task.records.exists() or job.task.key in tried  # noqa: E731
        return [replace(wave, jobs=tuple(filter(again, wave.jobs))) for wave in found]

    def dry(self) -> int:
        """Print cells, waves, times and, for Slurm, the exact text for sbatch: without data, GPU or Slurm."""
        found = self.plan()
        self._show(found)
        preflight.check_data(self.manifest, self.place.data, self.profile.sources, dry=True)
        try:
            self._check_device(found)
        except ValueError as error:
            print(f"warning: {printable(str(error))}", file=sys.stderr)
        if self.launcher == "slurm":
            logs = self.place.runs / "logs"
            for array in slurm.arrays(manifest_name(self.path), found, self.profile, self.profile.max_array, set()):
                first, last = array.tasks[0].key, array.tasks[-1].key
                keys = f"{first} … {last}" if len(array.tasks) > 1 else first
                after = found[array.wave].after
                waits = f", after the jobs of {found[after].name}" if after is not None else ""
                self.console.rule(f"{found[array.wave].name}: {pluralize(len(array.tasks))}{waits}")
                print(f"# {keys}\n{slurm.text(array, logs, self.profile)}")
        return 0

    def launch(self) -> int:
        """Hand over what is left to do; how many jobs failed. ValueError before anything runs."""
        found = self.plan()
        self._check_device(found)
        if unfinished(found):
            # Operations are counted next, which takes a while.
            preflight.check_writable(self.place.runs)
            preflight.check_weights(self.manifest, self.place.runs)
        self._show(found)
        if not unfinished(found):
            self.console.print(f"Nothing left to do. {self._report()}", soft_wrap=True)
            return 0
        preflight.check_data(self.manifest, self.place.data, self.profile.sources, dry=False)
        logs = self.place.runs / "logs"
        wrong = 0
        if self.launcher == "inline":
            wrong = inline.launch(found)
        elif self.launcher == "local":
            wrong = local.launch(found, logs)
        else:
            done = slurm.launch(manifest_name(self.path), self.plan, logs, self.profile, self.ledger)
            for job, array in done:
                self.console.print(f"queued {job}: {array.name}, {pluralize(len(array.tasks))}", soft_wrap=True)
            if not done:
                self.console.print("Everything that is left to do is queued already.", soft_wrap=True)
            self.console.print(f"Status: {self._command('bench.status')}", soft_wrap=True)
        self.console.print(self._report(), soft_wrap=True)
        return wrong

    def _check_device(self, found: list[BenchWave]) -> None:
        # What is queued runs on other machines.
        if self.launcher != "slurm":
            preflight.check_device(unfinished(found), self.path)

    def _show(self, found: list[BenchWave]) -> None:
        """The table of what is left of the waves; ValueError where it takes longer than the user allows."""
        known = estimate.rates(self.place.runs, self.speed)
        forecast.show(self.console, self.manifest, found, self.speed, known, self.most)

    def _speed(self, device: str | None) -> devices.Speed:
        """The device that times are estimated for: the one asked for, the profile's, or this machine's."""
        if device is not None:
            return devices.speed(device)
        if self.launcher != "slurm":
            return devices.here()
        profile = self.profile
        return devices.speed(profile.device, gpu=profile.gpus_per_rank > 0, stated=profile.tflops)

    def _command(self, module: str) -> str:
        runs, quick = self.place.runs, ["--quick"] if self.manifest.quick else []
        folder = ["--runs", runs] if runs != Path("runs").absolute() else []
        return invocation(module, self.path, *quick, *set_options(self.overrides), *folder)

    def _report(self) -> str:
        return f"Report: {self._command('reports')}"
