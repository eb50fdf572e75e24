"""Damages to checkpoints, weights, chunks and notes."""

import os
import pickle
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from bench.build.weights import save
from tests.chaos.damage import BYTES

HOSTILE = (os.system, eval, exec)


def damage(rng: random.Random, path: Path, trained: Path, other: str, marker: Path) -> str:
    """Damage a file; the damage in words. `other` is the id of another cell, `marker` the file that a pickle makes."""
    roll = rng.random()
    if roll < 0.55 or (path.suffix != ".pt" and roll < 0.8):
        return _bytes(rng, path)
    if path.suffix == ".pt" and roll < 0.8:
        return _content(rng, path, other)
    if roll < 0.9:
        return _hostile(rng, path, marker)
    return _place(rng, path, trained, other)


def _bytes(rng: random.Random, path: Path) -> str:
    content, said = rng.choice(BYTES)(rng, path.read_bytes())
    path.write_bytes(content)
    return said


def _content(rng: random.Random, path: Path, other: str) -> str:
    """Another content, sealed again as its writer seals it, or without a digest as earlier versions wrote it."""
    saved: Any = torch.load(path, weights_only=True)
    owner = path.parent.name
    change = rng.choice(("nan", "epoch", "less", "shape", "type", "unsealed flip", "owner", "list"))
    state = saved.get("model", saved)
    name = rng.choice([key for key, value in state.items() if value.is_floating_point()])
    sealed = rng.random() < 0.5
    said = f"{change} {name}"
    if change == "nan":
        state[name] = torch.full_like(state[name], torch.nan)
        sealed = sealed and "model" in saved  # a digest vouches for weights of a training that diverged
    elif change == "epoch" and "record" in saved:
        saved["record"]["epoch"] = rng.choice((10**9, 1e9, -1, 3, "0", None, 2.5, 10**30))
        said = f"epoch {saved['record']['epoch']!r}"
    elif change == "less":
        gone = rng.choice(sorted(saved))
        del saved[gone]
        said = f"without {gone}"
    elif change == "shape":
        state[name] = torch.zeros(3)
    elif change == "type":
        state[name] = state[name].double()
    elif change == "owner":
        owner, sealed = other + "x", True
    elif change == "list":
        saved = [saved]
    else:
        torch.save(saved, path)
        return f"without digest, {_flip_member(rng, path)}"
    save(path, saved, owner) if sealed else torch.save(saved, path)
    return f"{said}, {'sealed' if sealed else 'without digest'}"


def _flip_member(rng: random.Random, path: Path) -> str:
    """Flip a bit of the content of one member of an archive."""
    with zipfile.ZipFile(path) as archive:
        member = rng.choice([info for info in archive.infolist() if info.file_size > 64])
    content = bytearray(path.read_bytes())
    start = content.find(member.filename.encode(), member.header_offset) + len(member.filename)
    at = start + rng.randrange(member.file_size)
    content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"a bit of {member.filename}"


class _Runs:
    """An object whose unpickling makes a file."""

    def __init__(self, marker: Path, function: Any):
        self.marker, self.function = marker, function

    def __reduce__(self) -> tuple:
        text = f"touch {self.marker}" if self.function is os.system else f"open({str(self.marker)!r}, 'w')"
        return self.function, (text,)


def _hostile(rng: random.Random, path: Path, marker: Path) -> str:
    """A pickle that runs something, alone, in an archive, or sealed."""
    function, form = rng.choice(HOSTILE), rng.choice(("pickle", "archive", "old archive", "sealed", "numpy"))
    runs = _Runs(marker, function)
    if form == "pickle":
        path.write_bytes(pickle.dumps({"model": runs}))
    elif form == "sealed":
        save(path, {"model": runs, "record": {}}, path.parent.name)
    elif form == "numpy":
        import numpy as np

        with open(path, "wb") as file:
            np.savez(file, images=np.array([runs], dtype=object))
    else:
        torch.save({"model": runs}, path, _use_new_zipfile_serialization=form == "archive")
    return f"{form} that runs {function.__name__}"


def _place(rng: random.Random, path: Path, trained: Path, other: str) -> str:
    """Something else in the place of the file."""
    form = rng.choice(("directory", "gone", "loop", "other cell", "older", "text", "device", "dangling"))
    path.unlink()
    if form == "directory":
        path.mkdir()
    elif form in ("loop", "dangling"):
        path.symlink_to(path.name if form == "loop" else "nowhere")
    elif form == "device":
        path.symlink_to("/dev/zero")
    elif form == "text":
        path.write_text('{"teacher": 5}')
    elif form == "other cell":
        shutil.copy(trained / "runs" / other / "model.pt", path)
    elif form == "older":
        previous = path.with_name("checkpoint-previous.pt")
        shutil.copy(previous if previous.exists() else trained / "m.yaml", path)
    return form
