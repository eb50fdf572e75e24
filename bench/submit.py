"""Submit a manifest: `python -m bench.submit manifests/table4.yaml`."""

import fnmatch
import shutil
import sys
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from bench import estimate, forecast, preflight, profiles
from bench import manifest as manifests
from bench.attempt import Place
from bench.environment import check_install
from bench.names import told
from bench.plan import counted, waves
from bench.quick import FLOPS
from bench.tables import Manifest
from launchers import inline, local, slurm, states
from launchers.job import Wave, unfinished
from launchers.ledger import Ledger
from launchers.profile import Profile


class Launcher(StrEnum):
    """Where jobs run."""

    auto = "auto"
    inline = "inline"
    local = "local"
    slurm = "slurm"


app = typer.Typer(add_completion=False)

MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"


@app.command()
def main(
    manifest: Annotated[Path, typer.Argument(help="The YAML file of a table.")],
    launcher: Annotated[Launcher, typer.Option(help="auto: slurm where sbatch is found, else local.")] = Launcher.auto,
    profile: Annotated[Path | None, typer.Option(help="What Slurm is asked for (default: slurm/default.yaml).")] = None,
    runs: Annotated[Path, typer.Option(help="Where records and weights are kept.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Where the .beton files are.")] = Path("data"),
    quick: Annotated[bool, typer.Option("--quick", help="The same cells, reduced to minutes on two cores.")] = False,
    only: Annotated[str | None, typer.Option(help="Cells with this in id or label; * and ? stand for any.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only what was tried before and did not end well.")] = False,
    max_gpu_hours: Annotated[
        float | None, typer.Option(min=0, help="Submit nothing if more hours x ranks are expected.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Train, time and judge what the manifest asks for and the runs folder does not hold yet."""
    try:
        check_install()
        if launcher is Launcher.auto:
            launcher = Launcher.slurm if shutil.which("sbatch") else Launcher.local
        if profile and launcher is not Launcher.slurm:
            raise ValueError(f"--profile {profile}: of use to Slurm alone (allowed: with --launcher slurm)")
        if launcher is Launcher.slurm and not dry_run:
            # Mistakes in the manifest are told before; operations are counted after, which takes a while.
            manifests.read(manifest)
            _check_slurm()
        asked = chosen(manifests.read(manifest, quick), only)
        submission = Submission(
            asked, manifest, launcher, runs.absolute(), data.absolute(), profile, failed, max_gpu_hours
        )
        wrong = submission.dry() if dry_run else submission.launch()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        print("interrupted; submit again to go on", file=sys.stderr)
        raise typer.Exit(130) from None
    raise typer.Exit(1 if wrong else 0)


def _check_slurm() -> None:
    try:
        states.check()
    except ValueError as error:
        raise ValueError(f"{error} (allowed: --launcher local)") from None


def chosen(manifest: Manifest, pattern: str | None) -> Manifest:
    """The manifest's cells with the pattern in id or label; of a timing study, whole studies. ValueError if none."""
    if pattern is None:
        return manifest
    hit = lambda name: fnmatch.fnmatchcase(name, f"*{pattern}*")  # noqa: E731
    asked = lambda cell: hit(cell.id) or hit(cell.method.label)  # noqa: E731
    if manifest.timing:
        cells = [a for s in manifest.studies if hit(s.id) or any(map(asked, s.arms)) for a in s.arms]
    else:
        cells = [cell for cell in manifest.cells if asked(cell)]
    if not cells:
        cells = {cell.id: cell for cell in manifest.cells}
        said = told(cells)
        there = ", ".join(f"{key} ({said[key]})" if key in said else key for key in cells)
        raise ValueError(f"--only {pattern}: in no cell's id or label (there are: {there})")
    return manifest.model_copy(update={"cells": tuple(cells)})


def called(manifest: Path) -> str:
    """What its arrays' names begin with: its path under `manifests/`, for each paper may have a table1.yaml there."""
    path = manifest.resolve().with_suffix("")
    return "-".join(path.relative_to(MANIFESTS).parts) if path.is_relative_to(MANIFESTS) else path.name


class Submission:
    """One manifest on its way to a launcher."""

    def __init__(
        self,
        manifest: Manifest,
        path: Path,
        launcher: Launcher,
        runs: Path,
        data: Path,
        profile: Path | None,
        failed: bool,
        most: float | None,
    ):
        self.manifest, self.path, self.launcher, self.failed, self.most = manifest, path, launcher, failed, most
        on_slurm = launcher is Launcher.slurm
        here = Profile(tflops=estimate.GPU_TFLOPS if torch.cuda.is_available() else FLOPS / 1e12)
        self.profile = profiles.read(profile or profiles.DEFAULT) if on_slurm else here
        process = "shared" if launcher is Launcher.inline else "fresh"
        stage = self.profile.stage
        self.place = Place(runs=runs, data=data, process=process, stage=stage, submitted=time.time())
        self.ledger = Ledger(runs)
        self.console = Console() if sys.stdout.isatty() else Console(width=160)

    def plan(self) -> list[Wave]:
        """Every job, as the records are now."""
        shards = self.profile.shards if self.launcher is Launcher.slurm else None
        found = waves(self.manifest, self.place, shards, self.profile.sources)
        if not self.failed:
            return found
        tried = self.ledger.names()
        again = lambda job: job.records.exists() or job.name in tried  # noqa: E731
        return [replace(wave, jobs=tuple(filter(again, wave.jobs))) for wave in found]

    def dry(self) -> int:
        """Print cells, waves, hours and, for Slurm, the exact text for sbatch: without data, GPU or Slurm."""
        found = self.plan()
        self._show(found)
        preflight.check_data(self.manifest, self.place.data, self.profile.sources, dry=True)
        try:
            self._check_device(found)
        except ValueError as error:
            print(f"warning: {error}", file=sys.stderr)
        if self.launcher is Launcher.slurm:
            logs = self.place.runs / "logs"
            for array in slurm.arrays(called(self.path), found, self.profile, self.profile.max_array, set()):
                names = f"{array.jobs[0].name} … {array.jobs[-1].name}" if len(array.jobs) > 1 else array.jobs[0].name
                after = found[array.wave].after
                waits = f", after the jobs of {found[after].name}" if after is not None else ""
                self.console.rule(f"{found[array.wave].name}: {counted(len(array.jobs))}{waits}")
                print(f"# {names}\n{slurm.text(array, logs, self.profile)}")
        return 0

    def launch(self) -> int:
        """Hand over what is left to do; how many jobs failed. ValueError before anything runs."""
        found = self.plan()
        self._check_device(found)
        self._show(found)
        if not unfinished(found):
            self.console.print(f"Nothing left to do. {self._report()}", soft_wrap=True)
            return 0
        preflight.check_writable(self.place.runs)
        preflight.check_weights(self.manifest, self.place.runs)
        preflight.check_data(self.manifest, self.place.data, self.profile.sources, dry=False)
        logs = self.place.runs / "logs"
        wrong = 0
        if self.launcher is Launcher.inline:
            wrong = inline.launch(found)
        elif self.launcher is Launcher.local:
            wrong = local.launch(found, logs)
        else:
            done = slurm.launch(called(self.path), self.plan, logs, self.profile, self.ledger)
            for job, array in done:
                self.console.print(f"queued {job}: {array.name}, {counted(len(array.jobs))}", soft_wrap=True)
            if not done:
                self.console.print("Everything that is left to do is queued already.", soft_wrap=True)
            self.console.print(f"Status: python -m bench.status {self.path}{self._flags()}", soft_wrap=True)
        self.console.print(self._report(), soft_wrap=True)
        return wrong

    def _check_device(self, found: list[Wave]) -> None:
        # What is queued runs on other machines.
        if self.launcher is not Launcher.slurm:
            preflight.check_device(unfinished(found), self.path)

    def _show(self, found: list[Wave]) -> None:
        """The table of what is left of the waves; ValueError where it takes longer than the user allows."""
        here = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        device = self.profile.device if self.launcher is Launcher.slurm else here
        known = estimate.rates(self.place.runs, device)
        forecast.show(self.console, self.manifest, found, self.profile.tflops, known, self.most)

    def _flags(self) -> str:
        runs = self.place.runs
        return (" --quick" if self.manifest.quick else "") + (
            f" --runs {runs}" if runs != Path("runs").absolute() else ""
        )

    def _report(self) -> str:
        return f"Report: python -m reports {self.path}{self._flags()}"


if __name__ == "__main__":
    app()
