"""Submit a manifest: plan its jobs, check and estimate them, and hand them to a launcher."""

import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

from bench.command import set_options
from bench.jobs.lease import JobPaths
from bench.manifest import profile as profiles
from bench.manifest import read_manifest
from bench.manifest.manifest import Manifest
from bench.manifest.quick import reduce
from bench.plan import devices, estimate, forecast, job_states, preflight
from bench.plan.distinguish import distinguish
from bench.plan.selection import chosen, manifest_name
from bench.plan.waves import BenchWave, pluralize, waves
from crt import screen
from crt.disk import naming
from crt.text import command, invocation, printable
from launchers.choose import choose
from launchers.ledger import Ledger
from launchers.profile import Profile
from launchers.task import unfinished


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
    tensorboard: Path | None,
    overrides: list[str],
    dry_run: bool,
    distinguish: float | None,
) -> int:
    """Plan a manifest's jobs and hand them to a launcher, or print them if `dry_run`.

    `distinguish` is a difference of accuracies in percentage points: a dry run prints the seeds that show it. Returns
    the number of jobs that failed on this machine. ValueError is raised before anything runs.
    """
    if device is not None and device not in devices.TABLE:
        raise ValueError(f"--device {device}: unknown (allowed: {', '.join(devices.TABLE)})")
    if profile and launcher not in ("auto", "slurm"):
        raise ValueError(f"--profile {profile}: applies to Slurm only (allowed: with --launcher slurm)")
    if distinguish is not None and not (dry_run and 0 < distinguish < 100):
        raise ValueError(f"--distinguish {distinguish:g}: (allowed: above 0 and below 100, with --dry-run)")
    parsed = read_manifest(manifest, overrides=overrides)
    if tensorboard:
        preflight.check_tensorboard(tensorboard, parsed)
    if launcher == "auto":
        launcher = choose(profile=profile is not None)
    if launcher == "slurm":
        preflight.check_paths(runs, data)
    if launcher == "slurm" and not dry_run:
        preflight.check_slurm(profile)
    if quick:
        # This counts operations, which takes a while, so it comes after the checks for errors and for Slurm.
        parsed = reduce(parsed)
    submission = Submission(
        chosen(parsed, only),
        manifest,
        launcher,
        runs.absolute(),
        data.absolute(),
        profile,
        failed,
        max_gpu_hours,
        device,
        tensorboard.absolute() if tensorboard else None,
        overrides,
    )
    return submission.dry(distinguish) if dry_run else submission.launch()


class Submission:
    """A manifest with the launcher and the options to submit it with."""

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
        tensorboard: Path | None,
        overrides: list[str],
    ):
        self.manifest, self.path, self.launcher, self.failed, self.most = manifest, path, launcher, failed, most
        self.overrides = overrides
        on_slurm = launcher == "slurm"
        self.profile = profiles.read(profile or profiles.DEFAULT) if on_slurm else Profile()
        self.speed = self._speed(device)
        process: Literal["fresh", "shared"] = "shared" if launcher == "inline" else "fresh"
        stage = self.profile.stage
        self.place = JobPaths(
            runs=runs, data=data, process=process, stage=stage, submitted=time.time(), tensorboard=tensorboard
        )
        self.ledger = Ledger(runs)
        self.console = screen.output()

    def plan(self) -> list[BenchWave]:
        """The jobs in waves, with their progress by the current records."""
        shards = self.profile.shards if self.launcher == "slurm" else None
        planned = waves(self.manifest, self.place, shards, self.profile.sources)
        if not self.failed:
            return planned
        submitted = self.ledger.names()
        tried = lambda job: job.task.records.exists() or job.task.key in submitted  # noqa: E731
        return [replace(wave, jobs=tuple(filter(tried, wave.jobs))) for wave in planned]

    def dry(self, points: float | None) -> int:
        """Print jobs, times and, for Slurm, the exact batch scripts. This needs neither data nor GPU nor Slurm.

        With `points`, print the seeds that show such a difference of accuracies, too.
        """
        planned = self.plan()
        self._show(planned)
        if points is not None:
            self._show_seeds(planned, points)
        preflight.check_data(self.manifest, self.place.data, self.profile.sources, dry=True)
        try:
            self._check_device(planned)
        except ValueError as error:
            print(f"warning: {printable(str(error))}", file=sys.stderr)
        if self.launcher == "slurm":
            from launchers import slurm  # imports submitit, which a plan for this machine does not need

            logs = self.place.runs / "logs"
            for array in slurm.arrays(manifest_name(self.path), planned, self.profile, self.profile.max_array, set()):
                first, last = array.tasks[0].key, array.tasks[-1].key
                keys = f"{first} … {last}" if len(array.tasks) > 1 else first
                after = planned[array.wave].after
                dependency = f", after the jobs of {planned[after].name}" if after is not None else ""
                self.console.rule(f"{planned[array.wave].name}: {pluralize(len(array.tasks))}{dependency}")
                print(f"# {keys}\n{slurm.text(array, logs, self.profile)}")
        return 0

    def launch(self) -> int:
        """Hand the unfinished jobs to the launcher and return how many failed; ValueError before anything runs."""
        planned = self.plan()
        self._check_device(planned)
        if unfinished(planned):
            # Counting operations comes next and takes a while, so these checks come first.
            preflight.check_writable(self.place.runs)
            preflight.check_weights(self.manifest, self.place.runs)
        self._show(planned)
        if not unfinished(planned):
            self.console.print(f"Nothing left to do. {self._report()}", soft_wrap=True)
            return 0
        preflight.check_data(self.manifest, self.place.data, self.profile.sources, dry=False)
        logs = self.place.runs / "logs"
        if self.place.tensorboard:
            self.console.print(f"Events: {command('tensorboard', '--logdir', self.place.tensorboard)}", soft_wrap=True)
        failures = 0
        if self.launcher == "inline":
            from launchers import inline

            failures = inline.launch(planned)
        elif self.launcher == "local":
            from launchers import local

            with naming(logs):
                failures = local.launch(planned, logs)
        else:
            from launchers import slurm

            with naming(logs):
                queued = slurm.launch(manifest_name(self.path), self.plan, logs, self.profile, self.ledger)
            for job, array in queued:
                self.console.print(f"queued {job}: {array.name}, {pluralize(len(array.tasks))}", soft_wrap=True)
            if not queued:
                self.console.print("Everything that is left to do is queued already.", soft_wrap=True)
            self.console.print(f"Status: {self._command('bench.status')}", soft_wrap=True)
        found, _ = job_states.states(self.manifest, self.place.runs, self.place.data, self.plan())
        for reason, count in Counter(state.reason for state in found if state.word == "held").items():
            self.console.print(f"Slurm holds {pluralize(count)}: {printable(reason)}", soft_wrap=True)
        self.console.print(f"{job_states.summary(self.manifest.cells, found)}. {self._report()}", soft_wrap=True)
        return failures

    def _check_device(self, planned: list[BenchWave]) -> None:
        # Slurm runs jobs on other machines.
        if self.launcher != "slurm":
            preflight.check_device(unfinished(planned), self.path)

    def _show(self, planned: list[BenchWave]) -> None:
        """Print the unfinished jobs; ValueError if they exceed --max-gpu-hours."""
        rates = estimate.rates(self.place.runs, self.speed)
        forecast.show(self.console, self.manifest, planned, self._summary(planned), self.speed, rates, self.most)

    def _show_seeds(self, planned: list[BenchWave], points: float) -> None:
        """Print the seeds that show a difference of `points` percentage points."""
        rates = estimate.rates(self.place.runs, self.speed)
        expect = lambda job: estimate.expected(job, self.speed, rates)  # noqa: E731
        lines = distinguish(self.manifest, planned, points, self.place.runs, self.place.data, expect, self.speed.whose)
        for line in lines:
            self.console.print(line, soft_wrap=True)

    def _summary(self, planned: list[BenchWave]) -> str:
        """Counts of the jobs by state, as `bench.status` has them."""
        found, _ = job_states.states(self.manifest, self.place.runs, self.place.data, planned)
        return job_states.summary(self.manifest.cells, found)

    def _speed(self, device: str | None) -> devices.Speed:
        """Speed to estimate times with: of --device, of the profile, or of this machine."""
        if device is not None:
            return devices.speed(device)
        if self.launcher != "slurm":
            return devices.here()
        profile = self.profile
        return devices.speed(profile.device, gpu=profile.gpus_per_rank > 0, stated=profile.tflops)

    def _command(self, module: str) -> str:
        runs, quick = self.place.runs, ["--quick"] if self.manifest.quick else []
        folder: list[str | Path] = ["--runs", runs] if runs != Path("runs").absolute() else []
        return invocation(module, self.path, *quick, *set_options(self.overrides), *folder)

    def _report(self) -> str:
        return f"Report: {self._command('reports')}"
