"""ImageNet: trees and tars to .beton files that FFCV and Pillow read alike, whatever the images are like."""

import errno
import io
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_data import NO_FFCV
from typer.testing import CliRunner
from waiting import until

from crt.data import DATASETS, imagenet, layout
from crt.data.beton import app
from crt.data.beton_file import Beton, ensure
from crt.data.held import held
from crt.data.loader import LOADERS, epoch_order, loader

IMAGENET = DATASETS["imagenet"]
SMALL = replace(IMAGENET, classes=("0", "1", "2"), train_images=9, test_images=9)
ROOT = Path(__file__).resolve().parents[1]


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth picture, lighter to the right, redder below."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    wave = 20 * np.sin(6 * (x + y) + seed)
    return np.stack([55 + 150 * y + wave, 100 + 100 * x + wave, 60 + 80 * x + wave], -1).astype(np.uint8)


def tree(root: Path, images: dict[str, bytes], classes=SMALL.classes) -> Path:
    """Files by name, in folders of classes that may stay empty."""
    for split in ("train", "val"):
        for kind in classes:
            (root / split / kind).mkdir(parents=True)
    for name, content in images.items():
        (root / name).write_bytes(content)
    return root


def encoded(image: Image.Image | np.ndarray, form: str = "JPEG", **options) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(content := io.BytesIO(), form, **options)
    return content.getvalue()


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A data folder of nine images of three classes in each split, none as high as it is wide."""
    folder = tmp_path_factory.mktemp("imagenet")
    content = {f"{k % 3}/{k}.JPEG": encoded(scene(150 + 7 * k, 260 - 11 * k, k)) for k in range(9)}
    images = {f"{split}/{name}": file for split in ("train", "val") for name, file in content.items()}
    imagenet.convert(SMALL, tree(folder / "source", images), folder, 200, 90)
    return folder


def make(kind: str, data: Path, split: str = "train", **options):
    options = {"pipeline": "plain", "batch_size": 4, "device": "cpu", "seed": 3, **options}
    return loader(kind, SMALL, split, data=data, **options)


def whole(batches) -> list[torch.Tensor]:
    x, y, index = (torch.cat(part) for part in zip(*batches, strict=True))
    order = index.argsort()
    assert torch.equal(index[order], torch.arange(len(index)))
    return [x[order], y[order]]


def test_the_constants():
    assert (IMAGENET.shape, len(IMAGENET.classes)) == ((3, 224, 224), 1000)
    assert (IMAGENET.train_images, IMAGENET.test_images) == (1_281_167, 50_000)


def test_sides_labels_and_order(small):
    train, test = (Beton(ensure(SMALL, split, small)) for split in ("train", "test"))
    assert train.jpeg and not test.jpeg
    scales = [min(1, 200 / max(150 + 7 * k, 260 - 11 * k)) for k in range(9)]
    expected = {(round((150 + 7 * k) * scale), round((260 - 11 * k) * scale), 3) for k, scale in enumerate(scales)}
    assert {train.image(k).shape for k in range(9)} == expected and len(expected) == 9
    assert sorted(train.labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2] != list(train.labels)
    assert list(test.labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for row, k in enumerate((0, 3, 6, 1, 4, 7, 2, 5, 8)):
        original = Image.fromarray(scene(150 + 7 * k, 260 - 11 * k, k))
        scale = 256 / min(original.size)
        resized = original.resize((round(original.width * scale), round(original.height * scale)), Image.BILINEAR)
        left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
        expected = np.asarray(resized.crop((left, top, left + 224, top + 224)), int)
        assert np.abs(test.images([row])[0] - expected).mean() < 3


@NO_FFCV
@pytest.mark.slow
def test_ffcv_reads_what_is_written(small):
    x, y = whole(made := make("ffcv", small))
    other, labels = whole(make("torch", small))
    beton = Beton(ensure(SMALL, "train", small))
    assert x.shape == (9, 3, 224, 224) and torch.equal(y, labels) and y.tolist() == beton.labels.tolist()
    difference = (x - other).abs() * 255  # of two decoders and two resizers
    assert difference.mean() < 2 and difference.max() < 16
    assert [sorted(torch.cat([index for _, _, index in made]).tolist()) for _ in range(2)] == [list(range(9))] * 2


@NO_FFCV
@pytest.mark.slow
def test_augmented_by_ffcv(small):
    made = make("ffcv", small, pipeline="crt", rank=1, world=2)
    epochs = [[torch.cat(part) for part in zip(*made, strict=True)] for _ in range(2)]
    made.close()
    for number, (x, _, index) in enumerate(epochs):
        assert x.shape == (4, 3, 224, 224) and index.tolist() == epoch_order(9, 3, number, 1, 2).tolist()
        assert not set(index.tolist()) & set(epoch_order(9, 3, number, 0, 2).tolist())
    k = epochs[0][2][0]
    assert not any(torch.equal(epochs[0][0][0], x) for x in epochs[1][0][epochs[1][2] == k])


def test_augmented_by_torch(small):
    one, other = make("torch", small, pipeline="crt"), make("torch", small, pipeline="crt", workers=2)
    x, _ = whole(one)
    assert torch.equal(x, whole(other)[0]) and not torch.equal(x, whole(one)[0])
    beton = Beton(ensure(SMALL, "train", small))
    for part, k in zip(x, range(9), strict=True):  # bilinear: nothing outside the range of the image
        low, high = beton.image(k).min((0, 1)), beton.image(k).max((0, 1))
        assert (part.amin((1, 2)) * 255 >= torch.tensor(low) - 1.01).all()
        assert (part.amax((1, 2)) * 255 <= torch.tensor(high) + 1.01).all()


@pytest.mark.parametrize("kind", [kind for kind in LOADERS if kind != "ffcv"])
def test_every_loader_has_the_same_test_pixels(kind, small):
    test = Beton(ensure(SMALL, "test", small))
    x, y = whole(make(kind, small, "test", shuffle=False))
    assert torch.equal(x, torch.from_numpy(test.images(range(9))).permute(0, 3, 1, 2) / 255)
    assert y.tolist() == test.labels.tolist()


def test_a_part_of_the_images_is_asked_for(small):
    large = replace(SMALL, train_images=10)
    options = {"data": small, "pipeline": "crt", "batch_size": 4, "device": "cpu", "seed": 0}
    with pytest.raises(ValueError, match=r"9 of 10 images.*images: N"):
        loader("torch", large, "train", **options)
    assert (loader("torch", large, "train", images=9, **options).images, held(large, "train", small)) == (9, 9)
    assert held(large, "train", small / "none") == 10


def test_jpegs_are_not_held_in_memory(small):
    with pytest.raises(ValueError, match=r"imagenet-train\.beton.*ffcv, torch"):
        make("device", small)


def test_all_kinds_of_images(tmp_path, capsys):
    picture = scene(120, 160)
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = Image.fromarray(picture).convert("L")
    images = {
        "a-upright": encoded(picture, quality=95),
        "b-turned": encoded(Image.fromarray(picture).transpose(Image.ROTATE_90), quality=95, exif=turned),
        "c-grey": encoded(grey, quality=95),
        "d-cmyk": encoded(Image.fromarray(picture).convert("CMYK"), quality=95),
        "e-png": encoded(np.dstack([picture, np.full((120, 160), 255, np.uint8)]), "PNG"),
        "f-palette": encoded(Image.fromarray(picture).quantize(256), "PNG"),
        "g-nonsense-exif": encoded(picture, quality=95, exif=b"Exif\0\0" + b"nonsense" * 4),
        "h-truncated": encoded(picture)[:-500],
        "i-text": b"no image",
        "j-empty": b"",
    }
    source = tree(tmp_path / "source", {f"val/1/{name}.JPEG": content for name, content in images.items()})
    imagenet.convert(SMALL, source, tmp_path, 500, 90)
    out, err = capsys.readouterr()
    assert "7 images, 3 unreadable" in out
    assert [line for line in err.splitlines() if line.startswith("left out")] == [
        f"left out: val/1/{name}.JPEG" for name in ("h-truncated", "i-text", "j-empty")
    ]
    found = Beton(ensure(SMALL, "test", tmp_path)).images(range(7)).astype(int)
    for name, image in zip(images, found, strict=False):
        expected = found[0] if name != "c-grey" else found[0] @ (0.299, 0.587, 0.114)
        mean = np.abs(image - (expected if name != "c-grey" else expected[..., None])).mean()
        assert mean < 3, (name, mean)


def test_lighting_shifts_torchs_images(small, monkeypatch):
    from crt.data import PIPELINES
    from crt.data.augment import Changes

    lit = replace(PIPELINES["rrm-imagenet"], jitter=0.0)
    plain, jittered = (whole(make("torch", small, pipeline=name))[0] for name in ("crt", "rrm-imagenet"))
    monkeypatch.setitem(PIPELINES, "rrm-imagenet", lit)
    found, again = (whole(make("torch", small, pipeline="rrm-imagenet", workers=workers))[0] for workers in (0, 1))
    shifts = Changes(lit, 9, 3, 0, torch.Tensor.clone).shifts
    expected = (plain + shifts[:, :, None, None]).clip(0, 1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert torch.equal(found, again) and not torch.equal(found, jittered) and shifts.abs().max() > 0.005


@NO_FFCV
@pytest.mark.slow
def test_lighting_shifts_ffcvs_images(small, monkeypatch):
    from crt.data import PIPELINES
    from crt.data.augment import Changes

    monkeypatch.setitem(PIPELINES, "rrm-imagenet", lit := replace(PIPELINES["rrm-imagenet"], jitter=0.0, crop=False))
    shifts = Changes(lit, 9, 3, 0, torch.Tensor.clone).shifts
    plain, found = (whole(make("ffcv", small, pipeline=name))[0] for name in ("plain", "rrm-imagenet"))
    torch.testing.assert_close(found, (plain + shifts[:, :, None, None]).clip(0, 1), atol=1e-6, rtol=0)


def parts(folder: Path) -> tuple[Path, Path]:
    return tuple(folder / f".imagenet-train.beton.{suffix}" for suffix in ("part", "done"))


def many(folder: Path) -> Path:
    images = {f"train/{k % 3}/{k:04}.JPEG": encoded(scene(40 + k % 30, 50, k)) for k in range(600)}
    return tree(folder, images)


def test_a_killed_write_goes_on(tmp_path, monkeypatch):
    source = many(tmp_path / "source")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    imagenet.convert(SMALL, source, undisturbed, 48, 90)
    script = f"""
import sys, threading
from dataclasses import replace
from pathlib import Path
from crt.data import DATASETS, imagenet
whole, imagenet._ROUND, begun = imagenet._encoded, 100, []
def stuck(content, encode):
    begun.append(content)
    if len(begun) > 250:
        threading.Event().wait()
    return whole(content, encode)
imagenet._encoded = stuck
small = replace(DATASETS["imagenet"], classes=("0", "1", "2"))
imagenet.convert(small, Path({str(source)!r}), Path({str(killed)!r}), 48, 90)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    part, journal = parts(killed)
    enough = lambda: journal.exists() and journal.stat().st_size > 200 * imagenet._DONE.itemsize  # noqa: E731
    until(enough, alive=lambda: process.poll() is None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.exists() and not (killed / "imagenet-train.beton").exists()
    with open(journal, "ab") as file:
        file.write(b"torn")
    with open(part, "ab") as file:
        file.write(b"what the notes do not know of")

    asked = []
    once = imagenet._encoded
    monkeypatch.setattr(imagenet, "_encoded", lambda content, encode: asked.append(1) or once(content, encode))
    imagenet.convert(SMALL, source, killed, 48, 90)
    assert 0 < len(asked) < 600
    assert not part.exists() and not journal.exists()
    assert (killed / "imagenet-train.beton").read_bytes() == (undisturbed / "imagenet-train.beton").read_bytes()
    imagenet.convert(SMALL, source, killed, 48, 90)
    assert len(asked) < 600


@pytest.mark.parametrize("change", ["settings", "source", "part"])
def test_anothers_part_is_not_gone_on_with(change, tmp_path, monkeypatch):
    source, data = many(tmp_path / "source"), tmp_path / "data"
    seal = layout.seal

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(layout, "seal", full)
    with pytest.raises(ValueError, match="No space left"):
        imagenet.convert(SMALL, source, data, 48, 90)
    monkeypatch.setattr(layout, "seal", seal)
    if change == "source":
        shutil.move(source / "train" / "0" / "0000.JPEG", source / "train" / "1" / "0000.JPEG")
    if change == "part":
        parts(data)[0].write_bytes(b"")
    side = 30 if change == "settings" else 48
    imagenet.convert(SMALL, source, data, side, 90)
    beton = Beton(ensure(SMALL, "train", data))
    assert max(max(beton.image(k).shape) for k in range(600)) == side
    assert np.bincount(beton.labels).tolist() == ([199, 201, 200] if change == "source" else [200] * 3)


def test_pages_hold_whole_images(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "PAGE", 4096)
    imagenet.convert(SMALL, many(tmp_path / "source"), tmp_path, 48, 90)
    beton = Beton(tmp_path / "imagenet-train.beton")
    first, last = beton._pointers, beton._pointers + beton._sizes - 1
    assert (first // 4096 == last // 4096).all() and (last.max() - first.min()) / 4096 > 100
    assert len(set(first)) == 600


def test_a_second_writer_is_refused(tmp_path):
    source = many(tmp_path / "source")
    part, _ = parts(tmp_path)
    script = f"""
import fcntl, sys
file = open({str(part)!r}, "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    other.stdout.readline()
    with pytest.raises(ValueError, match="another process"):
        imagenet.convert(SMALL, source, tmp_path, 48, 90)
    other.communicate()


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["imagenet", *map(str, arguments)])
    return result.exit_code, result.stderr


def test_the_command_says_what_is_wrong(tmp_path):
    picture = {"train/n0/a.JPEG": encoded(scene(30, 40))}
    thousand = [f"n{k}" for k in range(1000)]
    unlike = tree(tmp_path / "unlike", picture | {"val/n0/b.JPEG": b""}, thousand)
    (unlike / "val" / "n1").rename(unlike / "val" / "m1")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "packed.tar").write_bytes(b"\x1f\x8bno tar")
    cases = {
        ("--data", tmp_path): "--source: missing (allowed: a folder or an archive of train/CLASS",
        ("--data", tmp_path, "--source", tmp_path / "absent"): "absent: no such folder, tar or zip",
        ("--data", tmp_path, "--source", tmp_path / "nothing"): "nothing",
        ("--data", tmp_path, "--source", tmp_path / "packed.tar"): "packed.tar: compressed (gzip)",
        ("--data", tmp_path, "--source", tree(tmp_path / "few", picture, ["n0", "n1"])): "2 class folders",
        ("--data", tmp_path, "--source", unlike): "m1",
        ("--data", tmp_path, "--source", tmp_path, "--quality", 200): "quality",
    }
    for arguments, word in cases.items():
        code, said = run(*arguments)
        assert code == 2 and word in said and "Traceback" not in said, (arguments, said)
    assert not list(tmp_path.glob("*.beton"))
    with pytest.raises(ValueError, match=r"crt\.data\.beton imagenet --source FOLDER --data"):
        ensure(DATASETS["imagenet"], "test", tmp_path)


def test_a_subset_keeps_the_labels_of_the_whole(tmp_path):
    classes = [f"n{k:03}" for k in range(1000)]
    source = tree(tmp_path / "source", {f"train/n{k}/a.JPEG": encoded(scene(30, 40)) for k in (700, 123)}, classes)
    code, said = run("--source", source, "--data", tmp_path)
    assert code == 2 and "imagenet-test.beton: not written" in said and "imagenet-train.beton: written" in said
    assert sorted(Beton(tmp_path / "imagenet-train.beton").labels) == [123, 700]


def test_the_sample_of_1000_classes(real_images, tmp_path):
    tar = real_images / "imagenet-sample-160px.tar"
    if not tar.exists():
        pytest.skip(f"no {tar}")
    code, said = run("--source", tar, "--data", tmp_path, "--side", 300)
    assert code == 2 and "imagenet-test.beton: not written" in said and "left out" not in said
    beton = Beton(ensure(IMAGENET, "train", tmp_path))
    assert len(beton) == 1000 and len(set(beton.labels)) == 1000
    with tarfile.open(tar) as archive:
        members = sorted(archive.getmembers(), key=lambda member: member.name)
        grey = 0
        for k, label in enumerate(beton.labels):
            original = Image.open(archive.extractfile(members[label]))
            if original.mode == "L":
                grey += 1
                assert np.ptp(beton.image(k).astype(int), axis=2).max() <= 2
            if k % 40 == 0 and max(original.size) <= 300:
                assert np.abs(beton.image(k).astype(int) - np.asarray(original.convert("RGB"))).mean() < 6
    assert grey == 23
    x, y, _ = next(iter(loader("torch", IMAGENET, "train", data=tmp_path, pipeline="crt", batch_size=8,
                               device="cpu", seed=0, images=64)))  # fmt: skip
    assert x.shape == (8, 3, 224, 224) and len(set(y.tolist())) == 8
    one_missing = replace(IMAGENET, train_images=1001)
    assert loader("torch", one_missing, "train", data=tmp_path, pipeline="crt", batch_size=8, device="cpu",
                  seed=0).images == 1000  # fmt: skip
