"""Digests: of archives that carry their own, and of .beton files, which are read once for each file."""

import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench.build.weights import load, save
from bench.jobs import make_robust_dataset
from bench.jobs.lease import JobPaths
from bench.jobs.train import run_cell
from bench.plan.waves import waves
from bench.records import Epoch, Fail, RobustChunk, read, read_all
from crt.data import DATASETS, digest, layout
from crt.data.beton import app
from crt.data.beton_file import Beton, ensure, write
from crt.data.sources import digits as digits_images
from crt.sealed import DamagedError

DIGITS = DATASETS["digits"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("sealed") / "checkpoint.pt"
    save(path, {"model": {"weight": torch.arange(6.0)}, "record": {"epoch": 1}}, "cell-1")
    return path, path.read_bytes()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(place=st.floats(0, 1), bits=st.integers(1, 255))
@example(place=1.0, bits=1)
def test_any_flipped_byte_is_noticed(checkpoint, place, bits):
    path, content = checkpoint
    damaged = bytearray(content)
    damaged[round(place * (len(content) - 1))] ^= bits
    path.write_bytes(damaged)
    with pytest.raises(DamagedError, match=str(path)):
        load(path, "cell-1")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(length=st.integers(0, 2000), more=st.binary(max_size=100))
def test_any_other_length_is_noticed(checkpoint, length, more):
    path, content = checkpoint
    damaged = content[:length] if length < len(content) else content + (more or b"\0")
    path.write_bytes(damaged)
    with pytest.raises(DamagedError, match=str(path)):
        load(path, "cell-1")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(content=st.binary(max_size=300))
@example(content=b"PK\5\6" + bytes(18))
def test_bytes_that_are_no_archive_are_damaged(checkpoint, content):
    path, _ = checkpoint
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=str(path)):
        load(path, "cell-1")


def beton(folder: Path) -> Path:
    """A file of the digits' test images, with its digest."""
    write(DIGITS, "test", folder, *digits_images("test"), show=False)
    return DIGITS.path("test", folder)


def flip(place: Callable[[Path], int]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        offset = place(path)
        with open(path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))

    return damage


ROWS = layout.HEADER.itemsize + len(layout.FIELDS) * layout.FIELD.itemsize
BETONS = {
    "version": flip(lambda path: 0),
    "number of images": flip(lambda path: layout.HEADER.fields["images"][1]),
    "field's name": flip(lambda path: layout.HEADER.itemsize + layout.FIELD.fields["name"][1]),
    "field's arguments": flip(lambda path: layout.HEADER.itemsize + layout.FIELD.fields["arguments"][1] + 50),
    "height": flip(lambda path: ROWS + 3),
    "label": flip(lambda path: ROWS + 5 * layout.ROW.itemsize + layout.ROW.fields["label"][1]),
    "pixel": flip(lambda path: layout.start(DIGITS.test_images) + 100_000),
    "allocation": flip(lambda path: path.stat().st_size - 1),
    "cut off": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 1),
    "empty": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("damage", BETONS)
def test_damaged_beton_file_is_refused_by_name_and_by_command(damage, tmp_path):
    path = beton(tmp_path)
    assert ensure(DIGITS, "test", tmp_path) == path
    BETONS[damage](path)
    with pytest.raises(ValueError) as refused:
        ensure(DIGITS, "test", tmp_path)
    assert str(path) in str(refused.value)
    done = CliRunner().invoke(app, ["verify", str(path)])
    assert done.exit_code == 2 and done.stderr.startswith(f"error: {path}: ") and done.stderr.count("\n") == 1


def put(dtype: np.dtype, field: str, value: int, row: int = 3) -> Callable[[Path], None]:
    """Put a number into the header, one row of the table of images, or of the table of allocations at the end."""

    def damage(path: Path) -> None:
        header = np.fromfile(path, layout.HEADER, 1)[0]
        start, size = {
            layout.HEADER: (0, 0),
            layout.ALLOCATION: (int(header["table"]), layout.ALLOCATION.itemsize),
        }.get(dtype, (ROWS, layout.ROW.itemsize))
        kind, offset = dtype.fields[field][:2]
        content = bytearray(path.read_bytes())
        place = start + row * size + offset
        content[place : place + kind.itemsize] = value.to_bytes(kind.itemsize, "little")
        path.write_bytes(content)

    return damage


WITHOUT_DIGEST = {
    "a label that is no class": put(layout.ROW, "label", 10),
    "a negative label": put(layout.ROW, "label", 2**64 - 1),
    "an image's number": put(layout.ROW, "index", 4),
    "a pointer whose end has more than 63 bits": put(layout.IMAGE, "pointer", 2**63 - 1),
    "a pointer to another place of the file": put(layout.IMAGE, "pointer", 0),
    "an allocation of another pointer": put(layout.ALLOCATION, "pointer", 12),
    "an allocation of another image": put(layout.ALLOCATION, "image", 4),
    "an allocation of no image": put(layout.ALLOCATION, "image", 2**63),
    "a longer image": put(layout.ALLOCATION, "size", 3073),
    "a size of more than 63 bits": put(layout.ALLOCATION, "size", 2**64 - 1),
    "pages of nothing": put(layout.HEADER, "page", 0),
    "pages of no whole bits": put(layout.HEADER, "page", layout.PAGE - 1),
    "pages smaller than an image": put(layout.HEADER, "page", 2048),
}


@pytest.mark.parametrize("damage", WITHOUT_DIGEST)
def test_numbers_by_which_a_loader_would_leave_the_file_or_the_classes_are_refused(damage, tmp_path):
    path = beton(tmp_path)
    digest.sidecar(path).unlink()
    WITHOUT_DIGEST[damage](path)
    with pytest.raises(ValueError, match=r"damaged|outside") as refused:
        ensure(DIGITS, "test", tmp_path)
    assert str(refused.value).startswith(f"{path}: ")


def test_file_is_read_once_for_each_version_of_it(tmp_path, monkeypatch):
    path, reads = beton(tmp_path), []
    sha256 = digest._sha256
    monkeypatch.setattr(digest, "_sha256", lambda *args: reads.append(args) or sha256(*args))
    for _ in range(3):
        ensure(DIGITS, "test", tmp_path)
    assert not reads  # its writer remembered it
    os.utime(path)
    for _ in range(3):
        ensure(DIGITS, "test", tmp_path)
    assert len(reads) == 1


def test_unwritable_folder_is_remembered_in_the_cache_and_without_a_cache_read_again(tmp_path, monkeypatch):
    path, reads = beton(tmp_path / "data"), []
    stamp = tmp_path / "data" / f".{path.name}.checked"
    stamp.unlink()
    stamp.mkdir()  # nobody can write a file over it
    (stamp / "x").touch()
    sha256 = digest._sha256
    monkeypatch.setattr(digest, "_sha256", lambda *args: reads.append(args) or sha256(*args))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        ensure(DIGITS, "test", tmp_path / "data")
    assert len(reads) == 1
    (tmp_path / "blocked").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
    for _ in range(2):
        ensure(DIGITS, "test", tmp_path / "data")
    assert len(reads) == 3


def test_file_without_digest_is_used_and_verify_says_how_to_add_one(tmp_path):
    path = beton(tmp_path)
    digest.sidecar(path).unlink()
    assert ensure(DIGITS, "test", tmp_path) == path
    done = CliRunner().invoke(app, ["verify", str(tmp_path)])
    assert done.exit_code == 0 and "no digest" in done.stdout
    add = done.stdout.partition("add one: ")[2].strip().removesuffix(")")
    subprocess.run(add, shell=True, check=True)
    done = CliRunner().invoke(app, ["verify", str(tmp_path)])
    assert done.exit_code == 0 and "whole, 360 images" in done.stdout
    BETONS["pixel"](path)
    with pytest.raises(ValueError, match="damaged: its SHA-256"):
        ensure(DIGITS, "test", tmp_path)


def test_digest_is_that_of_sha256sum(tmp_path):
    path = beton(tmp_path)
    subprocess.run(["sha256sum", "--check", "--quiet", digest.sidecar(path).name], cwd=tmp_path, check=True)
    digest.sidecar(path).write_text("")
    done = CliRunner().invoke(app, ["verify", str(path)])
    assert done.exit_code == 2 and f"{digest.sidecar(path)}: '' is no SHA-256" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify"], "PATH: missing"),
        (["verify", "absent.beton"], "absent.beton: no such file"),
        (["cifar10", "more"], "more: unexpected"),
    ],
)
def test_mistakes_in_the_command(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.fixture
def student(tiny, digits, tmp_path, monkeypatch):
    """An RDT cell whose robust dataset is made of three chunks."""
    monkeypatch.setattr("bench.build.robust_dataset.CHUNK", 48)
    teacher = "{arch: cnn2c2f, method: Standard, recipe: *r}"
    manifest = tiny(method="{RDT: {steps: 1, step: 0.5}}", loader="device", teacher=teacher, epochs=1)
    at = JobPaths(runs=tmp_path / "runs", data=digits, process="shared")
    run_cell(manifest.cells[0].teacher, at)
    make_robust_dataset.run_robustify(manifest.cells[0], 0, 1, at)
    return manifest, at, make_robust_dataset.folder(manifest.cells[0], at.runs)


def saved(**arrays) -> Callable[[Path], None]:
    """Replace a chunk by an archive without a digest, as earlier versions wrote."""
    return lambda path: np.savez(path, **arrays)


def no_array(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"print(1)")


CHUNKS = {
    "a bit": (flip(lambda path: path.stat().st_size // 2), "SHA-256"),
    "no images": (saved(other=np.zeros(3)), "images"),
    "other shape": (saved(images=np.zeros((47, 8, 8, 1), np.uint8)), r"not uint8 \(48, "),
    "other numbers": (saved(images=np.zeros((48, 8, 8, 1))), "float64"),
    "objects": (saved(images=np.array([print], object)), "allow_pickle"),
    "no array": (no_array, "images"),
    "no archive": (lambda path: path.write_bytes(b"\x93NUMPY"), "cut off"),
}


@pytest.mark.parametrize("damage", CHUNKS)
def test_damaged_chunk_of_a_robust_dataset_is_made_again(damage, student, capfd):
    manifest, at, home = student
    (cell,), file = manifest.cells, home / "digits-train.beton"
    whole, part = file.read_bytes(), home / "part-48.npz"
    make, words = CHUNKS[damage]
    make(part)
    (home / "made.json").unlink()
    with pytest.raises(ValueError, match=rf"part-48\.npz: damaged.*{words}.*submit again"):
        make_robust_dataset._join(cell, at, make_robust_dataset.chunks(cell))
    make_robust_dataset.run_robustify(cell, 0, 1, at)
    assert f"warning: {part}: damaged" in capfd.readouterr().err
    assert file.read_bytes() == whole
    assert [r.first for r in read_all(home) if isinstance(r, RobustChunk)] == [0, 48, 96, 48]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_notes_that_never_end_are_refused(make, student):
    manifest, at, home = student
    (cell,), file = manifest.cells, home / "digits-train.beton"
    for note in (home / "made.json", digest.sidecar(file)):
        content = note.read_bytes()
        note.unlink()
        make(note)
        with pytest.raises(ValueError) as refused:
            make_robust_dataset.robust_images(cell, at.runs)
        assert str(refused.value).startswith(f"{note}: ")
        note.unlink()
        note.write_bytes(content)
    stamp = file.with_name(f".{file.name}.checked")
    stamp.unlink()
    make(stamp)
    assert make_robust_dataset.robust_images(cell, at.runs) == home


def test_a_directory_in_place_of_a_note_is_named(student):
    manifest, at, home = student
    for note in (home / "made.json", digest.sidecar(home / "digits-train.beton")):
        content = note.read_bytes()
        note.unlink()
        note.mkdir()
        with pytest.raises(IsADirectoryError) as refused:
            make_robust_dataset.robust_images(manifest.cells[0], at.runs)
        assert refused.value.filename == str(note)
        note.rmdir()
        note.write_bytes(content)


@pytest.mark.parametrize("damage", ["pixel", "missing", "note"])
def test_student_does_not_train_on_a_damaged_robust_dataset(damage, student):
    manifest, at, home = student
    (cell,), file, note = manifest.cells, home / "digits-train.beton", home / "made.json"
    whole = file.read_bytes()
    if damage == "pixel":
        flip(lambda path: layout.start(128) + 1000)(file)
    elif damage == "missing":
        file.unlink()
    else:
        note.write_text('["teacher"')
    with pytest.raises(ValueError, match=f"remove {'it' if damage == 'note' else note} and submit again") as refused:
        run_cell(cell, at)
    assert str(refused.value).startswith(str(note if damage == "note" else file))
    records = read(at.runs / cell.id / "train.jsonl")
    assert isinstance(records[-1], Fail) and not any(isinstance(r, Epoch) for r in records)
    note.unlink()
    for wave in waves(manifest, at):
        for job in wave.jobs:
            if not job.progress.finished:
                job.task.run()
    assert file.read_bytes() == whole and (at.runs / cell.id / "model.pt").exists()


def test_chunks_of_earlier_versions_are_joined(student):
    manifest, at, home = student
    (cell,) = manifest.cells
    whole = Beton(home / "digits-train.beton").images(range(128))
    for part in home.glob("part-*.npz"):
        with np.load(part) as content:
            arrays = dict(content)
        np.savez(part, **arrays)
    (home / "made.json").unlink()
    make_robust_dataset.run_robustify(cell, 0, 1, at)
    assert np.array_equal(Beton(home / "digits-train.beton").images(range(128)), whole)
