"""CIFAR-10 as people have it: each form gives the same file, and what is something else is named for what it is."""

import errno
import io
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from crt.data import DATASETS, cifar, layout, progress
from crt.data.beton import app
from crt.data.beton_file import write

CLASSES = DATASETS["cifar10"].classes
SIZES = {"train": 50, "test": 10}
SMALL = replace(DATASETS["cifar10"], train_images=50, test_images=10, measured=None)


def content(split: str) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(len(split)).integers(0, 256, (SIZES[split], 32, 32, 3), np.uint8)
    return images, np.random.default_rng(1).permutation(np.arange(SIZES[split]) % 10)


def png(image: np.ndarray, form: str = "PNG") -> bytes:
    Image.fromarray(image).save(file := io.BytesIO(), form)
    return file.getvalue()


def batches(folder: Path, binary: bool = False, keys: Callable[[str], object] = str, **options) -> Path:
    """The batches of the python or the binary version, channels before rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]}.items():
        images, labels = content(split)
        flat = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
        for part, name in enumerate(names):
            rows = slice(part * 10, part * 10 + 10)
            if binary:
                records = np.concatenate([labels[rows, None].astype(np.uint8), flat[rows]], 1)
                (folder / f"{name}.bin").write_bytes(records.tobytes())
            else:
                batch = {keys("data"): flat[rows], keys("labels"): labels[rows].tolist(), keys("filenames"): []}
                (folder / name).write_bytes(pickle.dumps(batch, **options))
    return folder


def tree(folder: Path, classes=CLASSES, test: str = "test", suffix: str = ".png") -> Path:
    for split, name in (("train", "train"), ("test", test)):
        for row, (image, label) in enumerate(zip(*content(split), strict=True)):
            file = folder / name / classes[label] / f"{row:05}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(image, Image.registered_extensions()[suffix.lower()]))
    return folder


def tar(path: Path, folder: Path, top: str, mode: str = "w:gz") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        archive.add(folder, top)
    return path


def zipped(path: Path, folder: Path, top: str = "", only: str = "", debris: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            name = str(file.relative_to(folder))
            if file.is_file() and name.startswith(only):
                archive.write(file, top + name)
                if debris:
                    archive.writestr(f"__MACOSX/{top}{Path(name).parent}/._{file.name}", b"a resource fork")
        for name in (".DS_Store", "train/cat/Thumbs.db", "train/cat/._0.png", "train/.ipynb_checkpoints/0.png"):
            if debris:
                archive.writestr(top + name, b"debris")
    return path


def changed(folder: Path, *steps: Callable[[Path], object]) -> Path:
    for step in steps:
        step(folder)
    return folder


def linked(folder: Path) -> Path:
    tree(folder / "pool")
    (folder / "cifar").mkdir()
    (folder / "cifar" / "train").symlink_to("../pool/train")
    for kind in CLASSES:
        (folder / "cifar" / "test").mkdir(exist_ok=True)
        (folder / "cifar" / "test" / kind).symlink_to(folder / "pool" / "test" / kind)
    return folder / "cifar"


def hidden_files(folder: Path) -> Path:
    tree(folder)
    for name in (".DS_Store", "train/.DS_Store", "train/cat/._0.png", "train/cat/Thumbs.db", "test/labels.txt"):
        (folder / name).write_bytes(b"debris")
    (folder / "train" / "__MACOSX").mkdir()
    return folder


def kept_archive(folder: Path) -> Path:
    """torchvision's folder, in which the archive was cut off after it was unpacked."""
    batches(folder / "cifar-10-batches-py")
    (folder / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b half")
    (folder / "cifar-100-python").mkdir()
    (folder / "imagenet" / "train" / "n01440764").mkdir(parents=True)
    return folder


TAKEN: dict[str, Callable[[Path], Path]] = {
    "python version": lambda at: batches(at / "cifar-10-batches-py", protocol=2),
    "python version, renamed": lambda at: batches(at / "data"),
    "python version, keys of bytes": lambda at: batches(at / "b", keys=str.encode, protocol=4),
    "python version, protocol 5": lambda at: batches(at / "b", protocol=5),
    "torchvision's folder": lambda at: batches(at / "cifar-10-batches-py").parent,
    "torchvision's folder among others": kept_archive,
    "a folder above it": lambda at: batches(at / "CIFAR10" / "cifar-10-batches-py").parent.parent,
    "python tar.gz": lambda at: tar(at / "c.tar.gz", batches(at / "b"), "cifar-10-batches-py"),
    "python tar.gz in a folder": lambda at: (
        tar(at / "d" / "cifar-10-python.tar.gz", batches(at / "b"), "cifar-10-batches-py").parent
    ),
    "python tar": lambda at: tar(at / "c.tar", batches(at / "b"), "cifar-10-batches-py", "w"),
    "python zip in a folder": lambda at: (
        zipped(at / "z" / "archive.zip", batches(at / "b" / "cifar-10-batches-py").parent).parent
    ),
    "binary version": lambda at: batches(at / "cifar-10-batches-bin", binary=True),
    "binary version's parent": lambda at: batches(at / "cifar-10-batches-bin", binary=True).parent,
    "binary tar.gz": lambda at: tar(at / "c.tgz", batches(at / "b", binary=True), "cifar-10-batches-bin"),
    "tree": lambda at: tree(at / "tree"),
    "tree of upper-case suffixes": lambda at: tree(at / "tree", suffix=".PNG"),
    "tree of bitmaps": lambda at: tree(at / "tree", suffix=".bmp"),
    "tree of numbers": lambda at: tree(at / "tree", classes="0123456789"),
    "tree with val": lambda at: tree(at / "tree", test="val"),
    "tree with validation": lambda at: tree(at / "tree", test="validation"),
    "tree below": lambda at: tree(at / "cifar10").parent,
    "tree of links": linked,
    "tree with hidden files": hidden_files,
    "tree under an odd name": lambda at: tree(at / 'it\'s "my" [data]\nñ {}'),
    "tree in a tgz": lambda at: tar(at / "cifar10.tgz", tree(at / "tree"), "cifar10"),
    "zip": lambda at: zipped(at / "c.zip", tree(at / "tree")),
    "zip with a folder and debris": lambda at: zipped(at / "c.zip", tree(at / "t"), "cifar10/", debris=True),
    "zips in a folder": lambda at: changed(
        at / "z",
        lambda folder: zipped(folder / "a.zip", tree(at / "t"), only="train"),
        lambda folder: zipped(folder / "b.zip", at / "t", only="test"),
    ),
    "zip of test beside train": lambda at: changed(
        tree(at),
        lambda folder: zipped(folder / "test.zip", folder, only="test"),
        lambda folder: shutil.rmtree(folder / "test"),
    ),
}


@pytest.fixture
def small(monkeypatch, tmp_path) -> Path:
    """Sixty images are CIFAR-10; the folder of what is written of them."""
    monkeypatch.setitem(DATASETS, "cifar10", SMALL)
    monkeypatch.setattr(layout, "PAGE", 2**15)
    monkeypatch.setattr(progress, "SECONDS", float("inf"))
    for split in SIZES:
        write(SMALL, split, tmp_path / "expected", *content(split), show=False)
    return tmp_path


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["cifar10", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


@pytest.mark.parametrize("form", TAKEN)
def test_every_form_gives_the_same_files(form, small):
    source = TAKEN[form](small / "given")
    code, said = run("--source", source, "--data", small / "data")
    assert (code, said) == (0, "")
    for name in ("cifar10-train.beton", "cifar10-test.beton"):
        assert (small / "data" / name).read_bytes() == (small / "expected" / name).read_bytes()
    assert len(list((small / "data").glob("*.beton"))) == 2


class Call:
    """A pickle of it makes a folder, where it is loaded as Python loads it."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def cut(path: Path, share: float = 0.5) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def one_more(name: str, image: bytes) -> Callable[[Path], object]:
    def step(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image)

    return step


ZIPS = ("a.zip", "b.zip")
GREY = png(np.zeros((32, 32), np.uint8))
LARGE = png(np.zeros((64, 48, 3), np.uint8))
REFUSED: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "CIFAR-100": (lambda at: changed(at, one_more("meta", b""), one_more("train", b"")), ["CIFAR-100"]),
    "CIFAR-100's parent": (lambda at: changed(at, one_more("cifar-100-python/train", b"")), ["CIFAR-100"]),
    "CIFAR-100's batch": (
        lambda at: changed(
            batches(at), one_more("data_batch_2", pickle.dumps({"data": np.zeros((1, 3072)), "fine_labels": [1]}))
        ),
        ["data_batch_2: a batch of CIFAR-100"],
    ),
    "CIFAR-100's records": (
        lambda at: changed(batches(at, binary=True), one_more("test_batch.bin", b"\0" * 3074)),
        ["test_batch.bin: 3,074 bytes", "3,073 bytes"],
    ),
    "Matlab's": (lambda at: changed(at, one_more("cifar-10-batches-mat/test_batch.mat", b"")), ["Matlab"]),
    "Kaggle's": (
        lambda at: changed(at, one_more("trainLabels.csv", b""), one_more("train/1.png", GREY)),
        ["Kaggle", "no labels"],
    ),
    "nothing": (lambda at: changed(at, Path.mkdir), ["empty", "cifar-10-batches-py"]),
    "something else": (lambda at: changed(at, one_more("song.mp3", b"")), ["song.mp3"]),
    "half a tar.gz": (
        lambda at: cut(tar(at / "cifar-10-python.tar.gz", batches(at / "b"), "b")),
        ["cifar-10-python.tar.gz: gzip, cut off", "fetch it again"],
    ),
    "half a tar": (lambda at: cut(tar(at / "c.tar", batches(at / "b"), "b", "w")), ["c.tar: tar, cut off"]),
    "half a zip": (lambda at: cut(zipped(at / "c.zip", tree(at / "t"))), ["c.zip: zip, cut off", "fetch it again"]),
    "a web page": (lambda at: changed(at, one_more("cifar-10-python.tar.gz", b"<!DOCTYPE html>")), ["an HTML page"]),
    "a Git LFS pointer": (
        lambda at: changed(at, one_more("c.zip", b"version https://git-lfs.github.com/spec/v1\noid")),
        ["c.zip: is a Git LFS pointer"],
    ),
    "an empty tar.gz": (lambda at: changed(at, one_more("cifar10.tar.gz", b"")), ["cifar10.tar.gz: is empty"]),
    "a missing batch": (
        lambda at: changed(batches(at), lambda folder: (folder / "data_batch_3").unlink()),
        ["data_batch_3 missing"],
    ),
    "half a batch": (lambda at: changed(batches(at), lambda f: cut(f / "data_batch_4")), ["data_batch_4: ", "bytes"]),
    "half a binary batch": (
        lambda at: changed(batches(at, binary=True), lambda f: cut(f / "data_batch_4.bin", 0.501)),
        ["data_batch_4.bin: ", "cut off", "3,073"],
    ),
    "too few records": (
        lambda at: changed(batches(at, binary=True), lambda f: cut(f / "data_batch_4.bin")),
        ["cifar10-train", "(45, 32, 32, 3)", "(50, 32, 32, 3)"],
    ),
    "a batch of floats": (
        lambda at: changed(
            batches(at), one_more("test_batch", pickle.dumps({"data": np.zeros((10, 3072)), "labels": [0] * 10}))
        ),
        ["test_batch: data of shape", "uint8"],
    ),
    "a list": (lambda at: changed(batches(at), one_more("test_batch", pickle.dumps([1, 2]))), ["test_batch: "]),
    "another set's labels": (
        lambda at: changed(tree(at), one_more("train/tiger/0.png", GREY), one_more("train/lynx/0.png", GREY)),
        ["/train: class folders of cifar10: lynx, tiger none of them", "airplane"],
    ),
    "a missing class": (
        lambda at: changed(tree(at), lambda f: shutil.rmtree(f / "test" / "deer")),
        ["/test: class folders of cifar10: deer missing"],
    ),
    "names and numbers": (
        lambda at: changed(tree(at), lambda f: (f / "train" / "cat").rename(f / "train" / "3")),
        ["3 none of them, cat missing"],
    ),
    "a missing image": (
        lambda at: changed(tree(at), lambda f: min((f / "train" / "cat").iterdir()).unlink()),
        ["/train: 49 images (allowed: 50)"],
    ),
    "no test": (lambda at: changed(tree(at), lambda f: shutil.rmtree(f / "test")), ["no test/CLASS/IMAGE"]),
    "images in no class": (
        lambda at: changed(tree(at), one_more("train/0_frog.png", GREY)),
        ["train/0_frog.png: in no class folder"],
    ),
    "images too deep": (
        lambda at: changed(tree(at), one_more("train/cat/images/0.png", GREY)),
        ["train/cat/images: ", "CLASS/IMAGE"],
    ),
    "no image among files": (
        lambda at: changed(tree(at), lambda f: shutil.rmtree(f / "train/cat"), one_more("train/cat/0.gif", b"")),
        ["train/cat/0.gif: no image", ".png"],
    ),
    "grey images": (
        lambda at: changed(tree(at), lambda f: min((f / "train/cat").iterdir()).write_bytes(GREY)),
        ["train/cat/", "greyscale", "RGB"],
    ),
    "a large image": (
        lambda at: changed(tree(at), lambda f: min((f / "train/cat").iterdir()).write_bytes(LARGE)),
        ["train/cat/", "64x48", "32x32"],
    ),
    "a broken image": (
        lambda at: changed(tree(at), lambda f: cut(min((f / "test/cat").iterdir()))),
        ["test/cat/", "cannot be read"],
    ),
    "an image twice in zips": (
        lambda at: changed(at / "z", *(lambda z, name=name: zipped(z / name, tree(at / "t")) for name in ZIPS)),
        ["a.zip and ", "b.zip: t", "twice"],
    ),
    "a link to nothing": (
        lambda at: changed(tree(at), lambda f: (f / "train/cat/9.png").symlink_to("gone.png")),
        ["train/cat/9.png: a link to gone.png"],
    ),
    "two trees in a zip": (
        lambda at: zipped(at / "c.zip", changed(tree(at / "t" / "a").parent, lambda f: tree(f / "b"))),
        ["a/train: b/train is there too"],
    ),
    "a locked zip": (
        lambda at: changed(at, one_more("c.zip", locked_zip(at))),
        ["cannot be read", "encrypted"],
    ),
}


def locked_zip(at: Path) -> bytes:
    """A zip that says of each member that it is encrypted."""
    found = bytearray(zipped(at / "t.zip", tree(at / "t")).read_bytes())
    (at / "t.zip").unlink()
    shutil.rmtree(at / "t")
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := found.find(mark, start + 1)) >= 0:
            found[start + place] |= 1
    return bytes(found)


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_not_cifar10_is_named(form, small):
    build, words = REFUSED[form]
    code, said = run("--source", build(small / "given"), "--data", small / "data")
    assert code == 2 and said.count("\n") == 1 and "Traceback" not in said
    assert all(word in said for word in [*words, "allowed: "]), said
    assert not (small / "data").exists() or not list((small / "data").iterdir())


@pytest.mark.parametrize("protocol", range(6))
def test_no_pickle_runs(protocol, small):
    source = changed(
        batches(small / "given"),
        one_more("data_batch_3", pickle.dumps({"data": Call(small / "made"), "labels": []}, protocol)),
    )
    code, said = run("--source", source, "--data", small / "data")
    assert code == 2 and "data_batch_3: " in said and ".mkdir" in said
    assert not (small / "made").exists()


def published(monkeypatch) -> None:
    """Has the sixty images pass for those that are published."""
    images, _ = content("train")
    flat = images.reshape(-1, 3) / 255
    constants = tuple(flat.mean(0)), tuple(flat.std(0))
    monkeypatch.setitem(DATASETS, "cifar10", replace(SMALL, measured=constants))
    monkeypatch.setattr(cifar, "_PUBLISHED", {split: cifar.digest(*content(split)) for split in SIZES})


def test_plain_lines_where_there_is_no_terminal(small, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    code, said = run("--source", tree(small / "given"), "--data", small / "data")
    assert code == 0 and "Traceback" not in said
    for line in ("reading train: 1 of 50 images", "reading test: 10 of 10", "writing cifar10-train.beton: 50 of 50"):
        assert line in said, said


@pytest.mark.parametrize("place", ["reading", "writing"])
def test_ctrl_c_is_one_line_and_leaves_nothing(place, small, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(*{"reading": (cifar, "_decoded"), "writing": (layout, "seal")}[place], interrupted)
    code, said = run("--source", tree(small / "given"), "--data", small / "data")
    assert (code, said) == (130, "interrupted (nothing is half written)\n")
    assert not (small / "data").exists() or not list((small / "data").iterdir())


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_a_disk_that_takes_nothing_is_named(error, small, monkeypatch):
    def failing(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(layout, "seal", failing)
    code, said = run("--source", tree(small / "given"), "--data", small / "data")
    assert code == 2 and f"cifar10-train.beton: {os.strerror(error)} (allowed: " in said
    assert not list((small / "data").iterdir())


@pytest.mark.parametrize("binary", [False, True])
def test_a_changed_bit_of_the_published_files_is_found(binary, small, monkeypatch):
    published(monkeypatch)
    source = batches(small / "given", binary)
    assert run("--source", source, "--data", small / "data") == (0, "")
    file = source / ("data_batch_2.bin" if binary else "data_batch_2")
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    code, said = run("--source", source, "--data", small / "again")
    assert code == 2 and "cifar10-train: not pixel for pixel" in said and not (small / "again").exists()


def test_a_tree_of_other_pixels_is_remarked_on_and_grey_copies_are_taken(small, monkeypatch):
    images, labels = content("train")
    grey = images.copy()
    grey[7] = grey[7, :, :, :1]
    monkeypatch.setitem(content.__globals__, "content", lambda split: (grey, labels) if split == "train" else (
        np.zeros((10, 32, 32, 3), np.uint8), np.arange(10)))  # fmt: skip
    published(monkeypatch)
    source = tree(small / "given")
    file = source / "train" / CLASSES[labels[7]] / "00007.png"
    file.write_bytes(png(grey[7, :, :, 0]))  # as programs that shrink files leave it
    assert run("--source", source, "--data", small / "data") == (0, "")
    other = grey[8].copy()
    other[0, 0] ^= 1
    (source / "train" / CLASSES[labels[8]] / "00008.png").write_bytes(png(other))
    file.write_bytes(png(grey[7]))
    code, said = run("--source", source, "--data", small / "data")
    assert code == 0 and said.startswith("remark: ") and "cifar10-train: not pixel for pixel" in said
