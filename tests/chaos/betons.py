"""Damaged .beton files: refused by name before training, told by `verify`, or read as they were; nothing crashes."""

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crt.data import DATASETS, layout
from tests.chaos import child
from tests.chaos.damage import BYTES
from tests.chaos.kind import Kind, Outcome

DIGITS = DATASETS["digits"]
IMAGES = 64
"""Number of images that a loader reads."""
_ROWS = layout.HEADER.itemsize + len(layout.FIELDS) * layout.FIELD.itemsize
_NUMBERS = (0, 1, 2, 255, 2**16 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)


def prepare(folder: Path) -> None:
    """Write the digits' files."""
    torch.set_num_threads(1)
    whole = folder / "whole"
    if not whole.exists():
        part = folder / "whole.part"
        shutil.rmtree(part, ignore_errors=True)
        _ensure(part)
        part.rename(whole)
    import ffcv.loader  # noqa: F401


def attempt(folder: Path, seed: int) -> list[Outcome]:
    """Damage a file, with its digest or without, and read it by each loader."""
    rng = random.Random(f"betons {seed}")
    home = folder / "betons" / f"{seed}"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(folder / "whole", home)
    path = DIGITS.path("train", home)
    sealed = rng.random() < 0.3
    content = path.read_bytes()
    change = rng.choice((_byte, _header, _field, _row, _row, _table, _table, _pixels))
    changed, tried = change(rng, content)
    path.write_bytes(changed)
    sidecar = path.with_name(f"{path.name}.sha256")
    if not sealed:
        sidecar.unlink()
    elif rng.random() < 0.3:
        sidecar.write_bytes(rng.choice(BYTES)(rng, sidecar.read_bytes())[0])
        tried += ", and its digest"
    try:
        return [
            child.outcome(
                f"{tried}{'' if sealed else ', without digest'}",
                _broken(home, path, content, sealed, change is not _pixels),
            )
        ]
    finally:
        shutil.rmtree(home, ignore_errors=True)


KIND = Kind(
    "betons",
    "a damaged .beton file is refused by name before training or told by verify; no process crashes",
    200,
    prepare,
    attempt,
    None,  # an attempt has one damage
)


def _broken(home: Path, path: Path, content: bytes, sealed: bool, structure: bool) -> str:
    found = child.run(lambda: _command(_ensure, home))
    if found.code:
        return found.refusal(str(path))
    verified = child.run(lambda: _verify(path))
    if wrong := verified.crash():
        return f"verify: {wrong}"
    if sealed and path.read_bytes() != content and not verified.code:
        return "neither refused nor told by verify"
    # Without a digest, other pixels and labels cannot be told; reading them must end well all the same.
    # FFCV compiles a loader for seconds, and other pixels take no other way through it.
    for loader in ("device", "torch", "ffcv") if structure else ("device",):
        made = home / "read.npz"
        read = child.run(lambda: _command(_save, loader, home, made), seconds=240)  # noqa: B023
        if wrong := read.crash() or (read.code and read.refusal(str(path))):
            return f"{loader}: {wrong}"
        if read.code == 0:
            with np.load(made) as arrays:
                if not ((arrays["label"] >= 0) & (arrays["label"] < len(DIGITS.classes))).all():
                    return f"{loader}: labels outside the classes"
                if sorted(arrays["index"].tolist()) != list(range(IMAGES)):
                    return f"{loader}: indices {sorted(arrays['index'].tolist())[:5]} …"
    return ""


def _command(function: Callable[..., Any], *arguments: Any) -> None:
    from bench.command import report_errors

    with report_errors():
        function(*arguments)


def _ensure(home: Path) -> None:
    from crt.data.beton_file import ensure

    ensure(DIGITS, "train", home)


def _verify(path: Path) -> None:
    from crt.data.beton import app

    app(["verify", str(path)])


def _save(loader: str, home: Path, made: Path) -> None:
    np.savez(made, **_read(loader, home))


def _read(kind: str, home: Path) -> dict[str, np.ndarray]:
    """Images, labels and indices of an epoch of the first images."""
    from crt.data.loader import loader

    loaded = loader(
        kind, DIGITS, "train", data=home, pipeline="plain", batch_size=32, device="cpu", seed=0, images=IMAGES
    )
    batches = [[tensor.numpy() for tensor in batch] for batch in loaded.batches(0)]
    loaded.close()
    return {
        name: np.concatenate(parts)
        for name, parts in zip(("image", "label", "index"), zip(*batches, strict=True), strict=True)
    }


def _byte(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    return rng.choice(BYTES)(rng, content)


def _put(rng: random.Random, content: bytes, dtype: np.dtype, start: int, name: str) -> tuple[bytes, str]:
    """The content with another number in a field of a structure that begins at `start`, or a bit of it flipped."""
    kind, offset = dtype.fields[name][:2]  # type: ignore[index]
    place, size = start + offset, kind.itemsize
    old = int.from_bytes(content[place : place + size], "little")
    new = rng.choice((*_NUMBERS, old + 1, old - 1, old ^ (1 << rng.randrange(8 * size)))) % 2 ** (8 * size)
    return content[:place] + new.to_bytes(size, "little") + content[place + size :], f"{name} {old:,} is {new:,}"


def _header(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    return _put(rng, content, layout.HEADER, 0, rng.choice(layout.HEADER.names or ()))


def _field(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """A bit of the fields' names, types or arguments flipped."""
    place = rng.randrange(layout.HEADER.itemsize, _ROWS)
    changed = content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
    return changed, f"byte {place} of the fields"


def _row(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """A number of the row of one image: its mode, sides, pointer, label or index."""
    row = rng.randrange(IMAGES)
    start = _ROWS + row * layout.ROW.itemsize
    if rng.random() < 0.4:
        changed, said = _put(rng, content, layout.ROW, start, rng.choice(("label", "index")))
    else:
        changed, said = _put(rng, content, layout.IMAGE, start, rng.choice(layout.IMAGE.names or ()))
    return changed, f"row {row}: {said}"


def _table(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """A number of one image's allocation, or two allocations exchanged."""
    (table,) = struct.unpack_from("<Q", content, layout.HEADER.fields["table"][1])  # type: ignore[index]
    row, size = rng.randrange(IMAGES), layout.ALLOCATION.itemsize
    start = table + row * size
    if rng.random() < 0.2:
        other = table + rng.randrange(IMAGES) * size
        changed = bytearray(content)
        changed[start : start + size], changed[other : other + size] = (
            content[other : other + size],
            content[start : start + size],
        )
        return bytes(changed), f"allocations {row} and {(other - table) // size} exchanged"
    changed, said = _put(rng, content, layout.ALLOCATION, start, rng.choice(layout.ALLOCATION.names or ()))
    return changed, f"allocation {row}: {said}"


def _pixels(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """A bit of the pixels flipped."""
    place = layout.start(DIGITS.train_images) + rng.randrange(IMAGES * 3 * 32 * 32)
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[
        place + 1 :
    ], f"pixel byte {place:,}"
