"""CIFAR-100, SVHN and Tiny-ImageNet from copies as they are published, made small here; and what is refused."""

import hashlib
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from crt.data import DATASETS, PIPELINES, cifar100, svhn
from crt.data.beton_file import Beton, ensure
from crt.data.convert import convert

SIZES = {"train": 30, "test": 10}
TINY = replace(DATASETS["tiny_imagenet"], classes=("0", "1", "2"), train_images=30, test_images=9)
SYNSETS = ("n01443537", "n01629819", "n09193705")


def pixels(split: str) -> np.ndarray:
    return np.random.default_rng(SIZES[split]).integers(0, 256, (SIZES[split], 32, 32, 3), np.uint8)


def small(name: str):
    return replace(DATASETS[name], train_images=SIZES["train"], test_images=SIZES["test"])


def cifar100_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for split in SIZES:
        flat = pixels(split).transpose(0, 3, 1, 2).reshape(-1, 3072)
        fine = [7 * row % 100 for row in range(SIZES[split])]
        batch = {b"data": flat, b"fine_labels": fine, b"coarse_labels": [0] * len(fine), b"filenames": []}
        (folder / split).write_bytes(pickle.dumps(batch))
    return folder


def svhn_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for split in SIZES:
        labels = np.arange(SIZES[split], dtype=np.uint8)[:, None] % 10 + 1
        savemat(folder / f"{split}_32x32.mat", {"X": pixels(split).transpose(1, 2, 3, 0), "y": labels})
    return folder


def jpeg(row: int, size: int = 64) -> bytes:
    image = Image.new("L" if row % 4 == 0 else "RGB", (size, size), 5 * row if row % 4 == 0 else (5 * row, 0, 9))
    image.save(file := io.BytesIO(), "JPEG", quality=95)
    return file.getvalue()


def tiny_folder(folder: Path, sorted_val: bool = False) -> Path:
    lines = []
    for row in range(TINY.train_images):
        kind = SYNSETS[row % 3]
        file = folder / "train" / kind / "images" / f"{kind}_{row}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(row))
        (folder / "train" / kind / f"{kind}_boxes.txt").write_text("boxes")
    for row in range(TINY.test_images):
        kind = SYNSETS[2 - row % 3]
        file = folder / "val" / (kind if sorted_val else "images") / f"val_{row}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(row + 30))
        lines.append(f"val_{row}.JPEG\t{kind}\t0\t0\t62\t62")
    if not sorted_val:
        (folder / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
    (folder / "test" / "images").mkdir(parents=True)
    return folder


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Make the files of a folder those that count as published."""

    def publish(folder: Path) -> Path:
        for split in SIZES:
            for module, name in ((cifar100, split), (svhn, f"{split}_32x32.mat")):
                if (folder / name).exists():
                    md5 = hashlib.md5((folder / name).read_bytes()).hexdigest()
                    monkeypatch.setitem(module._PUBLISHED, split, md5)
        return folder

    return publish


@pytest.mark.parametrize("form", ["folder", "above", "tar", "folder of a tar"])
def test_cifar100_in_every_form(form, published, tmp_path):
    folder = source = published(cifar100_folder(tmp_path / "source" / "cifar-100-python"))
    if form != "folder":
        source = folder.parent
    if "tar" in form:
        source = tmp_path / "packed"
        source.mkdir()
        with tarfile.open(source / "cifar-100-python.tar.gz", "w:gz") as tar:
            tar.add(folder, "cifar-100-python")
        source = source / "cifar-100-python.tar.gz" if form == "tar" else source
    assert convert(small("cifar100"), source, tmp_path / "data") == []
    for split, count in SIZES.items():
        file = Beton(ensure(small("cifar100"), split, tmp_path / "data"))
        assert (file.images(range(count)) == pixels(split)).all()
        assert file.labels.tolist() == [7 * row % 100 for row in range(count)]


def test_svhn(published, tmp_path):
    source = published(svhn_folder(tmp_path / "source"))
    assert convert(small("svhn"), source, tmp_path / "data") == []
    for split, count in SIZES.items():
        file = Beton(ensure(small("svhn"), split, tmp_path / "data"))
        assert (file.images(range(count)) == pixels(split)).all()
        assert file.labels.tolist() == [(row % 10 + 1) % 10 for row in range(count)]


@pytest.mark.parametrize("form", ["folder", "above", "sorted", "zip"])
def test_tiny_imagenet_in_every_form(form, tmp_path):
    folder = tiny_folder(tmp_path / "source" / "tiny-imagenet-200", sorted_val=form == "sorted")
    source = folder.parent if form == "above" else folder
    if form == "zip":
        source = tmp_path / "tiny-imagenet-200.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder.parent))
    assert convert(TINY, source, tmp_path / "data") == []
    for split, first in (("train", 0), ("test", 30)):
        file = Beton(ensure(TINY, split, tmp_path / "data"))
        rows = {}
        for image, label in zip(file.images(range(len(file))), file.labels.tolist(), strict=True):
            row = next(
                row
                for row in range(first, first + TINY.images(split))
                if (np.asarray(Image.open(io.BytesIO(jpeg(row))).convert("RGB")) == image).all()
            )
            rows[row] = label
        expected = {row: row % 3 if split == "train" else 2 - (row - first) % 3 for row in rows}
        assert rows == expected and len(rows) == TINY.images(split)
        assert file.labels.tolist() != sorted(file.labels)


REFUSED = {
    "CIFAR-100 damaged": ("cifar100", lambda at: damage(at / "train"), "train: "),
    "CIFAR-100 of other images": ("cifar100", lambda at: None, "train: not the published file"),
    "CIFAR-100 without test": ("cifar100", lambda at: (at / "test").unlink(), "holds train (allowed: cifar-100-python"),
    "SVHN damaged": ("svhn", lambda at: damage(at / "train_32x32.mat"), "train_32x32.mat: cannot be read"),
    "SVHN of other images": ("svhn", lambda at: None, "train_32x32.mat: not the published file"),
    "SVHN without train": ("svhn", lambda at: (at / "train_32x32.mat").unlink(), "and no train_32x32.mat"),
    "Tiny-ImageNet without val": ("tiny", lambda at: (at / "val").rename(at / "away"), "and no folder val"),
    "Tiny-ImageNet without annotations": (
        "tiny",
        lambda at: (at / "val/val_annotations.txt").unlink(),
        "val: no val_annotations.txt",
    ),
    "Tiny-ImageNet with an image too few": (
        "tiny",
        lambda at: next((at / "train").rglob("*.JPEG")).unlink(),
        "29 images of train (allowed: 30)",
    ),
    "Tiny-ImageNet with a broken line": (
        "tiny",
        lambda at: (at / "val/val_annotations.txt").write_text("val_0.JPEG fish\n"),
        "val_annotations.txt:1: 'val_0.JPEG fish'",
    ),
    "Tiny-ImageNet with a line too few": (
        "tiny",
        lambda at: (at / "val/val_annotations.txt").write_text("val_0.JPEG n01443537\n"),
        "no class of val_1.JPEG",
    ),
    "Tiny-ImageNet with a broken image": (
        "tiny",
        lambda at: damage(next((at / "train").rglob("*_6.JPEG"))),
        "train: n01443537/n01443537_6.JPEG: no image of 64x64",
    ),
    "Tiny-ImageNet with an image of another size": (
        "tiny",
        lambda at: next((at / "train").rglob("*_6.JPEG")).write_bytes(jpeg(6, 63)),
        "train: n01443537/n01443537_6.JPEG: no image of 64x64",
    ),
}


def damage(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize("name", REFUSED)
def test_another_source_is_refused_by_name_and_nothing_is_written(name, tmp_path):
    kind, change, words = REFUSED[name]
    make, dataset = {
        "cifar100": (cifar100_folder, small("cifar100")),
        "svhn": (svhn_folder, small("svhn")),
        "tiny": (tiny_folder, TINY),
    }[kind]
    source = make(tmp_path / "source")
    change(source)
    with pytest.raises(ValueError) as error:
        convert(dataset, source, tmp_path / "data")
    assert words in str(error.value) and str(tmp_path) in str(error.value) and "(allowed: " in str(error.value)
    assert not list((tmp_path / "data").glob("*.beton"))


@pytest.mark.parametrize("name", ["cifar100", "svhn", "tiny_imagenet"])
def test_a_source_is_asked_for(name, tmp_path):
    with pytest.raises(ValueError, match=r"--source: missing \(allowed: a copy of"):
        convert(DATASETS[name], None, tmp_path)
    with pytest.raises(ValueError, match=f"crt.data.beton {name} --source FOLDER"):
        ensure(DATASETS[name], "train", tmp_path)


def test_pipelines_for_every_dataset_take_them():
    for name in ("cifar100", "svhn", "tiny_imagenet"):
        taking = {pipeline.name for pipeline in PIPELINES.values() if pipeline.takes(DATASETS[name])}
        assert taking == {"crt", "plain", "duet"}
        assert PIPELINES["duet"].normalization(DATASETS[name]) == ((0.0,) * 3, (1.0,) * 3)
    assert DATASETS["cifar100"].classes == tuple(sorted(DATASETS["cifar100"].classes))
    assert len(set(DATASETS["cifar100"].classes)) == 100
