"""Jobs that a campaign on checkpoints runs: trained undisturbed, interrupted, and run after a damage."""

import shutil
from pathlib import Path

EPOCHS, STOPPED = 3, 2.5
MANIFEST = f"""\
title: checkpoints
dataset: digits
pipeline: plain
loader: device
threat: {{norm: l2, sigma: 0.25}}
images: 96
evals: [Clean: {{images: 3}}]
recipe: {{epochs: {EPOCHS}, batch_size: 32, lr: 0.01}}
cells:
  - {{method: Gaussian, arch: cnn2c2f}}
  - {{method: Gaussian, arch: cnn2c2f, name: teacher, seed: 1}}
  - {{method: {{KD: {{}}}}, arch: cnn2c2f, teacher: {{cell: teacher}}}}
  - {{method: {{RDT: {{steps: 1, step: 0.5}}}}, arch: cnn2c2f, teacher: {{cell: teacher}}}}
"""
"""A cell to interrupt, a teacher, and students of its logits and of its robust dataset."""


def train_all(folder: Path) -> None:
    """Train every cell undisturbed, and interrupt the first in its last epoch."""
    home = folder / "trained"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / "m.yaml").write_text(MANIFEST)
    _run_all(home)
    _interrupt(home)


def cells_of(home: Path):
    """The cells of the manifest in a folder."""
    from bench.manifest import read_manifest

    return read_manifest(home / "m.yaml", networks=False).cells


def _place(home: Path, runs: str = "runs"):
    from bench.jobs.lease import JobPaths

    return JobPaths(runs=home / runs, data=home / "data", process="shared")


def _small_chunks() -> None:
    from bench.build import robust_dataset

    robust_dataset.CHUNK = 48


def _run_all(home: Path) -> None:
    from bench.manifest import read_manifest
    from bench.plan.waves import waves

    _small_chunks()
    for wave in waves(read_manifest(home / "m.yaml"), _place(home)):
        for job in wave.jobs:
            job.task.run()


def _interrupt(home: Path) -> None:
    """Train the first cell until the middle of its last epoch."""
    from bench.jobs.train import run_cell
    from crt.training.loop import Training

    class Killed(BaseException):
        pass

    update, left = Training._update, [STOPPED * 96 / 32]

    def counted(self, *batch):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return update(self, *batch)

    Training._update = counted
    try:
        run_cell(cells_of(home)[0], _place(home, "interrupted"))
    except Killed:
        pass


def run_job(name: str, home: Path, number: int) -> None:
    """Run the job, as a launcher does in its process."""
    from bench.command import report_errors
    from bench.jobs.evaluate import run_judge
    from bench.jobs.make_robust_dataset import run_robustify
    from bench.jobs.train import run_cell

    _small_chunks()
    cell, place = cells_of(home)[number], _place(home)
    with report_errors():
        if name == "evaluate":
            run_judge(cell, 0, 1, place)
            return
        if name == "chunks":
            run_robustify(cell, 0, 1, place)
        run_cell(cell, place)
