"""Datasets of image folders: their description, their files, their place in a cell's identity, and what is refused."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from bench.build.networks import network
from bench.cell import Cell
from bench.jobs.lease import JobPaths
from bench.manifest import read_manifest
from bench.plan.waves import waves
from bench.submit import app as submit
from crt.data import beton, image_folder
from crt.data.beton_file import Beton, ensure
from crt.data.convert import convert
from crt.data.files import Folder
from crt.data.image_folder import describe

FORMATS = {"png": {}, "bmp": {}, "jpg": {"quality": 95}, "webp": {"lossless": True}}
SIZES = [(16, 16), (24, 16), (16, 40), (31, 33)]


def make(folder: Path, train: int = 12, test: int = 4, seed: int = 0) -> Path:
    """A folder of two classes, whose images have several formats and sizes."""
    random = np.random.default_rng(seed)
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            kind = folder / split / ("cat", "dog")[number % 2]
            kind.mkdir(parents=True, exist_ok=True)
            suffix = list(FORMATS)[number % 4]
            pixels = random.integers(0, 256, (*SIZES[number // 4 % 4], 3), np.uint8)
            Image.fromarray(pixels).save(kind / f"{number:03}.{suffix}", **FORMATS[suffix])
    return folder


def manifest(path: Path, folder: Path, /, **keys) -> Path:
    dataset = json.dumps({"folder": str(folder), "size": 16, **keys})
    path.write_text(
        f"title: t\ndataset: {dataset}\nloader: torch\npipeline: plain\narch: resnet20\n"
        "recipe: {epochs: 1, batch_size: 4, lr: 0.01}\ncells: [{method: Standard}]\n"
    )
    return path


def cell(folder: Path, where: Path, /, **keys) -> Cell:
    return read_manifest(manifest(where / "folder.yaml", folder, **keys)).cells[0]


def test_constants_are_those_of_the_training_pixels_and_files_hold_every_image(tmp_path):
    folder = make(tmp_path / "my photos")
    dataset = describe(folder, 16)
    assert convert(dataset, None, tmp_path / "data") == []
    for split, count in (("train", 12), ("test", 4)):
        file = Beton(ensure(dataset, split, tmp_path / "data"))
        pixels = file.images(range(len(file)))
        assert pixels.shape == (count, 16, 16, 3) and sorted(file.labels) == [0] * (count // 2) + [1] * (count // 2)
        # An image of the right size in a lossless format is in the file as it is.
        exact = np.asarray(Image.open(folder / split / "cat/000.png"))
        assert any((exact == image).all() for image in pixels[file.labels == 0])
        if split == "train":
            assert list(file.labels) != sorted(file.labels)  # so that the first K images are of all classes
            flat = pixels.reshape(-1, 3).astype(np.float64) / 255
            assert dataset.mean == pytest.approx(flat.mean(0), abs=1e-6)
            assert dataset.std == pytest.approx(flat.std(0), abs=1e-6)
    assert (dataset.classes, dataset.train_images, dataset.test_images) == (("cat", "dog"), 12, 4)
    assert dataset.name.startswith("my-photos-16-")


def test_a_larger_image_is_resized_and_its_centre_is_cropped():
    ramp = np.tile(np.linspace(0, 250, 64).astype(np.uint8)[None, :, None], (32, 1, 3))
    small = np.asarray(image_folder.square(Image.fromarray(ramp), 16)).astype(float)
    # A ramp stays one; the middle half of its 64 columns is kept.
    expected = np.linspace(0, 250, 64).reshape(32, 2).mean(1)[8:24]
    assert small.shape == (16, 16, 3) and np.abs(small[8, :, 0] - expected).max() <= 2


def test_the_images_decide_the_identity(tmp_path):
    folder = make(tmp_path / "one" / "photos")
    first = cell(folder, tmp_path)
    copy = make(tmp_path / "two" / "photos")
    assert cell(copy, tmp_path).id == first.id  # the same images elsewhere
    changed = [cell(folder, tmp_path, size=8), cell(folder, tmp_path, flip=False)]
    other = make(tmp_path / "three" / "photos", seed=1)
    changed.append(cell(other, tmp_path))
    (copy / "test/cat/000.png").rename(copy / "test/cat/more.png")
    changed.append(cell(copy, tmp_path))
    (folder / "train/dog/001.bmp").write_bytes((folder / "train/dog/005.bmp").read_bytes())
    changed.append(cell(folder, tmp_path))
    assert len({first.id, *(each.id for each in changed)}) == 6
    assert len({first.dataset, *(each.dataset for each in changed)}) == 6
    restored = Cell.model_validate_json(first.model_dump_json())
    assert restored.id == first.id and restored.data == first.data


def test_images_are_read_once(tmp_path, monkeypatch):
    folder = make(tmp_path / "photos")
    first = describe(folder, 16)
    monkeypatch.setattr(image_folder, "decoded", None)
    assert describe(folder, 16) == first
    with pytest.raises(TypeError):
        describe(folder, 8)


def test_the_network_normalizes_with_the_folders_constants_and_counts_its_classes(tmp_path):
    of_folder = cell(make(tmp_path / "photos"), tmp_path)
    model = network(of_folder)
    assert model(torch.rand(1, 3, 16, 16)).shape == (1, 2)
    assert model.normalize.mean.flatten().tolist() == pytest.approx(of_folder.data.mean, abs=1e-6)
    assert model.normalize.std.flatten().tolist() == pytest.approx(of_folder.data.std, abs=1e-6)


def test_a_manifest_trains_on_a_folder_and_judges_its_test_images(tmp_path, monkeypatch):
    path = manifest(tmp_path / "folder.yaml", make(tmp_path / "photos"))
    place = JobPaths(runs=tmp_path / "runs", data=tmp_path / "data", process="shared", stage=None, submitted=0.0)
    (data, *_) = waves(read_manifest(path), place)
    assert [job.task.key for job in data.jobs] == [f"data/{read_manifest(path).cells[0].dataset}"]
    options = ["--launcher", "inline", "--runs", str(place.runs), "--data", str(place.data)]
    found = CliRunner().invoke(submit, [str(path), *options, "--set", "evals=[Clean]"])
    assert found.exit_code == 0, found.output
    records = (place.runs / cell(tmp_path / "photos", tmp_path).id).glob("judge-*.jsonl")
    lines = [json.loads(line) for file in records for line in file.read_text().splitlines()]
    assert sum(line["kind"] == "verdict" for line in lines) == 4
    assert not [wave for wave in waves(read_manifest(path), place) if wave.name == "data"]


def bad_image(folder: Path) -> None:
    (folder / "train/dog/001.bmp").write_bytes(b"no image")


def cut_image(folder: Path) -> None:
    file = folder / "test/cat/002.jpg"
    file.write_bytes(file.read_bytes()[:200])


def deep_image(folder: Path) -> None:
    Image.fromarray(np.full((16, 16), 60_000, np.uint16)).save(folder / "train/dog/deep.png")


def small_image(folder: Path) -> None:
    Image.new("RGB", (16, 15)).save(folder / "train/cat/small.png")


def no_train_image(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / split / "emu").mkdir()


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "train/cat/pipe.png")


REFUSED = {
    "no folder": (lambda folder: folder.rename(folder.with_name("away")), "no such folder"),
    "no test": (lambda folder: (folder / "test").rename(folder / "more"), "and no folder test (allowed: train/CLASS"),
    "a class of one split": (lambda folder: (folder / "test/emu").mkdir(), "emu: a class folder of one split alone"),
    "a class without training images": (no_train_image, "emu: no image"),
    "a broken image": (
        bad_image,
        "train/dog/001.bmp: cannot be read: no decoder knows its format",
    ),
    "an image cut off": (cut_image, "test/cat/002.jpg: cannot be read"),
    "a deep image": (deep_image, "train/dog/deep.png: an image of mode I"),
    "a pipe, which nobody writes": (pipe, "train/cat/pipe.png: a pipe or a device (allowed: a file)"),
    "a small image": (small_image, "train/cat/small.png: an image of 15x16 (allowed: at least 16x16)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_is_refused_with_the_place(name, tmp_path):
    damage, words = REFUSED[name]
    folder = make(tmp_path / "photos")
    damage(folder)
    with pytest.raises(ValueError) as error:
        cell(folder, tmp_path)
    assert words in str(error.value) and "cells[0].dataset.folder: " in str(error.value)


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({"size": 4}, "dataset.size: 4"),
        ({"size": "large"}, "dataset.size: 'large'"),
        ({"flip": 1}, "dataset.flip: 1 (allowed: true, false)"),
        ({"folder": 3}, "dataset.folder: 3 (allowed: the path of a folder"),
        ({"pad": 3}, "dataset.pad: unknown key (allowed: folder, size, flip)"),
    ],
)
def test_a_wrong_key_is_refused(keys, place, tmp_path):
    with pytest.raises(ValueError) as error:
        cell(tmp_path, tmp_path, **keys)
    assert f"cells[0].{place}" in str(error.value)


def test_pipelines_of_named_datasets_and_networks_of_other_sizes_are_refused(tmp_path):
    path = manifest(tmp_path / "folder.yaml", make(tmp_path / "photos"))
    with pytest.raises(ValueError, match=r"pipeline: 'rrm-l2' \(for cifar10, digits alone\)"):
        read_manifest(path, overrides=["pipeline=rrm-l2"])
    with pytest.raises(ValueError, match=r"arch: 'cnn2c2f' does not take images of photos-16-\w+, 3x16x16"):
        read_manifest(path, overrides=["arch=cnn2c2f"])


def test_images_that_change_after_the_manifest_was_read_are_not_written(tmp_path):
    folder = make(tmp_path / "photos")
    dataset = describe(folder, 16)
    (folder / "train/cat/000.png").unlink()
    with pytest.raises(ValueError, match=f"allowed: those of {dataset.name}"):
        convert(dataset, None, tmp_path / "data")


def test_the_command_writes_the_files_that_a_missing_one_asks_for(tmp_path):
    folder = make(tmp_path / "photos")
    dataset = describe(folder, 16, flip=False)
    with pytest.raises(ValueError) as error:
        ensure(dataset, "train", tmp_path / "data")
    words = str(error.value).split("crt.data.beton ")[1].rstrip(")").split()
    assert words[0] == "folder" and "--no-flip" in words
    found = CliRunner().invoke(beton.app, words)
    assert found.exit_code == 0 and ensure(dataset, "train", tmp_path / "data").exists()
    for missing in (["folder", "--source", str(folder)], ["folder", "--size", "16"]):
        assert CliRunner().invoke(beton.app, missing).exit_code == 2


def test_no_source_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match=f"{path}: a pipe or a device"):
            Folder(path.parent).read(path.name)


def test_a_grey_and_a_turned_image_are_read_upright_in_colour():
    grey = io.BytesIO()
    Image.fromarray(np.full((16, 16), 77, np.uint8)).save(grey, "PNG")
    assert (np.asarray(image_folder.decoded(grey.getvalue())) == 77).all()
    turned, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 16)).save(turned, "JPEG", exif=exif)
    assert image_folder.decoded(turned.getvalue()).size == (16, 20)
