"""Generate the robust dataset that an RDT cell trains on from its teacher's features, in a job before the training."""

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from bench.build.networks import trained
from bench.build.robust_dataset import chunks, dataset, folder
from bench.cell import Cell, Weights
from bench.jobs.lease import JobPaths, RecordLease, take_lease
from bench.jobs.progress import Progress
from bench.measure.provenance import start
from bench.measure.timer import Timer
from bench.records import End, Replaced, RobustChunk
from crt import distributed
from crt.attacks.robust_images import robustify
from crt.data import digest as file_digest
from crt.data.beton_file import Beton, ensure
from crt.data.beton_file import write as write_beton
from crt.disk import read_note, replacing
from crt.sealed import DamagedError, reading, writing
from crt.text import printable


def robust_images(cell: Cell, runs: Path) -> Path:
    """Folder of the cell's robust dataset; ValueError where it is missing or comes from another teacher."""
    path = folder(cell, runs)
    note = path / "made.json"
    if not note.exists():
        raise ValueError(f"{path}: missing, so its images were not made to the end (submit again to make them)")
    made, now = _made_with(note), _digest(cell, runs)
    if made != now:
        raise ValueError(
            f"{path}: made with a teacher of SHA-256 {made[:12]}, {_teacher(cell).id} has {now[:12]} now (remove it,"
            " and it is made again)"
        )
    file = dataset(cell).path("train", path)
    remedy = f"(remove {note} and submit again, and its chunks are joined anew)"
    if not file.exists():
        raise ValueError(f"{file}: missing {remedy}")
    try:
        file_digest.check(file)
    except DamagedError as error:
        raise ValueError(f"{error} {remedy}") from None
    return path


def _made_with(note: Path) -> str:
    """SHA-256 of the teacher that a dataset was made with."""
    try:
        return str(json.loads(read_note(note))["teacher"])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ValueError(f"{note}: damaged (remove it and submit again, and the dataset is joined anew)") from None


def run_robustify(cell: Cell, shard: int, shards: int, place: JobPaths) -> None:
    """Generate every `shards`-th chunk from `shard` on, divided among the ranks.

    The task that completes the dataset writes its file.
    """
    part, parts = shard * distributed.world_size() + distributed.rank(), shards * distributed.world_size()
    home, firsts = folder(cell, place.runs), chunks(cell)
    with take_lease(home / f"{part}of{parts}.jsonl", place) as lease:
        lease.append(start((cell,), place.process, cell.seed))
        left = [first for first in firsts[part::parts] if not _is_whole(cell, home, first, lease)]
        if left:
            _make(cell, place, left, lease)
        distributed.barrier()
        if distributed.rank() == 0 and all((home / f"part-{first}.npz").exists() for first in firsts):
            _join(cell, place, firsts)
        lease.append(End(time=time.time()))


def _make(cell: Cell, place: JobPaths, left: list[int], lease: RecordLease) -> None:
    home, args = folder(cell, place.runs), cell.method.args
    teacher = trained(_teacher(cell), place.runs).eval()
    images = Beton(ensure(cell.data, "train", place.images(cell, "train")))
    count = dataset(cell).train_images
    with Progress(f"{_teacher(cell).id} {cell.robust}", len(left), 0, "chunk") as progress:
        for first in left:
            chosen = np.asarray(_chosen(cell, first))
            starts = np.random.default_rng((cell.seed, first)).integers(0, count, len(chosen))
            # Ranks do not wait for each other: each has its own chunks, and some have one fewer.
            with Timer(alone=True) as timer:
                robust, distances = robustify(
                    teacher, _pixels(images, chosen), _pixels(images, starts), args["steps"], args["step"]
                )
                content = robust.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            distance = float(distances.mean())
            with lease.held():
                with writing(home / f"part-{first}.npz", _owner(cell)) as file:
                    np.savez(file, images=content, distance=distances.cpu().numpy())
            lease.append(RobustChunk(first=first, images=len(chosen), seconds=timer.seconds, distance=distance))
            progress.step(f"feature distance {distance:.3g}")


def _pixels(images: Beton, indices: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(images.images(indices)).to(distributed.device())
    return x.permute(0, 3, 1, 2).float().div(255).contiguous()


def _owner(cell: Cell) -> str:
    """Name of the dataset with its teacher's, which its chunks carry."""
    return f"{_teacher(cell).id}/{cell.robust}"


def _is_whole(cell: Cell, home: Path, first: int, lease: RecordLease) -> bool:
    """True if a chunk is there as it was written; a damaged one is removed with a warning, and is made again."""
    try:
        _part(cell, home, first)
        return True
    except FileNotFoundError:
        return False
    except DamagedError as error:
        (home / f"part-{first}.npz").unlink()
        text = printable(f"{error}; its images are made again")
        print(f"warning: {text}", file=sys.stderr, flush=True)
        lease.append(Replaced(time=time.time(), text=text))
        return False


def _part(cell: Cell, home: Path, first: int) -> np.ndarray:
    """Images (N, H, W, C) of a chunk; DamagedError, which names the file, where it is not as it was written."""
    path, kind = home / f"part-{first}.npz", dataset(cell)
    channels, height, width = kind.shape
    shape = (len(_chosen(cell, first)), height, width, channels)
    with reading(path, _owner(cell)) as file:
        try:
            with np.load(file) as content:
                images = np.asarray(content["images"])  # a member that is no array comes as bytes
        except OSError:
            raise
        except Exception as error:  # numpy raises many kinds of errors on bytes that are no arrays
            reason = (str(error).splitlines() or [""])[0]
            raise DamagedError(f"{path}: damaged: {type(error).__name__}: {reason}") from None
    if images.dtype != np.uint8 or images.shape != shape:
        raise DamagedError(f"{path}: damaged: images are {images.dtype} {images.shape}, not uint8 {shape}")
    return images


def _chosen(cell: Cell, first: int) -> range:
    """Indices of the images of the chunk that begins with image `first`."""
    return range(first, min(first + chunks(cell).step, dataset(cell).train_images))


def _join(cell: Cell, place: JobPaths, firsts: range) -> None:
    """Join the parts into one .beton file; each image has the label of the image whose features it imitates."""
    home, kind = folder(cell, place.runs), dataset(cell)
    images = np.concatenate(list(_parts(cell, home, firsts)))
    labels = Beton(ensure(cell.data, "train", place.images(cell, "train"))).labels[: len(images)]
    write_beton(kind, "train", home, images, labels, show=False)
    with replacing(home / "made.json", shared=True) as note:
        note.write(json.dumps({"teacher": _digest(cell, place.runs)}).encode())


def _parts(cell: Cell, home: Path, firsts: range) -> Iterator[np.ndarray]:
    for first in firsts:
        try:
            yield _part(cell, home, first)
        except DamagedError as error:
            raise ValueError(f"{error} (submit again, and its images are made again)") from None


def _digest(cell: Cell, runs: Path) -> str:
    """SHA-256 of the teacher's weights."""
    teacher = _teacher(cell)
    if isinstance(teacher, Weights):
        return teacher.sha256
    with open(runs / teacher.id / "model.pt", "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _teacher(cell: Cell) -> Cell | Weights:
    """The cell's teacher."""
    assert cell.teacher is not None  # a manifest with an RDT cell without a teacher is refused
    return cell.teacher
