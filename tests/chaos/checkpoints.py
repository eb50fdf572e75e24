"""Damaged checkpoints, weights and robust datasets: training ends with the undisturbed weights, or names the file."""

import os
import random
import shutil
from pathlib import Path
from typing import NamedTuple

import torch

from tests.chaos import child
from tests.chaos.checkpoint_damage import damage
from tests.chaos.checkpoint_jobs import EPOCHS, cells_of, run_job, train_all
from tests.chaos.kind import Kind, Outcome


class _Scene(NamedTuple):
    """A job whose files are damaged before it runs."""

    cell: int
    files: tuple[str, ...]
    """Files to damage: of the cell, or of its teacher where they begin with `teacher/`."""


SCENES = {
    "resume": _Scene(0, ("checkpoint.pt", "checkpoint.pt", "checkpoint-previous.pt")),
    "evaluate": _Scene(0, ("model.pt",)),
    "student": _Scene(2, ("teacher/model.pt",)),
    "robust": _Scene(3, ("teacher/RDT/digits-train.beton", "teacher/RDT/part-0.npz", "teacher/RDT/made.json")),
    "chunks": _Scene(3, ("teacher/RDT/part-0.npz", "teacher/RDT/part-48.npz")),
}


def prepare(folder: Path) -> None:
    """Train everything once, undisturbed, and interrupt the first cell in its last epoch."""
    torch.set_num_threads(1)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    child.preload(lambda: train_all(folder), folder / "modules-checkpoints")


def attempt(folder: Path, seed: int) -> list[Outcome]:
    """Damage files of a job, and run it."""
    tried, broken = _try(folder, seed)
    return [child.outcome(tried, broken)]


KIND = Kind(
    "checkpoints",
    "a job ends with the weights of the undisturbed one, to the bit, or stops with one message that names the file",
    500,
    prepare,
    attempt,
    None,  # an attempt has one damage or two
)


def _try(folder: Path, seed: int) -> tuple[str, str]:
    rng = random.Random(f"checkpoints {seed}")
    name = rng.choice(("resume", "resume", "resume", *SCENES))
    scene, home, trained = SCENES[name], folder / "checkpoints" / f"{seed}", folder / "trained"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    cells = cells_of(trained)
    cell, marker = cells[scene.cell], home / "ran"
    _lay_out(name, trained, home, cell)
    chosen = sorted({rng.choice(scene.files) for _ in range(rng.choice((1, 1, 2)))})
    files = [_path(home / "runs", cell, file) for file in chosen]
    said = [
        f"{file}: {damage(rng, path, trained, cells[1].id, marker)}" for file, path in zip(chosen, files, strict=True)
    ]
    try:
        return f"{name}: {'; '.join(said)}", _broken(name, scene, home, trained, cell, files, marker)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _lay_out(name, trained: Path, home: Path, cell) -> None:
    """The files that the job finds."""
    shutil.copytree(trained / "data", home / "data", copy_function=os.link)
    shutil.copy(trained / "m.yaml", home)
    runs = home / "runs"
    if name == "resume":
        shutil.copytree(trained / "interrupted" / cell.id, runs / cell.id)
    elif name == "evaluate":
        shutil.copytree(trained / "runs" / cell.id, runs / cell.id, ignore=shutil.ignore_patterns("judge-*"))
    else:
        shutil.copytree(trained / "runs" / cell.teacher.id, runs / cell.teacher.id)
    if name == "chunks":
        for file in (
            *(runs / cell.teacher.id / cell.robust).glob("*.beton*"),
            runs / cell.teacher.id / cell.robust / "made.json",
        ):
            file.unlink()


def _path(runs: Path, cell, file: str) -> Path:
    if not file.startswith("teacher/"):
        return runs / cell.id / file
    return runs / cell.teacher.id / file.removeprefix("teacher/").replace("RDT/", f"{cell.robust}/")


def _broken(name: str, scene: _Scene, home: Path, trained: Path, cell, files: list[Path], marker: Path) -> str:
    ended = child.run(lambda: run_job(name, home, scene.cell), seconds=120)
    if marker.exists():
        return "a pickle ran"
    made, whole = home / "runs" / cell.id / "model.pt", trained / "runs" / cell.id / "model.pt"
    if ended.code:
        wrong = ended.refusal(*map(str, files), *(str(file.parent) for file in files))
        return wrong or ("it stopped, but left weights" if name != "evaluate" and made.exists() else "")
    if wrong := ended.crash():
        return wrong
    if name == "evaluate":
        return _verdicts(made.parent, whole.parent)
    state, expected = (torch.load(path, weights_only=True) for path in (made, whole))
    if state.keys() != expected.keys() or not all(torch.equal(state[key], expected[key]) for key in expected):
        return "it ended with other weights"
    return _epochs(made.parent)


def _epochs(folder: Path) -> str:
    from bench.records import Epoch, read

    epochs = [record.epoch for record in read(folder / "train.jsonl") if isinstance(record, Epoch)]
    return "" if epochs == list(range(EPOCHS)) else f"epochs {epochs} are recorded"


def _verdicts(made: Path, whole: Path) -> str:
    from bench.records import Verdict, read_all

    one, other = (
        [(r.eval, r.index, r.prediction, r.radius) for r in read_all(path) if isinstance(r, Verdict)]
        for path in (made, whole)
    )
    return "" if one == other else "other verdicts"
