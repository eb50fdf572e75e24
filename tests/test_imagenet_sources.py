"""ImageNet as people have it: trees, tars with links, the official tars, labels in files; and what is named instead."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_imagenet import ROOT, encoded, scene
from typer.testing import CliRunner
from waiting import hears_ctrl_c

from crt.data import DATASETS, layout, progress
from crt.data.beton import app
from crt.data.beton_file import Beton
from crt.data.synsets import SYNSETS
from crt.data.trees import check_classes

KINDS = ("n00000001", "n00000002", "n00000003")
SMALL = replace(DATASETS["imagenet"], classes=KINDS, train_images=6, test_images=6)
TRAIN = {f"{KINDS[k % 3]}/{KINDS[k % 3]}_{k}.JPEG": encoded(scene(30 + k, 40, k)) for k in range(6)}
VAL = {f"ILSVRC2012_val_{k + 1:08}.JPEG": encoded(scene(40 + k, 30, k + 9)) for k in range(6)}
VAL_KINDS = dict(zip(VAL, [KINDS[k] for k in (2, 0, 1, 1, 2, 0)], strict=True))
WHOLE = {f"train/{name}": file for name, file in TRAIN.items()} | {
    f"val/{VAL_KINDS[name]}/{name}": file for name, file in VAL.items()
}


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def tar(path: Path, files: dict[str, "bytes | tuple[str, str]"], mode: str = "w") -> Path:
    """A tar of files, and of links (`soft` or `hard`, target), in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                member.type = {"soft": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}[content[0]]
                member.linkname = content[1]
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def moved(links: Callable[[str, str], dict], last: bool = False) -> dict:
    """WHOLE with its files in `pool/`, numbered, and what `links` gives for each."""
    pool = {f"pool/{number}": content for number, content in enumerate(WHOLE.values())}
    made: dict = {}
    for path, kept in zip(WHOLE, pool, strict=True):
        made |= links(path, kept)
    return pool | made if last else made | pool


def class_tars(path: Path, top: str = "") -> Path:
    inner = {}
    for kind in KINDS:
        images = {name.split("/")[1]: content for name, content in TRAIN.items() if name.startswith(kind)}
        inner[f"{top}{kind}.tar"] = tar(path.parent / "inner.tar", images).read_bytes()
        (path.parent / "inner.tar").unlink()
    return tar(path, inner)


def official(root: Path) -> Path:
    class_tars(root / "ILSVRC2012_img_train.tar")
    tar(root / "ILSVRC2012_img_val.tar", VAL)
    return root


def flat(root: Path) -> Path:
    return folder(root, {name: file for name, file in WHOLE.items() if name.startswith("train")}
                  | {f"val/{name}": file for name, file in VAL.items()})  # fmt: skip


def linked_folder(root: Path) -> Path:
    folder(root / "pool", {name: file for name, file in WHOLE.items() if name.startswith("train")})
    folder(root / "store", VAL)
    (root / "in").mkdir()
    (root / "in" / "train").mkdir()
    for kind in KINDS:
        (root / "in" / "train" / kind).symlink_to(Path("../../pool/train", kind))
        (root / "in" / "val" / kind).mkdir(parents=True)
    for name, kind in VAL_KINDS.items():
        (root / "in" / "val" / kind / name).symlink_to(root / "store" / name)
    return root / "in"


def zipped(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in WHOLE.items():
            archive.writestr(f"imagenet/{name}", content)
    return path


def debris(root: Path) -> dict[str, bytes]:
    return {
        f"{root}/{name}": b"x" for name in (".DS_Store", "train/._a", f"train/{KINDS[0]}/._b.JPEG", "val/.x/0.JPEG")
    }


TAKEN: dict[str, Callable[[Path], Path]] = {
    "folder": lambda at: folder(at, WHOLE),
    "folder with hidden files": lambda at: folder(folder(at, WHOLE), debris(at)),
    "folder with an odd name": lambda at: folder(at / 'it\'s "my" [data]\nñ {}', WHOLE),
    "folder of links": linked_folder,
    "tar": lambda at: tar(at / "a.tar", WHOLE),
    "tar with folders above": lambda at: tar(at / "a.tar", {f"./x/y/{n}": c for n, c in WHOLE.items()}),
    "tar with annotations": lambda at: tar(
        at / "a.tar", {f"A/{n}.xml": b"" for n in WHOLE} | {f"B/{n}": c for n, c in WHOLE.items()}
    ),
    "tar of hard links": lambda at: tar(at / "a.tar", moved(lambda path, kept: {path: ("hard", kept)}, last=True)),
    "tar of hard links before their files": lambda at: tar(at / "a.tar", moved(lambda p, kept: {p: ("hard", kept)})),
    "tar of symbolic links": lambda at: tar(at / "a.tar", moved(lambda p, kept: {p: ("soft", f"../../{kept}")})),
    "tar of chains of links": lambda at: tar(
        at / "a.tar",
        moved(
            lambda p, kept: {
                p: ("soft", f"../.././{kept}.a"),
                f"{kept}.a": ("hard", f"{kept}.b"),
                f"{kept}.b": ("soft", kept.split("/")[1]),
            }
        ),
    ),
    "tar of linked class folders": lambda at: tar(
        at / "a.tar",
        {f"{split}/{kind}": ("soft", f"../pool/{split}/{kind}") for split in ("train", "val") for kind in KINDS}
        | {f"pool/{name}": content for name, content in WHOLE.items()},
    ),
    "tar of linked splits": lambda at: tar(
        at / "a.tar",
        {f"old_{name}": c for name, c in WHOLE.items()} | {"train": ("soft", "old_train"), "val": ("soft", "old_val")},
    ),
    "tar of links into a hidden store": lambda at: tar(
        at / "a.tar",
        {name: ("soft", f"../../.git/{k}") for k, name in enumerate(WHOLE)}
        | {f".git/{k}": content for k, content in enumerate(WHOLE.values())},
    ),
    "zip": lambda at: zipped(at / "a.zip"),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> Path:
    """The files written from a plain folder."""
    at = tmp_path_factory.mktemp("expected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "imagenet", SMALL)
        patch.setattr(layout, "PAGE", 2**18)
        patch.setattr(progress, "SECONDS", float("inf"))
        assert run("--source", folder(at / "source", WHOLE), "--data", at) == (0, "")
    return at


@pytest.fixture
def small(monkeypatch, tmp_path) -> Path:
    """ImageNet has three classes."""
    monkeypatch.setitem(DATASETS, "imagenet", SMALL)
    monkeypatch.setattr(layout, "PAGE", 2**18)
    monkeypatch.setattr(progress, "SECONDS", float("inf"))
    return tmp_path


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["imagenet", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


def assert_same(data: Path, expected: Path) -> None:
    for name in ("imagenet-train.beton", "imagenet-test.beton"):
        assert (data / name).read_bytes() == (expected / name).read_bytes()
    assert len(list(data.glob("*.beton"))) == 2


@pytest.mark.parametrize("form", TAKEN)
def test_every_form_gives_the_same_files(form, small, expected):
    assert run("--source", TAKEN[form](small / "given"), "--data", small / "data") == (0, "")
    assert_same(small / "data", expected)


LABELS = {
    "pairs": [f"{name} {kind}" for name, kind in VAL_KINDS.items()],
    "pairs in another order, of names alone": [f"{kind},{name[:-5]}" for name, kind in reversed(VAL_KINDS.items())],
    "paths": [f"val/{name}\t{kind}" for name, kind in VAL_KINDS.items()],
    "Kaggle's": ["ImageId,PredictionString"]
    + [f"{name[:-5]},{kind} 85 1 499 272 {kind} 0 0 9 9 " for name, kind in VAL_KINDS.items()],
    "a script that sorts": [f"mkdir -p {kind}" for kind in KINDS]
    + [f"mv {name} {kind}/" for name, kind in VAL_KINDS.items()],
    "WordNet IDs in the order of the images": [*VAL_KINDS.values()],
    "more than there are": [f"ILSVRC2012_val_{k:08}.JPEG {KINDS[0]}" for k in range(7, 50)]
    + [f"{name} {kind}" for name, kind in VAL_KINDS.items()],
    "of Windows": [f"{name};{kind}\r" for name, kind in VAL_KINDS.items()],
    "JSON": ["{"] + [f'"{name}": "{kind}",' for name, kind in VAL_KINDS.items()] + ["}"],
}


@pytest.mark.parametrize("form", LABELS)
@pytest.mark.parametrize("source", [flat, official])
def test_a_file_of_labels_sorts_val(source, form, small, expected):
    (small / "labels").write_text("\n".join(LABELS[form]) + "\n")
    given = source(small / "given")
    assert run("--source", given, "--data", small / "data", "--val-labels", small / "labels") == (0, "")
    assert_same(small / "data", expected)


UNCLEAR = {
    "the development kit's numbers": (["490", "361", "171", "822", "297", "482"], "ILSVRC2012_validation_ground_truth"),
    "names and numbers": ([f"{name} {k}" for k, name in enumerate(VAL)], "numbers, which say no class"),
    "two classes": ([f"{name} {KINDS[0]}" for name in VAL] + [f"{min(VAL)} {KINDS[1]}"], f":7: {min(VAL)} is of"),
    "two classes in a line": ([f"{name} {KINDS[0]} {KINDS[1]}" for name in VAL], f":1: {min(VAL)} is of"),
    "an image left out": (LABELS["pairs"][1:], f"{min(VAL)} has no WordNet ID"),
    "too few IDs": (LABELS["WordNet IDs in the order of the images"][1:], "5 WordNet IDs"),
    "nothing": ([], "has no WordNet ID"),
    "no text": (["\udcff"], "no text"),
    "another class": ([*LABELS["pairs"][1:], f"{min(VAL)} n00000009"], "n00000009"),
}


@pytest.mark.parametrize("form", UNCLEAR)
def test_labels_that_say_no_class_are_refused(form, small):
    lines, word = UNCLEAR[form]
    (small / "labels").write_text("\n".join(lines), errors="surrogateescape")
    given = flat(small / "given")
    code, said = run("--source", given, "--data", small / "data", "--val-labels", small / "labels")
    assert code == 2 and word in said and "allowed: " in said and not (small / "data").exists(), said


def without(word: str, **more: bytes) -> dict[str, bytes]:
    return {name: file for name, file in WHOLE.items() if word not in name} | more


def renamed(old: str, new: str) -> dict[str, bytes]:
    return {name.replace(old, new): file for name, file in WHOLE.items()}


ONE, FIRST = min(TRAIN), f"train/{min(TRAIN)}"
REFUSED: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "flat val": (flat, ["/val: its images lie in no class folders", "--val-labels FILE", "valprep.sh"]),
    "official val": (official, ["img_val.tar: its images", "--val-labels"]),
    "official val alone": (lambda at: tar(at / "v.tar", VAL), ["v.tar: its images", "--val-labels"]),
    "val's own folder": (lambda at: folder(at, VAL), ["its images lie in no class folders", "--val-labels"]),
    "an extra class": (lambda at: folder(at, WHOLE | {"train/extra/0.JPEG": b""}), ["under train, extra none"]),
    "an extra class in both": (
        lambda at: folder(at, WHOLE | {f"{split}/extra/0.JPEG": b"" for split in ("train", "val")}),
        ["4 class folders of imagenet under train, extra none of them"],
    ),
    "a class of train alone": (lambda at: folder(at, without(f"val/{KINDS[1]}")), [f"under val for {KINDS[1]}"]),
    "images too deep": (
        lambda at: folder(at, renamed("_1.JPEG", "_1/images/1.JPEG")), [f"train/{KINDS[1]}/", "below a class folder"]
    ),
    "Tiny ImageNet's folders": (
        lambda at: folder(at, {n.replace("/n0", "/images/n0"): c for n, c in WHOLE.items()}), ["below a class folder"]
    ),
    "an image beside the classes": (
        lambda at: folder(at, WHOLE | {"train/a.JPEG": b""}), ["train/a.JPEG: in no class folder"]
    ),
    "unpacked class tars": (
        lambda at: folder(at, without("train") | {f"train/{KINDS[0]}.tar": b""}),
        [f"train/{KINDS[0]}.tar: in no class folder", f"unpack it into {KINDS[0]}/"],
    ),
    "validation": (lambda at: folder(at, renamed("val/", "validation/")), ["/validation: ", "rename it"]),
    "valid in a tar": (lambda at: tar(at / "a.tar", renamed("val/", "valid/")), ["a.tar: valid: ", "rename it"]),
    "test": (lambda at: folder(at, renamed("val/", "test/")), ["/test: ", "rename it"]),
    "a folder above": (lambda at: folder(at / "ILSVRC", WHOLE).parent, ["holds train in the folder ILSVRC"]),
    "classes alone": (lambda at: folder(at, TRAIN), ["class folders (n00000001", "without train or val"]),
    "a tar.gz": (lambda at: tar(at / "a.tar.gz", WHOLE, "w:gz"), ["compressed (gzip)", "uncompressed"]),
    "a compressed tar by another name": (lambda at: tar(at / "a.tar", WHOLE, "w:xz"), ["compressed (xz)"]),
    "half a tar": (lambda at: cut(tar(at / "a.tar", WHOLE), 0.4), ["a.tar: tar, cut off or damaged"]),
    "a tar that ends between two files": (
        lambda at: cut(tar(at / "a.tar", WHOLE), first_end(WHOLE)), ["a.tar: tar, cut off", "no end"]
    ),
    "a damaged tar": (
        lambda at: overwritten(tar(at / "a.tar", WHOLE), first_end(WHOLE)), ["a.tar: tar, cut off or damaged"]
    ),
    "half a class tar": (
        lambda at: tar(at / "a.tar", {"n00000001.tar": cut(tar(at / "i", {"a.JPEG": b"x" * 999}), 1536).read_bytes()}),
        ["a.tar: tar, cut off"],
    ),
    "an empty tar": (lambda at: tar(at / "a.tar", {}), ["a.tar: empty"]),
    "no bytes": (lambda at: folder(at, {"a.tar": b""}) / "a.tar", ["a.tar: is empty"]),
    "a web page": (lambda at: folder(at, {"a.tar": b"<html>"}) / "a.tar", ["an HTML page"]),
    "a link to nothing": (lambda at: tar(at / "a.tar", WHOLE | {FIRST: ("soft", "gone")}), [FIRST, "gone", "not in"]),
    "a hard link to nothing": (lambda at: tar(at / "a.tar", WHOLE | {FIRST: ("hard", "gone")}), [FIRST, "not in"]),
    "a link that leaves": (
        lambda at: tar(at / "a.tar", WHOLE | {FIRST: ("soft", "../../../etc/x.JPEG")}), [FIRST, "leaves the archive"]
    ),
    "an absolute link": (
        lambda at: tar(at / "a.tar", WHOLE | {FIRST: ("soft", "/etc/x.JPEG")}), [FIRST, "leaves the archive"]
    ),
    "a link to itself": (
        lambda at: tar(at / "a.tar", WHOLE | {FIRST: ("soft", ONE.split("/")[1])}), [FIRST, "back to itself"]
    ),
    "two links to each other": (
        lambda at: tar(at / "a.tar", WHOLE | {FIRST: ("soft", "b.JPEG"), f"train/{KINDS[0]}/b.JPEG": ("hard", FIRST)}),
        ["back to itself"],
    ),
    "a class folder that links to nothing": (
        lambda at: tar(at / "a.tar", WHOLE | {"train/n00000004": ("soft", "../gone")}), ["train/n00000004", "not in"]
    ),
    "a dangling link in a folder": (lambda at: dangling(folder(at, WHOLE), "gone"), ["x.JPEG: a link to gone"]),
    "a loop of links in a folder": (lambda at: dangling(folder(at, WHOLE), "x.JPEG"), ["x.JPEG: a link to x.JPEG"]),
    "a file that is no image": (
        lambda at: folder(at, without(f"train/{KINDS[0]}") | {f"train/{KINDS[0]}/a.gif": b""}), ["a.gif: no image"]
    ),
}  # fmt: skip


def cut(path: Path, share: float = 0.5) -> Path:
    path.write_bytes(path.read_bytes()[: int(share if share > 1 else path.stat().st_size * share)])
    return path


def first_end(files: dict[str, bytes]) -> int:
    """Position at which the first file of a tar ends."""
    return 512 + -(-len(next(iter(files.values()))) // 512) * 512


def overwritten(path: Path, place: int) -> Path:
    content = bytearray(path.read_bytes())
    content[place : place + 512] = b"\xff" * 512
    path.write_bytes(content)
    return path


def dangling(root: Path, target: str) -> Path:
    (root / "train" / KINDS[0] / "x.JPEG").symlink_to(target)
    return root


@pytest.mark.parametrize("form", REFUSED)
def test_what_cannot_be_taken_is_named(form, small):
    build, words = REFUSED[form]
    code, said = run("--source", build(small / "given"), "--data", small / "data")
    assert code == 2 and said.count("\n") == 1 and "Traceback" not in said
    assert all(word in said for word in words) and ("allowed: " in said or "--val-labels" in said), said
    assert not (small / "data").exists()


def test_labels_for_a_sorted_val_are_refused(small):
    (small / "labels").write_text("\n".join(LABELS["pairs"]))
    given = folder(small / "given", WHOLE)
    code, said = run("--source", given, "--data", small / "data", "--val-labels", small / "labels")
    assert code == 2 and "labels: " in said and "leave it out" in said


@pytest.mark.parametrize("split, other", [("train", "val"), ("val", "train")])
def test_a_split_that_is_not_there_is_said_until_it_is(split, other, small, expected):
    given = folder(small / "given", without(f"{other}/"))
    written, absent = (f"imagenet-{'test' if name == 'val' else 'train'}.beton" for name in (split, other))
    for _ in range(2):
        code, said = run("--source", given, "--data", small / "data")
        assert code == 2 and f"{absent}: not written" in said and f"{written}: written" in said
    assert [file.name for file in (small / "data").glob("*.beton")] == [written]
    rest = folder(small / "rest", without(f"{split}/"))
    assert run("--source", rest, "--data", small / "data") == (0, "")
    assert_same(small / "data", expected)


def test_the_official_training_tar_alone(small, expected):
    code, said = run("--source", class_tars(small / "given" / "t.tar"), "--data", small / "data")
    assert code == 2 and "imagenet-test.beton: not written" in said
    train = "imagenet-train.beton"
    assert (small / "data" / train).read_bytes() == (expected / train).read_bytes()
    assert run("--source", class_tars(small / "given" / "u.tar", "train/"), "--data", small / "again")[0] == 2
    assert (small / "again" / train).read_bytes() == (expected / train).read_bytes()


def test_images_of_class_tars_and_links_are_read_by_many_threads(small):
    source = tar(small / "a.tar", moved(lambda path, kept: {path: ("soft", f"../../{kept}")}))
    assert run("--source", source, "--data", small)[0] == 0
    assert np.bincount(Beton(small / "imagenet-test.beton").labels).tolist() == [2, 2, 2]


FAULTS = {
    "one too many": (("n99999999",), (), "1001 class folders of imagenet under train, n99999999 none of them"),
    "one too few": ((), SYNSETS[5:6], f"999 class folders of imagenet under train, {SYNSETS[5]} missing"),
    "another": (("n99999999",), SYNSETS[5:6], f"n99999999 none of them, {SYNSETS[5]} missing"),
    "a copy": (("n01440764 (copy)",), (), "n01440764 (copy) none of them"),
    "four too few": ((), SYNSETS[:4], f"{', '.join(SYNSETS[:3])} and 1 more missing"),
    "a tenth": ((), SYNSETS[100:], "100 class folders"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_class_folders_too_many_and_too_few_are_named(fault):
    more, fewer, words = FAULTS[fault]
    names = sorted({*SYNSETS, *more} - {*fewer})
    with pytest.raises(ValueError) as raised:
        check_classes(DATASETS["imagenet"], Path("given"), "train", {name: k for k, name in enumerate(names)})
    assert words in str(raised.value) and "allowed: 1000" in str(raised.value)


def test_restricted_imagenets_missing_class_is_named():
    restricted = DATASETS["restricted_imagenet"]
    ranges = list(enumerate(restricted.superclasses))
    labels = {name: label for name in SYNSETS for label, (low, high, _) in ranges if low <= name <= high}
    check_classes(restricted, Path("given"), "train", labels)
    del labels["n02085620"]
    with pytest.raises(ValueError, match="202 class folders of restricted_imagenet under train, n02085620 missing"):
        check_classes(restricted, Path("given"), "train", labels)


def test_the_thousand_classes(real_images):
    assert len(set(SYNSETS)) == 1000 and list(SYNSETS) == sorted(SYNSETS)
    with tarfile.open(real_images / "imagenet-sample-160px.tar") as archive:
        assert {name.split("/")[1] for name in archive.getnames() if name.count("/") == 2} == set(SYNSETS)


def test_plain_lines_where_there_is_no_terminal(small, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    code, said = run("--source", tar(small / "a.tar", WHOLE), "--data", small / "data")
    assert code == 0
    for line in (
        "listing a.tar: ",
        "writing imagenet-train.beton: 6 of 6 images",
        "listing train: 1 of 3 class",
    ):
        assert line in said, said


@pytest.mark.slow
def test_a_bar_on_a_terminal_and_a_line_for_ctrl_c(tmp_path):
    pty = pytest.importorskip("pty")
    image = encoded(scene(700, 700))
    images = {f"train/{kind}/{k}.JPEG": image for k in range(100) for kind in KINDS}
    source = folder(tmp_path / "source", images)
    script = f"""
import itertools, sys, time
from dataclasses import replace
from PIL import Image
from crt.data import DATASETS, beton, imagenet
shrink, count = Image.Image.thumbnail, itertools.count()
def slow(image, size):
    time.sleep(0.2 if next(count) > 40 else 0)  # so that it is at work when it is interrupted, on any machine
    shrink(image, size)
Image.Image.thumbnail = slow
DATASETS["imagenet"] = replace(DATASETS["imagenet"], classes={KINDS!r})
imagenet._ROUND = 4
sys.argv = ["beton", "imagenet", "--source", {str(source)!r}, "--data", {str(tmp_path / "data")!r}]
beton.app()
"""
    main, other = pty.openpty()
    start = {"cwd": ROOT, "stderr": other, "stdout": other, "text": True, "preexec_fn": hears_ctrl_c}
    process = subprocess.Popen([sys.executable, "-c", script], **start)
    os.close(other)
    shown = b""
    while b"writing imagenet-train.beton" not in shown or not any(tmp_path.glob("data/.*.done")):
        shown += os.read(main, 4096)
    process.send_signal(signal.SIGINT)
    while True:
        try:
            shown += os.read(main, 4096)
        except OSError:  # the other end is closed
            break
    assert process.wait() == 130 and b"images" in shown
    assert b"interrupted (what is done is kept: the same command goes on)" in shown and b"Traceback" not in shown
    assert not (tmp_path / "data" / "imagenet-train.beton").exists()
