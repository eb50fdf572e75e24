"""Datasets, .beton files and the three loaders: the same images in the same order, and nothing broken let through."""

import io
import shutil
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from typer.testing import CliRunner
from waiting import HANG

from crt.data import DATASETS
from crt.data.beton_file import Beton, ensure, write
from crt.data.loader import LOADERS, epoch_order, loader

DIGITS = DATASETS["digits"]
NO_FFCV = pytest.mark.skipif(find_spec("ffcv") is None, reason="FFCV is not installed")
KINDS = [pytest.param(kind, marks=[pytest.mark.slow, NO_FFCV]) if kind == "ffcv" else kind for kind in LOADERS]
ROOT = Path(__file__).resolve().parents[1]


def make(kind: str, digits: Path, **options):
    options = {"pipeline": "plain", "batch_size": 100, "device": "cpu", "seed": 3, **options}
    return loader(kind, DIGITS, options.pop("split", "train"), data=digits, **options)


def whole(batches) -> list[torch.Tensor]:
    return [torch.cat(part) for part in zip(*batches, strict=True)]


def test_digits_are_sklearns(digits):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    train, test = (Beton(ensure(DIGITS, split, digits)) for split in ("train", "test"))
    assert (len(train), len(test)) == (1437, 360)
    pixels = np.concatenate([split.images(np.arange(len(split))) for split in (train, test)])
    assert pixels.shape == (1797, 32, 32, 3) and pixels.dtype == np.uint8
    blocks = pixels.reshape(1797, 8, 4, 8, 4, 3)
    assert (blocks == blocks[:, :, :1, :, :1, :1]).all()  # 4x4 blocks of one grey
    small = np.rint(blocks[:, :, 0, :, 0, 0] / 255 * 16).astype(int).reshape(1797, -1)
    labels = np.concatenate([train.labels, test.labels])
    found = sorted(map(tuple, np.column_stack([small, labels]).tolist()))
    assert found == sorted(map(tuple, np.column_stack([bunch.data, bunch.target]).astype(int).tolist()))
    share = pixels[:1437].reshape(-1, 3) / 255
    np.testing.assert_allclose(share.mean(0), DIGITS.mean, atol=1e-3)
    np.testing.assert_allclose(share.std(0), DIGITS.std, atol=1e-3)


@pytest.mark.slow
def test_ffcv_reads_the_table_that_we_read(digits):
    Reader = pytest.importorskip("ffcv.reader").Reader

    file = ensure(DIGITS, "test", digits)
    theirs, ours = Reader(str(file)), Beton(file)
    assert theirs.field_names == ["image", "label", "index"]
    assert (theirs.metadata["f1"] == ours.labels).all() and (theirs.metadata["f2"] == np.arange(360)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_plain_batches_are_the_file_in_the_epochs_order(kind, digits):
    beton = Beton(ensure(DIGITS, "train", digits))
    made = make(kind, digits, images=450)
    assert (len(made), made.images) == (5, 450)
    kept = list(made)  # kept to the end, so that a view of a ring of buffers would show
    assert [len(x) for x, _, _ in kept] == [100, 100, 100, 100, 50]
    x, y, index = whole(kept)
    order = epoch_order(450, 3, 0)
    assert (x.dtype, y.dtype, index.dtype) == (torch.float32, torch.int64, torch.int64)
    assert index.tolist() == order.tolist() and y.tolist() == beton.labels[order].tolist()
    assert torch.equal(x, torch.from_numpy(beton.images(order)).permute(0, 3, 1, 2) / 255)
    assert kept[0][0].is_contiguous()

    made.epoch = 5  # as a resumed run would
    assert whole(made)[2].tolist() == epoch_order(450, 3, 5).tolist()
    for _ in range(3):
        for _ in made:
            break
    made.epoch = 5
    assert whole(made)[2].tolist() == epoch_order(450, 3, 5).tolist()
    made.close()
    assert not [thread for thread in threading.enumerate() if type(thread).__name__ == "EpochIterator"]


@pytest.mark.parametrize("kind", KINDS)
def test_augmented_images_are_crops_of_the_padded_ones(kind, digits):
    beton = Beton(ensure(DIGITS, "train", digits))
    made = make(kind, digits, pipeline="crt", images=150)
    corners = set()
    for x, _, index in made:
        padded = np.pad(beton.images(index.numpy()), ((0, 0), (4, 4), (4, 4), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), axis=(1, 2))
        found = (x * 255).round().byte().numpy()
        same = (windows == found[:, None, None]).all(axis=(3, 4, 5))
        assert same.any(axis=(1, 2)).all()
        corners |= {tuple(corner) for corner in np.argwhere(same)[:, 1:].tolist()}
    made.close()
    assert len(corners) > 40  # of 81
    assert {0, 8} <= {row for row, _ in corners} and {0, 8} <= {column for _, column in corners}


@pytest.mark.parametrize("kind", ["torch", "device"])
def test_flips_are_fair(kind, digits):
    beton = Beton(ensure(DIGITS, "train", digits))
    flipping = replace(DIGITS, pad=0, flip=True)
    made = loader(
        kind, flipping, "train", data=digits, pipeline="crt", batch_size=500, device="cpu", seed=0, images=1000
    )
    x, _, index = whole(made)
    image = torch.from_numpy(beton.images(index.numpy())).permute(0, 3, 1, 2) / 255
    kept, mirrored = ((x == other).all(dim=(1, 2, 3)) for other in (image, image.flip(3)))
    assert (kept | mirrored).all()
    assert 430 < kept.sum() < 570  # 4.4 standard deviations


@pytest.mark.parametrize("kind", ["torch", "device"])
def test_a_resumed_epoch_has_the_same_pixels(kind, digits):
    undisturbed = make(kind, digits, pipeline="crt", images=300)
    first, second = whole(undisturbed), whole(undisturbed)
    assert not torch.equal(first[2], second[2])
    state = torch.get_rng_state()
    resumed = make(kind, digits, pipeline="crt", images=300)
    resumed.epoch = 1
    assert all(torch.equal(a, b) for a, b in zip(second, whole(resumed), strict=True))
    assert torch.equal(state, torch.get_rng_state())  # training noise comes from there


def test_worker_processes_change_nothing(digits):
    alone, helped = (make("torch", digits, pipeline="crt", images=200, workers=workers) for workers in (0, 2))
    assert all(torch.equal(a, b) for a, b in zip(whole(alone), whole(helped), strict=True))


@pytest.mark.parametrize("kind", ["torch", "device"])
def test_two_ranks_are_one_process(kind, digits):
    one = make(kind, digits, pipeline="crt", images=301)
    ranks = [make(kind, digits, pipeline="crt", images=301, batch_size=50, rank=rank, world=2) for rank in (0, 1)]
    assert [made.images for made in ranks] == [150, 150]
    union = []
    for both, (x, y, index) in zip(zip(*ranks, strict=True), one, strict=False):
        mixed = [torch.stack(part, 1).flatten(0, 1) for part in zip(*both, strict=True)]
        assert all(torch.equal(a, b[: len(a)]) for a, b in zip(mixed, (x, y, index), strict=True))
        assert not set(both[0][2].tolist()) & set(both[1][2].tolist())
        union += mixed[2].tolist()
    assert len(set(union)) == 300


def test_order_depends_on_seed_and_epoch():
    orders = [tuple(epoch_order(100, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4 and all(sorted(order) == list(range(100)) for order in orders)
    assert epoch_order(10, 0, 3, 1, 2, shuffle=False).tolist() == [1, 3, 5, 7, 9]


def test_the_file_order_without_shuffling(digits):
    assert whole(make("device", digits, split="test", shuffle=False))[2].tolist() == list(range(360))


@pytest.mark.parametrize(
    "options, word",
    [
        ({"kind": "tensor"}, "ffcv, torch, device"),
        ({"pipeline": "randaugment"}, "crt, plain"),
        ({"images": 1438}, "1437"),
        ({"images": 0}, "0 images"),
    ],
)
def test_wrong_options_are_refused(options, word, digits):
    options = {"kind": "device", **options}
    with pytest.raises(ValueError, match=word):
        make(options.pop("kind"), digits, **options)


def test_broken_files_are_refused(digits, tmp_path):
    good = ensure(DIGITS, "test", digits).read_bytes()
    broken = {
        "missing": None,
        "empty": b"",
        "header": good[:10],
        "rows": good[:5000],
        "images": good[: len(good) // 2],
        "table": good[:-1],
        "magic": b"PK\x03\x04" + good[4:],
        "fields": good.replace(b"label", b"sound", 1),
    }
    for name, content in broken.items():
        file = tmp_path / f"{name}.beton"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.beton"):
            Beton(file)


def test_what_is_missing_or_anothers_is_named(digits, tmp_path):
    with pytest.raises(ValueError, match=r"python -m crt\.data\.beton cifar10"):
        ensure(DATASETS["cifar10"], "train", tmp_path)
    shutil.copy(ensure(DIGITS, "test", digits), tmp_path / "digits-train.beton")
    with pytest.raises(ValueError, match=r"360.*1437"):
        ensure(DIGITS, "train", tmp_path)


@pytest.mark.slow
@NO_FFCV
def test_a_dead_ffcv_thread_is_an_error_and_not_a_wait(digits, monkeypatch):
    made = make("ffcv", digits, images=200)
    from ffcv.loader.epoch_iterator import EpochIterator

    monkeypatch.setattr(EpochIterator, "run_pipeline", lambda *_: 1 / 0)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with pytest.raises(RuntimeError, match=r"digits-train\.beton.*died"):
        next(iter(made))


@pytest.mark.slow
def test_processes_may_write_at_once(tmp_path):
    script = f"""
from pathlib import Path
from crt.data import DATASETS
from crt.data.beton_file import ensure
ensure(DATASETS["digits"], "test", Path({str(tmp_path)!r}))
"""
    started = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) for _ in range(3)]
    assert [process.wait(HANG) for process in started] == [0, 0, 0]
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [".digits-test.beton.checked", "digits-test.beton", "digits-test.beton.sha256"]


def run(*arguments) -> tuple[int, str]:
    import typer

    from crt.data.beton import main

    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stderr


def test_the_command_says_what_is_wrong(tmp_path):
    def tree(name: str, classes=DATASETS["cifar10"].classes) -> Path:
        for category in classes:
            (tmp_path / name / "train" / category).mkdir(parents=True)
            (tmp_path / name / "train" / category / "0.png").write_bytes(b"no image")
        return tmp_path / name

    (tmp_path / "blocked").write_text("a file where a folder is needed")
    (tmp_path / "zipped").mkdir()
    (tmp_path / "zipped" / "a.zip").write_bytes(b"no zip")
    (tmp_path / "nothing").mkdir()
    cases = {
        ("mnist",): "cifar10",
        ("cifar10", "--source", tmp_path / "absent"): "absent",
        ("cifar10", "--source", tmp_path / "nothing"): "nothing",
        ("cifar10", "--source", tmp_path / "zipped"): "a.zip",
        ("cifar10", "--source", tree("few")): "50000",
        ("cifar10", "--source", tree("cats", ["cat", "tiger"])): "tiger",
        ("digits", "--data", tmp_path / "blocked" / "here"): "blocked",
    }
    for arguments, word in cases.items():
        code, said = run(*arguments, *([] if "--data" in arguments else ["--data", tmp_path]))
        assert code == 2 and word in said and "Traceback" not in said, (arguments, said)
    assert not list(tmp_path.glob("*.beton"))


def test_cifar10s_test_images(real_images, tmp_path):
    from crt.data.archives import Zips
    from crt.data.cifar import is_published, list_tree, read_tree

    cifar10 = DATASETS["cifar10"]
    zips = Zips([real_images / "cifar10-test.zip"])
    images, labels = read_tree(cifar10, "test", zips, list_tree(cifar10, "test", zips, "test"))
    assert is_published("test", images, labels) and not is_published("train", images, labels)
    file = write(cifar10, "test", tmp_path, images, labels)
    assert file == ensure(cifar10, "test", tmp_path)
    ours = Beton(file)
    assert np.bincount(ours.labels).tolist() == [1000] * 10
    with zipfile.ZipFile(real_images / "cifar10-test.zip") as archive:
        names = sorted((name for name in archive.namelist() if name.endswith(".webp")), key=lambda n: n.split("/")[-1])
        for i in np.random.default_rng(0).choice(10_000, 20, replace=False):
            image = np.asarray(Image.open(io.BytesIO(archive.read(names[i]))).convert("RGB"))
            assert (ours.images(np.array([i]))[0] == image).all()
            assert cifar10.classes[ours.labels[i]] == names[i].split("/")[1]


def marked_offsets(kind: str, folder: Path, epochs: int = 2) -> np.ndarray:
    """How often a loader cropped at each (row, column) and flipped, of images whose pixels say where they are."""
    rows, columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    pixels = np.stack([rows + 1, columns + 1, np.full_like(rows, 200)], -1).astype(np.uint8)
    marked = replace(DIGITS, train_images=4050, flip=True, measured=None)
    if not marked.path("train", folder).exists():
        write(marked, "train", folder, np.repeat(pixels[None], 4050, 0), np.zeros(4050, np.int64), show=False)
    made = loader(kind, marked, "train", data=folder, pipeline="crt", batch_size=500, device="cpu", seed=0)
    counts = np.zeros((9, 9, 2), int)
    for _ in range(epochs):
        x = (whole(made)[0][:, :, 16, 16:18] * 255).round().long()
        mirrored = (x[:, 1, 1] < x[:, 1, 0]).long()
        column = x[:, 1, 0] - torch.where(mirrored.bool(), 12, 13)
        np.add.at(counts, (x[:, 0, 0] - 13, column, mirrored), 1)
    made.close()
    return counts


@pytest.mark.slow
def test_crops_and_flips_on_the_device_are_distributed_as_ffcvs(tmp_path):
    pytest.importorskip("ffcv")
    device, ffcv = (marked_offsets(kind, tmp_path) for kind in ("device", "ffcv"))
    assert device.sum() == ffcv.sum() == 8100
    # 162 equally likely outcomes, 50 of each expected; FFCV's cannot be seeded, so its threshold is out of reach.
    assert stats.chisquare(device.ravel()).pvalue > 0.01
    assert stats.chisquare(ffcv.ravel()).pvalue > 1e-6
    assert stats.chi2_contingency([device.ravel(), ffcv.ravel()]).pvalue > 1e-6
    skewed = device.copy()
    skewed[0] += 60
    assert stats.chi2_contingency([skewed.ravel(), ffcv.ravel()]).pvalue < 1e-6


@NO_FFCV
@pytest.mark.slow
def test_ffcv_leaves_torch_its_threads(digits):
    # In a process of its own: the first import of FFCV is what takes them away.
    code = """
import sys, torch
torch.set_num_threads(3)
from crt.data import DATASETS
from crt.data.loader import loader
batches = loader("ffcv", DATASETS["digits"], "train", data=__import__("pathlib").Path(sys.argv[1]), pipeline="plain",
                 batch_size=100, device="cpu", seed=0, images=300)
seen = [torch.get_num_threads(), *(torch.get_num_threads() for _ in batches), torch.get_num_threads()]
batches.close()
print(seen)
"""
    done = subprocess.run([sys.executable, "-c", code, str(digits)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == str([3] * 5), done.stderr
