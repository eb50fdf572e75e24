"""Make the robust dataset that an RDT cell trains on: a job before its training, on the features of its teacher."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from bench.build.networks import trained
from bench.build.robust_dataset import chunks, dataset, folder
from bench.cell import Cell
from bench.jobs.lease import JobPaths, RecordLease, attempt, write
from bench.jobs.progress import Progress
from bench.measure.provenance import start
from bench.measure.timer import Timer
from bench.records import End, RobustChunk
from crt import distributed
from crt.attacks.robust_images import robustify
from crt.data import DATASETS
from crt.data.beton_file import Beton, ensure
from crt.data.beton_file import write as write_beton


def robust_images(cell: Cell, runs: Path) -> Path:
    """The folder of the cell's robust dataset; ValueError where it is missing or comes from another teacher."""
    path = folder(cell, runs)
    note = path / "made.json"
    if not note.exists():
        raise ValueError(f"{path}: missing, so its images were not made to the end (submit again to make them)")
    made, now = json.loads(note.read_text(encoding="utf-8"))["teacher"], _digest(cell, runs)
    if made != now:
        raise ValueError(
            f"{path}: made with a teacher of SHA-256 {made[:12]}, {cell.teacher.id} has {now[:12]} now (remove it, and"
            " it is made again)"
        )
    return path


def run_robustify(cell: Cell, shard: int, shards: int, place: JobPaths) -> None:
    """Make every `shards`-th chunk from `shard` on, spread over the ranks; whoever makes the last writes the file."""
    part, parts = shard * distributed.world_size() + distributed.rank(), shards * distributed.world_size()
    home, firsts = folder(cell, place.runs), chunks(cell)
    with attempt(home / f"{part}of{parts}.jsonl", place) as claim:
        claim.append(start((cell,), place.process, cell.seed))
        left = [first for first in firsts[part::parts] if not (home / f"part-{first}.npz").exists()]
        if left:
            _make(cell, place, left, claim)
        distributed.barrier()
        if distributed.rank() == 0 and all((home / f"part-{first}.npz").exists() for first in firsts):
            _join(cell, place, firsts)
        claim.append(End(time=time.time()))


def _make(cell: Cell, place: JobPaths, left: list[int], claim: RecordLease) -> None:
    home, args = folder(cell, place.runs), cell.method.args
    teacher = trained(cell.teacher, place.runs).eval()
    images = Beton(ensure(DATASETS[cell.dataset], "train", place.images(cell, "train")))
    count, size = dataset(cell).train_images, chunks(cell).step
    with Progress(f"{cell.teacher.id} {cell.robust}", len(left), 0, "chunk") as progress:
        for first in left:
            chosen = np.arange(first, min(first + size, count))
            others = np.random.default_rng((cell.seed, first)).integers(0, count, len(chosen))
            # Each rank has chunks of its own, and may have one fewer: nobody is waited for.
            with Timer(alone=True) as timer:
                made, apart = robustify(
                    teacher, _pixels(images, chosen), _pixels(images, others), args["steps"], args["step"]
                )
                content = made.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            with claim.held():
                _save(home / f"part-{first}.npz", images=content, distance=apart.cpu().numpy())
            claim.append(
                RobustChunk(first=first, images=len(chosen), seconds=timer.seconds, distance=float(apart.mean()))
            )
            progress.step(f"feature distance {float(apart.mean()):.3g}")


def _pixels(images: Beton, indices: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(images.images(indices)).to(distributed.device())
    return x.permute(0, 3, 1, 2).float().div(255).contiguous()


def _save(path: Path, **arrays: np.ndarray) -> None:
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        np.savez(file, **arrays)
    part.replace(path)


def _join(cell: Cell, place: JobPaths, firsts: range) -> None:
    """The parts as one .beton file, with the labels of the images whose features they have."""
    home, kind = folder(cell, place.runs), dataset(cell)
    images = np.concatenate(list(_parts(home, firsts)))
    labels = Beton(ensure(DATASETS[cell.dataset], "train", place.images(cell, "train"))).labels[: len(images)]
    write_beton(kind, "train", home, images, labels, show=False)
    write(home / "made.json", json.dumps({"teacher": _digest(cell, place.runs)}).encode())


def _parts(home: Path, firsts: range) -> Iterator[np.ndarray]:
    for first in firsts:
        with np.load(home / f"part-{first}.npz") as part:
            yield part["images"]


def _digest(cell: Cell, runs: Path) -> str:
    """Of the teacher's weights."""
    if not isinstance(cell.teacher, Cell):
        return cell.teacher.sha256
    with open(runs / cell.teacher.id / "model.pt", "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
