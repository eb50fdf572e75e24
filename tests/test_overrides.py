"""`--set`: a value put into a manifest gives the cells of the file written so, and a wrong one is refused by name."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import status, submit
from bench.manifest import read_manifest
from reports import __main__ as reports

HERE = """
title: here
dataset: digits
loader: device
pipeline: plain
threat: {sigma: 0.25}
images: 128
evals: [Clean, Smoothing: {n: 1000, images: 4}]
recipes:
  - &recipe {epochs: 4, batch_size: 64, lr: 0.1}
recipe: *recipe
cells:
  - {method: [Standard, Gaussian], arch: cnn2c2f}
  - {method: {SmoothAdv: {T: 2}}, arch: cnn2c2f, recipe: *recipe}
  - {method: SmoothMix, arch: [cnn2c2f, resnet20], seed: [1, 2], recipe: [*recipe, {epochs: 2, batch_size: 32, lr: 1}]}
  - {method: CRT, arch: cnn2c2f, teacher: {arch: resnet20, method: SmoothAdv, recipe: *recipe}}
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "m.yaml"
    path.write_text(HERE)
    return path


def cells(path: Path, *overrides: str) -> list:
    return [
        {"id": cell.id} | cell.model_dump() for cell in read_manifest(path, networks=False, overrides=overrides).cells
    ]


SET = {
    "dataset=cifar10": [("dataset: digits", "dataset: cifar10")],
    "threat.sigma=1/2": [("sigma: 0.25", "sigma: 0.5")],
    "threat.eps=8/255": [("sigma: 0.25", "sigma: 0.25, eps: 8/255")],
    "images=": [("images: 128\n", "")],
    "seed=3": [("seed: [1, 2]", "seed: 3"), ("images: 128", "images: 128\nseed: 3")],
    "seed=[3, 4]": [("seed: [1, 2]", "seed: [3, 4]"), ("images: 128", "images: 128\nseed: [3, 4]")],
    "recipe.epochs=3": [
        ("recipe: *recipe\ncells", "recipe: {epochs: 3, batch_size: 64, lr: 0.1}\ncells"),
        ("cnn2c2f, recipe: *recipe", "cnn2c2f, recipe: {epochs: 3, batch_size: 64, lr: 0.1}"),
        ("[*recipe, {epochs: 2", "[{epochs: 3, batch_size: 64, lr: 0.1}, {epochs: 3"),
    ],
    "cells.0.recipe.epochs=3": [("Gaussian], ", "Gaussian], recipe: {epochs: 3, batch_size: 64, lr: 0.1}, ")],
    "cells[2].recipe[1].epochs=3": [("epochs: 2", "epochs: 3")],
    "cells.0.seed=1": [("Gaussian], ", "Gaussian], seed: 1, ")],
    "cells.2.method=Gaussian": [("method: SmoothMix", "method: Gaussian")],
    "method.eps=0.5": [("{T: 2}", "{T: 2, eps: 0.5}")],
    "method.T=3": [("{T: 2}", "{T: 3}"), ("method: SmoothMix", "method: {SmoothMix: {T: 3}}")],
    "method.SmoothMix.T=3": [("method: SmoothMix", "method: {SmoothMix: {T: 3}}")],
    "cells.1.method.SmoothAdv.m=2": [("{T: 2}", "{T: 2, m: 2}")],
    "teacher.method.m=2": [("method: SmoothAdv, recipe", "method: {SmoothAdv: {m: 2}}, recipe")],
    "teacher.recipe.epochs=1": [
        ("method: SmoothAdv, recipe: *recipe", "method: SmoothAdv, recipe: {epochs: 1, batch_size: 64, lr: 0.1}")
    ],
    "evals.n=500": [("n: 1000", "n: 500")],
    "evals.Smoothing.n=500": [("n: 1000", "n: 500")],
    "evals.0.every=2": [("[Clean", "[Clean: {every: 2}")],
    "evals.images=2": [("[Clean", "[Clean: {images: 2}"), ("images: 4", "images: 2")],
    "evals=[Clean]": [(", Smoothing: {n: 1000, images: 4}", "")],
}  # fmt: skip


@pytest.mark.parametrize("words", SET)
def test_a_value_that_is_set_gives_the_cells_of_the_file_that_says_so(file, words):
    before, found = cells(file), cells(file, words)
    text = HERE
    for old, new in SET[words]:
        assert old in text
        text = text.replace(old, new, 1)
    file.write_text(text)
    assert found == cells(file) != before


def test_values_are_set_one_after_another(file):
    assert cells(file, "seed=3", "recipe.epochs=3", "seed=4") == cells(file, "recipe.epochs=3", "seed=4")
    assert read_manifest(file, networks=False, overrides=["title=other"]).title == "other"


REFUSED = {
    "method.eps=x": ["--set method.eps=x: cells[1].method.SmoothAdv.eps: 'x': a number is needed, such as 0.25"],
    "method.SmoothAdv.epsi=1": ["cells[1].method.SmoothAdv.epsi: unknown key (allowed: T, m, eps, warmup, update)"],
    "method.epsi=1": ["--set method.epsi=1: nothing takes it (allowed: SmoothAdv.T, SmoothAdv.m, "],
    "method.SAT.eps=1": ["--set method.SAT.eps=1: nothing takes it (allowed: SmoothAdv.T"],
    "method=Standrad": ["--set method=Standrad: cells[0].method: unknown name 'Standrad' (allowed: ARD, AdaAD, BCP, "],
    "recip.epochs=1": ["--set recip.epochs=1: recip: unknown key (allowed: title, baseline, "],
    "recipe.epoch=1": ["--set recipe.epoch=1: cells[0].recipe.epoch: unknown key (allowed: epochs, "],
    "recipe.epochs=0": ["--set recipe.epochs=0: cells[0].recipe.epochs: 0: Input should be greater than or equal to 1"],
    "seed.x=1": ["--set seed.x=1: x: no key of 1 (allowed: the whole value)"],
    "teacher.cell.x=1": ["--set teacher.cell.x=1: "],
    "evals.PGD.steps=1": ["--set evals.PGD.steps=1: nothing takes it (allowed: Clean.every, Clean.images, Smoothing."],
    "cells.9.seed=1": ["--set cells.9.seed=1: no item 9 (allowed: 0 to 3)"],
    "cells.0.sed=1": ["--set cells.0.sed=1: cells[0].sed: unknown key (allowed: "],
    "cells=3": ["--set cells=3: cells: 3 (allowed: a list of at least one cell)"],
    "nothing": ["--set nothing: no place and value (allowed: PLACE=VALUE, such as recipe.epochs=3)"],
    "=1": ["--set =1: no place and value"],
    "seed..=1": ["--set seed..=1: no place and value"],
    "seed=[0, 1": ["--set seed=[0, 1, line 1: ", "(allowed: plain YAML)"],
    "seed=!!python/name:os.system": ["--set seed=!!python/name:os.system, line 1: ", "(allowed: plain YAML)"],
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_wrong_value_is_refused_with_the_option_and_what_is_allowed(file, tmp_path, words):
    options = ["--set", "images=64", "--set", words, "--set", "title=other"]
    result = CliRunner().invoke(submit.app, [str(file), *options, "--runs", str(tmp_path / "runs"), "--dry-run"])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {file}: --set {words}: "[:-2]) and result.stderr.count("\n") == 1
    for word in REFUSED[words]:
        assert word in result.stderr


def test_a_mistake_of_the_file_is_not_blamed_on_an_option(file):
    file.write_text(HERE.replace("Gaussian", "Gausian"))
    with pytest.raises(ValueError, match=rf"^{file}: cells\[0\]\.method: unknown name 'Gausian'"):
        read_manifest(file, overrides=["seed=3"])
    assert read_manifest(file, networks=False, overrides=["cells.0.method=Gaussian"]).cells


def test_blocks_that_share_an_anchor_are_changed_apart(file):
    read = read_manifest(file, networks=False, overrides=["cells.1.recipe.epochs=7"])
    assert [cell.recipe.epochs for cell in read.cells if cell.method.name != "SmoothMix"] == [4, 4, 7, 4]


def test_a_teacher_that_is_a_cell_is_set_in_its_own_block(file):
    named = HERE.replace("{arch: resnet20, method: SmoothAdv, recipe: *recipe}", "{cell: a}").replace(
        "{T: 2}}, ", "{T: 2}}, name: a, "
    )
    file.write_text(named)
    with pytest.raises(
        ValueError, match=r"--set teacher\.recipe\.epochs=1: nothing takes it \(allowed: what is there\)$"
    ):
        cells(file, "teacher.recipe.epochs=1")
    assert cells(file, "cells.1.recipe.epochs=1")[-1]["teacher"]["recipe"]["epochs"] == 1


def test_every_command_finds_what_was_submitted_with_an_option(file, tmp_path):
    where = [str(file), "--runs", str(tmp_path / "runs"), "--set", "images=64", "--set", "threat.sigma=0.5"]
    (first, *_), changed = cells(file), cells(file, "images=64", "threat.sigma=0.5")
    shown = CliRunner().invoke(status.app, where)
    assert shown.exit_code == 0 and first["id"] not in shown.stdout, shown.output
    told = CliRunner().invoke(reports.app, where)
    assert told.exit_code == 0 and "--set images=64 --set threat.sigma=0.5" in told.stdout, told.output
    dry = CliRunner().invoke(submit.app, [*where, "--only", changed[0]["id"], "--dry-run"])
    assert dry.exit_code == 0, dry.output
