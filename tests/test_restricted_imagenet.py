"""Restricted ImageNet: nine ranges of an ImageNet tree's classes, by their names and by their places."""

import errno
import tarfile
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from test_imagenet import encoded, scene, tree
from typer.testing import CliRunner

from crt.data import DATASETS, imagenet, layout
from crt.data.beton import app
from crt.data.beton_file import Beton, ensure

IMAGENET, RESTRICTED = DATASETS["imagenet"], DATASETS["restricted_imagenet"]

SUPERCLASSES = {
    "dog": range(151, 269), "cat": range(281, 286), "frog": range(30, 33), "turtle": range(33, 38),
    "bird": range(80, 101), "primate": range(365, 383), "fish": range(389, 398), "crab": range(118, 122),
    "insect": range(300, 320),
}  # fmt: skip
"""Places among the sorted WordNet IDs of ImageNet's 1,000 classes."""


def test_the_constants_of_restricted_imagenet():
    assert RESTRICTED.classes == tuple(SUPERCLASSES) and RESTRICTED.shape == IMAGENET.shape
    assert [count for *_, count in RESTRICTED.superclasses] == [len(places) for places in SUPERCLASSES.values()]
    assert RESTRICTED.test_images == 50 * sum(map(len, SUPERCLASSES.values())) == 10_150
    ends = sorted((low, high) for low, high, _ in RESTRICTED.superclasses)
    assert all(low <= high for low, high in ends)
    assert all(high < low for (_, high), (low, _) in pairwise(ends))


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["restricted_imagenet", *map(str, arguments)])
    return result.exit_code, result.stderr


def wnids() -> dict[str, int]:
    """Class folders whose names lie in the ranges, the ends among them, with their labels."""
    found = {}
    for label, (low, high, count) in enumerate(RESTRICTED.superclasses):
        names = [f"n{int(low[1:]) + k:08}" for k in range(count - 1)] + [high]
        assert names[-2] < high
        found |= dict.fromkeys(names, label)
    return found


def test_restricted_imagenet_is_nine_ranges_of_a_tree(tmp_path, monkeypatch):
    labels = wnids()
    others = ["n00000001", "n02085619", "n02113979", "n01644901", "n09999999"]
    names = [f"{folder}/{kind}/a.JPEG" for folder in ("train", "val") for kind in [*labels, *others]]
    source = tree(tmp_path / "source", dict.fromkeys(names, encoded(scene(20, 24))), [*labels, *others])
    seal, asked, once = layout.seal, [], imagenet._encoded

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(imagenet, "_encoded", lambda content, encode: asked.append(1) or once(content, encode))
    monkeypatch.setattr(layout, "seal", full)
    assert run("--source", source, "--data", tmp_path)[0] == 2
    monkeypatch.setattr(layout, "seal", seal)
    code, said = run("--source", source, "--data", tmp_path)
    assert code == 0 and len(asked) == 2 * 203, said  # the second run went on where the first was cut short
    train, test = (Beton(ensure(RESTRICTED, split, tmp_path)) for split in ("train", "test"))
    assert train.jpeg and len(train) == len(test) == 203
    assert test.labels.tolist() == [labels[kind] for kind in sorted(labels)]
    assert np.bincount(train.labels).tolist() == [118, 5, 3, 5, 21, 18, 9, 4, 20]


def test_a_tree_without_the_203_classes_is_refused(tmp_path):
    labels = list(wnids())
    source = tree(tmp_path / "source", {f"train/{labels[5]}/a.JPEG": encoded(scene(20, 24))}, [*labels[1:], "n0"])
    code, said = run("--source", source, "--data", tmp_path)
    assert code == 2 and "202 class folders of restricted_imagenet under train (allowed: 203" in said


def test_the_samples_classes_by_their_places(real_images, tmp_path):
    tar = real_images / "imagenet-sample-160px.tar"
    if not tar.exists():
        pytest.skip(f"no {tar}")
    code, said = run("--source", tar, "--data", tmp_path, "--side", 160)
    assert code == 2 and "imagenet-test.beton: not written" in said and "left out" not in said
    with tarfile.open(tar) as archive:
        members = sorted((m for m in archive.getmembers() if m.isfile()), key=lambda member: member.name)
        places = [place for found in SUPERCLASSES.values() for place in found]
        label = {place: k for k, found in enumerate(SUPERCLASSES.values()) for place in found}
        chosen = sorted(places)
        order = np.random.default_rng(0).permutation(203)
        beton = Beton(ensure(RESTRICTED, "train", tmp_path))
        assert beton.labels.tolist() == [label[chosen[k]] for k in order]
        for row in range(0, 203, 20):
            original = Image.open(archive.extractfile(members[chosen[order[row]]])).convert("RGB")
            original.thumbnail((160, 160))
            assert np.abs(beton.image(row).astype(int) - np.asarray(original)).mean() < 6
