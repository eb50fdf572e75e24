"""Manifests: the product, teachers, identities, and every mistake refused with its place."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench.manifest import Manifest, read_manifest
from bench.manifest.plugin_spec import spec
from bench.submit import app
from crt.archs.convnet import cnn2c2f
from crt.data import DATASETS
from crt.models.classifier import Classifier
from crt.plugins import plugins
from crt.threat import Threat

ROOT = Path(__file__).parents[1]
HEAD = """
dataset: cifar10
threat: {sigma: 0.25}
recipe: {epochs: 2, batch_size: 64, lr: 0.1}
arch: resnet20
"""


def read(tmp_path: Path, text: str, quick: bool = False) -> Manifest:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    return read_manifest(path, quick)


@pytest.mark.parametrize("path", sorted((ROOT / "manifests").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_manifest_reads(path):
    assert read_manifest(path).cells
    assert path.read_text().startswith("# ")


# Some: a quick reading counts the operations of every network, which takes seconds each.
@pytest.mark.parametrize("name", ["quickstart", "overhead", "scaling", "table4", "table14", "table15"])
def test_manifests_read_quick(name):
    path = ROOT / "manifests" / f"{name}.yaml"
    full, manifest = read_manifest(path), read_manifest(path, quick=True)
    assert [c.arch for c in manifest.cells] == [c.arch for c in full.cells]
    assert not {c.id for c in manifest.cells} & {c.id for c in full.cells}


def test_a_quick_run_rounds_only_what_is_whole(tmp_path):
    # 5 of 20 epochs. The defaults of some methods are written as whole numbers, and are none.
    cells = read(
        tmp_path,
        """
dataset: digits
threat: {sigma: 0.25, eps: 0.25}
recipe: {epochs: 20, batch_size: 64, lr: 0.1}
arch: cnn2c2f
cells: [{method: [LMT, CROWNIBP, {SmoothAdv: {warmup: 6}}, {SmoothAdv: {warmup: 1}}]}]
""",
        quick=True,
    ).cells
    found = [[cell.method.args[key] for key in cell.build_method().epochs_of] for cell in cells]
    assert found == [[2.5, 30.25], [2.5, 30.25], [2], [1]]


def test_a_quick_batch_is_no_larger_than_its_images(tmp_path):
    text = HEAD.replace("resnet20", "wideresnet34_10").replace("batch_size: 64", "batch_size: 1024")
    (cell,) = read(tmp_path, text + "cells: [{method: Standard}]", quick=True).cells
    assert cell.images == cell.recipe.batch_size == 64


def test_product_runs_over_the_axes_in_order(tmp_path):
    text = (
        HEAD.replace("arch: resnet20", "arch: [resnet20, dla]")
        + "cells: [{method: [Standard, Gaussian], seed: [0, 1]}]"
    )
    cells = read(tmp_path, text).cells
    assert [(c.arch, c.method.name, c.seed) for c in cells] == [
        (arch, method, seed) for arch in ("resnet20", "dla") for method in ("Standard", "Gaussian") for seed in (0, 1)
    ]
    assert len({c.id for c in cells}) == 8


def test_teacher_has_the_id_of_the_cell_that_trains_it(tmp_path):
    recipe = "{epochs: 1, batch_size: 64, lr: 0.1}"
    cells = read(
        tmp_path,
        HEAD
        + f"""
evals: [Clean]
cells:
  - {{method: SmoothMix, recipe: {recipe}, paper: {{acr: 0.5}}}}
  - {{method: CRT, seed: 3, teacher: {{arch: resnet20, method: SmoothMix, recipe: {recipe}}}}}
""",
    ).cells
    assert cells[1].teacher.id == cells[0].id
    assert (cells[0].wave, cells[1].wave) == (0, 1)


def test_identity_is_sensitive_to_what_determines_weights_and_to_nothing_else(tmp_path):
    def one(extra: str) -> str:
        return read(tmp_path, HEAD + f"cells: [{{method: SmoothMix{extra}}}]").cells[0].id

    same = one("")
    assert one(", evals: [Clean]") == one(", paper: {acr: 0.5}") == one(", seed: 0") == same
    assert read(tmp_path, HEAD + "cells: [{method: {SmoothMix: {T: 4}}}]").cells[0].id == same
    assert read(tmp_path, HEAD + "cells: [{method: {SmoothMix: {T: 5}}}]").cells[0].id != same
    for change in (", seed: 1", ", threat: {sigma: 0.5}", ", loader: torch", ", images: 640", ", pipeline: plain"):
        assert one(change) != same


def test_numbers_as_people_write_them(tmp_path):
    cell = read(
        tmp_path,
        HEAD.replace("0.25", "8/255") + "cells: [{method: Standard, recipe: {epochs: 2, batch_size: 64, lr: 1e-4}}]",
    ).cells[0]
    assert cell.threat.sigma == 8 / 255
    assert cell.recipe.lr == 1e-4


MISTAKES = {
    "unknown top key": (HEAD + "cels: []", ["manifest.cels", "cells"]),
    "unknown cell key": (HEAD + "cells: [{method: Standard, epoch: 3}]", ["cells[0].epoch", "allowed", "recipe"]),
    "unknown method": (HEAD + "cells: [{method: Standrad}]", ["cells[0].method", "'Standrad'", "Standard"]),
    "unknown arch": (HEAD + "cells: [{method: Standard, arch: cnn_smal}]", ["cells[0].arch", "'cnn_smal'", "cnn2c2f"]),
    "unknown dataset": (
        HEAD + "cells: [{method: Standard, dataset: cifar}]",
        ["cells[0].dataset", "'cifar'", "digits"],
    ),
    "unknown loader": (HEAD + "cells: [{method: Standard, loader: dali}]", ["cells[0].loader", "'dali'", "ffcv"]),
    "unknown argument": (HEAD + "cells: [{method: {SmoothMix: {temprature: 1}}}]", ["SmoothMix.temprature", "alpha"]),
    "unknown eval": (
        HEAD + "cells: [{method: Standard, evals: [Smooth]}]",
        ["cells[0].evals[0]", "'Smooth'", "Smoothing"],
    ),
    "unknown recipe key": (HEAD + "cells: [{method: Standard, recipe: {epoch: 3}}]", ["recipe.epoch", "epochs"]),
    "missing recipe key": (
        HEAD + "cells: [{method: Standard, recipe: {epochs: 3, lr: 1}}]",
        ["recipe.batch_size", "required"],
    ),
    "wrong type": (HEAD + "cells: [{method: {SmoothMix: {T: many}}}]", ["SmoothMix.T", "'many'"]),
    "negative": (HEAD + "cells: [{method: Standard, threat: {sigma: -1}}]", ["threat.sigma", "-1", "greater"]),
    "nan": (HEAD + "cells: [{method: Standard, threat: {sigma: .nan}}]", ["threat.sigma", "nan", "finite"]),
    "infinite": (HEAD + "cells: [{method: {SmoothMix: {eta: .inf}}}]", ["SmoothMix.eta", "inf", "finite"]),
    "boolean": (HEAD + "cells: [{method: Standard, threat: {sigma: true}}]", ["threat.sigma", "True", "number"]),
    "sexagesimal": (HEAD + "cells: [{method: Standard, seed: 10:00:00}]", ["seed", "'10:00:00'", "number"]),
    "half an epoch": (
        HEAD + "cells: [{method: Standard, recipe: {epochs: 1.5, batch_size: 8, lr: 1}}]",
        ["epochs", "1.5"],
    ),
    "no teacher": (HEAD + "cells: [{method: CRT}]", ["cells[0].teacher", "missing", "CRT"]),
    "useless teacher": (
        HEAD + "cells: [{method: Standard, teacher: {arch: resnet20, method: Gaussian, recipe: {}}}]",
        ["cells[0].teacher"],
    ),
    "unknown teacher": (HEAD + "cells: [{method: CRT, teacher: {cell: x}}]", ["cells[0].teacher.cell", "'x'"]),
    "teacher cycle": (
        HEAD + "cells: [{name: a, method: CRT, teacher: {cell: b}}, {name: b, method: CRT, teacher: {cell: a}}]",
        ["cycle", "a <- b <- a"],
    ),
    "same cell": (HEAD + "cells: [{method: Standard}, {method: Standard, seed: 0}]", ["cells[1]", "same", "cells[0]"]),
    "same name": (HEAD + "cells: [{method: Standard, name: a}, {method: Gaussian, name: a}]", ["cells[1].name", "'a'"]),
    "a name that is no word": (
        HEAD + "cells: [{method: Standard, name: [a]}]",
        ["cells[0].name: ['a'] (allowed: a word)"],
    ),
    "no cells": (HEAD, ["cells", "list"]),
    "cells no list": (HEAD + "cells: 3", ["cells", "3"]),
    "cell no mapping": (HEAD + "cells: [3]", ["cells[0]", "3", "mapping"]),
    "empty axis": (HEAD + "cells: [{method: []}]", ["cells[0].method", "empty"]),
    "empty": ("", ["empty"]),
    "only a list": ("- 1", ["mapping"]),
    "broken": ("cells: [", ["line"]),
    "tab": ("a:\n\t- 1", ["line 2"]),
    "twice the key": ("title: a\ntitle: b", ["line", "'title'", "twice"]),
    "code": ("title: !!python/object/apply:os.system ['true']", ["line 1", "python/object"]),
    "baseline not there": (
        HEAD + "baseline: Gaussian\ncells: [{method: Standard}]",
        ["baseline", "'Gaussian'", "Standard"],
    ),
    "timing, no baseline": (HEAD + "timing: {runs: 2}\ncells: [{method: Standard}]", ["baseline", "missing"]),
    "a timed epoch without a whole step": (
        HEAD + "timing: {images: 63}\nbaseline: Standard\ncells: [{method: Standard}]",
        ["timing.images: 63 (allowed: at least 64, the largest batch)"],
    ),
    "timing, wrong": (
        HEAD + "timing: {runs: 0}\nbaseline: Standard\ncells: [{method: Standard}]",
        ["timing.runs", "0"],
    ),
    "ranks": (HEAD + "cells: [{method: Standard, ranks: 3}]", ["batch_size", "64", "3 ranks"]),
    "chunks": (HEAD + "cells: [{method: {SmoothMix: {m: 65}}}]", ["cells[0].method", "65"]),
    "too many images": (HEAD + "cells: [{method: Standard, images: 50001}]", ["cells[0].images", "50000"]),
    "milestones": (
        HEAD + "cells: [{method: Standard, recipe: {epochs: 2, batch_size: 8, lr: 1, schedule: multistep}}]",
        ["milestones"],
    ),
    "paper list": (HEAD + "cells: [{method: [Standard, Gaussian], paper: {acr: [1]}}]", ["paper.acr", "2"]),
    "smoothing without noise": (
        HEAD + "cells: [{method: Standard, threat: {}, evals: [Smoothing]}]",
        ["evals[0].Smoothing", "sigma"],
    ),
    "half an image": (
        HEAD + "cells: [{method: Standard, evals: [Clean: {images: 1.5}]}]",
        ["evals[0].Clean.images: 1.5", "integer"],
    ),
    "every no number": (
        HEAD + "cells: [{method: Standard, evals: [Clean, Clean: {every: -1}]}]",
        ["evals[1].Clean.every: -1", "greater"],
    ),
    "images of another size": (
        HEAD + "cells: [{method: Standard, dataset: imagenet, arch: cnn2c2f}]",
        ["cells[0].arch: 'cnn2c2f' does not take images of imagenet, 3x224x224 (allowed: dla, imagenet_alexnet, "],
    ),
    "images too small": (
        HEAD + "cells: [{method: Standard, arch: imagenet_alexnet}]",
        ["cells[0].arch: 'imagenet_alexnet' does not take images of cifar10, 3x32x32 (allowed: cnn2c2f, "],
    ),
    "a teacher for images of another size": (
        HEAD.replace("cifar10", "restricted_imagenet")
        + "cells: [{method: CRT, teacher: {arch: vgg11, method: Standard, recipe: {epochs: 1, batch_size: 8, lr: 1}}}]",
        ["cells[0].teacher.arch: 'vgg11' does not take images of restricted_imagenet, 3x224x224"],
    ),
    "weights for images of another size": (
        HEAD.replace("cifar10", "imagenet")
        + f"cells: [{{method: CRT, teacher: {{arch: vgg11, weights: {__file__}}}}}]",
        ["cells[0].teacher.arch: 'vgg11' does not take images of imagenet"],
    ),
    "a batch of more than all images": (
        HEAD + "cells: [{method: Standard, recipe: {epochs: 1, batch_size: 50001, lr: 1}}]",
        ["cells[0].recipe.batch_size: 50001 (allowed: at most 50000, the training images)\n"],
    ),
    "a batch of more than the images": (
        HEAD + "cells: [{method: Standard, images: 10}]",
        ["cells[0].recipe.batch_size: 64 (allowed: at most 10, the training images); recipe is the one at the top"],
    ),
    "a milestone after the end": (
        HEAD.replace("0.1}", "0.1, schedule: multistep, milestones: [1, 2]}") + "cells: [{method: Standard}]",
        ["cells[0].recipe.milestones: 2 (allowed: below 2, the epochs)"],
    ),
    "a number for a list": (
        HEAD
        + "cells: [{method: Standard, recipe: {epochs: 2, batch_size: 8, lr: 1, schedule: multistep, milestones: 1}}]",
        ["cells[0].recipe.milestones: 1: Input should be a list\n"],
    ),
    "arguments of what takes none": (
        HEAD + "cells: [{method: {Gaussian: {sigma: 3}}}]",
        ["cells[0].method.Gaussian.sigma: unknown key (allowed: none, for it takes no arguments)"],
    ),
    "an argument of what takes none": (
        HEAD + "cells: [{method: {Gaussian: 3}}]",
        ["cells[0].method.Gaussian: 3 (allowed: none, for it takes no arguments)"],
    ),
    "a teacher where no cell has a name": (
        HEAD + "cells: [{method: CRT, teacher: {cell: x}}]",
        ["cells[0].teacher.cell: 'x' (allowed: none, for no cell has a name)"],
    ),
    "a mistake at the top": (
        HEAD.replace("epochs: 2", "epoch: 2") + "cells: [{method: Standard}]",
        ["cells[0].recipe.epoch: unknown key", "); recipe is the one at the top of the file\n"],
    ),
    "n too small": (HEAD + "cells: [{method: Standard, evals: [Smoothing: {n: 5}]}]", ["Smoothing", "abstain"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_one_message_and_exit_code_2(tmp_path, name):
    text, words = MISTAKES[name]
    path = tmp_path / "m.yaml"
    path.write_text(text)
    result = CliRunner().invoke(app, [str(path), "--runs", str(tmp_path / "runs"), "--data", str(tmp_path)])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(f"error: {path}")
    for word in words:
        assert word in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_binary_missing_and_folder_are_refused(tmp_path):
    binary = tmp_path / "m.yaml"
    binary.write_bytes(bytes(range(256)))
    for path, word in ((binary, "text"), (tmp_path / "none.yaml", "No such file"), (tmp_path, "directory")):
        with pytest.raises(ValueError, match=word):
            read_manifest(path)


def test_dry_run_needs_no_data_and_writes_nothing(tmp_path):
    result = CliRunner().invoke(
        app,
        [
            str(ROOT / "manifests/table3.yaml"),
            "--dry-run",
            "--runs",
            str(tmp_path / "r"),
            "--data",
            str(tmp_path / "d"),
        ],
    )
    assert result.exit_code == 0
    assert "warning" in result.stderr and "crt.data.beton" in result.stderr
    assert list(tmp_path.iterdir()) == []


GIVEN = """
dataset: digits
loader: device
pipeline: plain
threat: {sigma: 0.25}
recipe: {epochs: 1, batch_size: 32, lr: 0.1}
images: 64
cells: [{method: CRT, arch: cnn2c2f, teacher: {weights: FILE, arch: cnn2c2f}}]
"""


def given(tmp_path, file, **more) -> Manifest:
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    (tmp_path / "m.yaml").write_text(GIVEN.replace("FILE, arch: cnn2c2f", f"{file}, arch: cnn2c2f{extra}"))
    return read_manifest(tmp_path / "m.yaml")


def test_a_teacher_from_elsewhere_is_known_by_the_content_of_its_file(tmp_path, digits):
    model = Classifier(*cnn2c2f(), 10, DATASETS["digits"].mean, DATASETS["digits"].std)
    torch.save({"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, tmp_path / "a.pt")
    (cell,) = given(tmp_path, tmp_path / "a.pt").cells
    (tmp_path / "a.pt").rename(tmp_path / "b.pt")
    assert given(tmp_path, tmp_path / "b.pt").cells[0].id == cell.id and cell.wave == 0 and not cell.lineage
    where = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--data", str(digits)]
    done = CliRunner().invoke(app, [*where, "--launcher", "inline"])
    assert done.exit_code == 0 and (tmp_path / "runs" / cell.id / "model.pt").exists(), done.output
    other = Classifier(*cnn2c2f(), 7, DATASETS["digits"].mean, DATASETS["digits"].std)
    torch.save(other.state_dict(), tmp_path / "b.pt")
    given(tmp_path, tmp_path / "b.pt")
    refused = CliRunner().invoke(app, [*where[:2], str(tmp_path / "none"), *where[3:], "--launcher", "inline"])
    assert refused.exit_code == 2 and "b.pt" in refused.stderr and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"sha256": "0" * 64}, "teacher.sha256"),
        ({"normalize": 1}, "teacher.normalize: 1"),
        ({"epochs": 1}, "teacher.epochs: unknown key"),
    ],
)
def test_a_teacher_that_is_not_what_was_meant_is_refused(tmp_path, more, words):
    (tmp_path / "a.pt").write_bytes(b"weights")
    with pytest.raises(ValueError, match=words):
        given(tmp_path, tmp_path / "a.pt", **more)
    with pytest.raises(ValueError, match="missing"):
        given(tmp_path, tmp_path / "none.pt")


@pytest.mark.parametrize("package", ["crt.methods", "crt.evals"])
def test_what_is_said_as_it_is_by_default_is_the_same(package):
    for name in plugins(package):
        for norm in ("l2", "linf"):
            threat = Threat(norm=norm, eps=0.5, sigma=0.25)
            try:
                unsaid = spec(package, name, threat, "here")
            except ValueError:
                continue
            said = {key: value for key, value in unsaid.args.items() if value is not None}
            # YAML has 10 where an argument's default may be 10.0.
            said = {key: int(v) if isinstance(v, float) and v.is_integer() else v for key, v in said.items()}
            again = spec(package, {name: said}, threat, "here")
            assert (again.id, again.label) == (unsaid.id, unsaid.label)
            types = {key: type(value) for key, value in unsaid.args.items()}
            assert types == {key: type(value) for key, value in again.args.items()}, name


def test_a_named_cell_of_several_seeds_teaches_students_of_the_same_seeds(tmp_path):
    teacher = "{method: SmoothMix, name: mix, seed: [0, 1]}"
    cells = read(tmp_path, HEAD + f"cells: [{teacher}, {{method: CRT, teacher: {{cell: mix}}, seed: [1, 0]}}]").cells
    assert [(cell.seed, cell.teacher.seed) for cell in cells[2:]] == [(1, 1), (0, 0)]
    assert [cell.teacher.id for cell in cells[2:]] == [cells[1].id, cells[0].id]
    one = read(
        tmp_path, HEAD + "cells: [{method: SmoothMix, name: mix}, {method: CRT, teacher: {cell: mix}, seed: [4]}]"
    )
    assert one.cells[1].teacher.seed == 0
    with pytest.raises(ValueError, match=r"cells\[1\]\.teacher\.cell: 'mix' has no seed 2 \(allowed: 0, 1\)"):
        read(tmp_path, HEAD + f"cells: [{teacher}, {{method: CRT, teacher: {{cell: mix}}, seed: 2}}]")
    with pytest.raises(ValueError, match=r"cells\[0\]\.name: 'mix' names 4 cells \(allowed: one, or one per seed\)"):
        read(tmp_path, HEAD + "cells: [{method: SmoothMix, name: mix, seed: [0, 1], arch: [resnet20, resnet18]}]")
