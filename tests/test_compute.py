"""`compute: plain | exact | fastest` in manifests, and the switches that `plain` and `exact` stand for."""

import pickle
from pathlib import Path

import pytest
from golden.identities import PATHS
from typer.testing import CliRunner

from bench import submit
from bench.jobs import train
from bench.jobs.lease import JobPaths
from bench.manifest import read_manifest
from bench.manifest.labels import Names, compute
from bench.records import Epoch, read
from crt.data import LOADERS
from crt.training.recipe import EXACT, SWITCHES, Recipe

TEXT = """
title: t
dataset: digits
threat: {sigma: 0.25}
recipes:
  - &base {epochs: 6, batch_size: 8, lr: 0.1, compute: plain}
  - &merged {<<: *base, fold: true}
arch: cnn2c2f
cells:
  - {method: Standard, recipe: RECIPE}
"""
OTHERS = {"adversarial", "claims-digits", "lipschitz", "overhead", "quickstart", "scaling", "smoothing"}
"""Manifests that are no table of a paper."""
SPEED = {"speed", "speed-cpu"}
"""Manifests that compare switches."""


@pytest.fixture
def cells(tmp_path):
    """The cells of a manifest with this recipe, read with these options."""

    def make(recipe: str, **options):
        (tmp_path / "m.yaml").write_text(TEXT.replace("RECIPE", recipe))
        return read_manifest(tmp_path / "m.yaml", **options).cells

    return make


def on(recipe: Recipe) -> dict:
    return {
        key: getattr(recipe, key) for key in (*SWITCHES, "compute") if key in recipe.model_dump(exclude_defaults=True)
    }


@pytest.mark.parametrize(
    ("written", "switches"),
    [
        ("", EXACT),
        (", compute: exact", EXACT),
        (", compute: plain", {}),
        (", compute: exact, fold: false", {"channels_last": True, "fused": True}),
        (", fused: false", {"channels_last": True, "fold": True}),
        (", compute: plain, fold: true", {"fold": True}),
        (", compile: default", EXACT | {"compile": "default"}),
        (", compute: fastest", {"compute": "fastest"}),
        (", compute: fastest, precision: bf16", {"compute": "fastest"}),
    ],
)
def test_a_choice_stands_for_switches_and_those_written_beside_it_win(cells, written, switches):
    (cell,) = cells(f"{{epochs: 6, batch_size: 8, lr: 0.1{written}}}")
    assert on(cell.recipe) == switches


def test_switches_one_by_one_make_the_same_cell_as_exact(cells):
    ids = {
        cells(f"{{epochs: 6, batch_size: 8, lr: 0.1, {written}}}")[0].id
        for written in ("compute: exact", "channels_last: true, fused: true, fold: true", "momentum: 0.9")
    }
    assert len(ids) == 1


def test_a_plain_cell_has_the_id_of_a_recipe_without_the_key(cells):
    (cell,) = cells("{epochs: 6, batch_size: 8, lr: 0.1, compute: plain}")
    assert cell.recipe == Recipe(epochs=6, batch_size=8, lr=0.1)
    assert cell.recipe.model_dump(exclude_defaults=True) == {"epochs": 6, "batch_size": 8, "lr": 0.1}


def test_an_anchor_hands_its_choice_on(cells):
    (cell,) = cells("*merged")
    assert on(cell.recipe) == {"fold": True}
    (cell,) = cells("{<<: *base, compute: exact}")
    assert on(cell.recipe) == EXACT
    (cell,) = cells("{<<: *base, compute: fastest}")
    assert on(cell.recipe) == {"compute": "fastest"}


def test_every_recipe_of_a_list_has_its_choice_and_labels_tell_them_apart(cells):
    choices = ["plain", "exact", "fastest"]
    listed = cells(f"[{', '.join(f'{{<<: *base, compute: {choice}}}' for choice in choices)}, *merged]")
    assert [compute(cell.recipe) for cell in listed] == [*choices, "fold"]
    names = Names(listed)
    assert [names.label(cell) for cell in listed] == [f"Standard, {choice}" for choice in (*choices, "fold")]


def test_a_teacher_s_recipe_has_a_choice_of_its_own(cells):
    teacher = "{arch: cnn2c2f, method: Standard, recipe: TEACHER}"
    for written, switches in (("{epochs: 3, batch_size: 8, lr: 0.1}", EXACT), ("*base", {})):
        (cell,) = cells(f"*base, teacher: {teacher.replace('TEACHER', written)}", overrides=["method=KD"])
        assert on(cell.recipe) == {} and on(cell.teacher.recipe) == switches


def test_set_and_quick(cells):
    written = "{epochs: 6, batch_size: 8, lr: 0.1, fold: false}"
    (cell,) = cells(written, overrides=["recipe.compute=plain"])
    assert on(cell.recipe) == {}
    (cell,) = cells(written, overrides=["recipe.fold=true"])
    assert on(cell.recipe) == EXACT
    for choice, switches in (("exact", EXACT), ("plain", {}), ("fastest", {"compute": "fastest"})):
        (cell,) = cells("*base", overrides=[f"recipe.compute={choice}"], quick=True)
        assert cell.quick and on(cell.recipe) == switches


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("compute: fast", r"cells\[0\]\.recipe\.compute: 'fast' \(allowed: plain, exact, fastest\)"),
        ("compute: stated", r"cells\[0\]\.recipe\.compute: 'stated' \(allowed: plain, exact, fastest\)"),
        ("compute: [exact]", r"cells\[0\]\.recipe\.compute: \['exact'\] \(allowed: plain, exact, fastest\)"),
        ("compute: true", r"cells\[0\]\.recipe\.compute: True \(allowed: plain, exact, fastest\)"),
        ("compute: fastest, fold: false", r"cells\[0\]\.recipe: fold: false beside compute: fastest, which chooses it"),
        ("compute: fastest, compile: default", r"cells\[0\]\.recipe: compile: default beside compute: fastest"),
        ("fold: 2", r"cells\[0\]\.recipe\.fold: 2: "),
        ("milestones: [3]", r"cells\[0\]\.recipe: milestones belongs to schedule: multistep$"),
    ],
)
def test_refused(cells, written, said):
    with pytest.raises(ValueError, match=said):
        cells(f"{{epochs: 6, batch_size: 8, lr: 0.1, {written}}}")


@pytest.mark.parametrize("name", PATHS)
def test_papers_tables_are_plain_and_other_manifests_exact(name):
    manifest = read_manifest(PATHS[name], networks=False)
    found = {compute(each.recipe) for cell in manifest.cells for each in (cell, *cell.lineage)}
    if name == "speed-against":  # with a teacher as the authors' code has it
        assert found == {"plain", "exact"}
    elif name in SPEED:
        assert {"plain", "channels_last", "fused", "fold"} <= found and "fastest" not in found
    else:
        assert found == ({"exact"} if name in OTHERS or name.startswith("board/") else {"plain"})


def test_a_recipe_pickled_before_the_key_existed_is_as_it_was():
    recipe = Recipe(epochs=1, batch_size=1, lr=0.1, fold=True)
    state = recipe.__getstate__()
    del state["__dict__"]["compute"]
    old = Recipe.__new__(Recipe)
    old.__setstate__(state)
    assert old.compute == "stated" and pickle.loads(pickle.dumps(old)) == Recipe(
        epochs=1, batch_size=1, lr=0.1, fold=True
    )


@pytest.mark.parametrize("loader", LOADERS)
def test_exact_trains_as_plain_does_with_every_loader(tiny, digits, tmp_path, loader):
    if loader == "ffcv":
        pytest.importorskip("ffcv")
    losses = []
    for choice in ("plain", "exact"):
        (cell,) = tiny(loader=loader, compute=choice, epochs=2).cells
        train.run_cell(cell, JobPaths(runs=tmp_path / "runs", data=digits, process="shared"))
        records = read(tmp_path / "runs" / cell.id / "train.jsonl")
        losses.append([record.loss for record in records if isinstance(record, Epoch)])
    assert len(losses[0]) == 2 and losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_a_dry_run_says_how_fastest_is_estimated(tmp_path, digits):
    file = tmp_path / "m.yaml"
    for choice in ("exact", "fastest"):
        file.write_text(TEXT.replace("RECIPE", f"{{<<: *base, compute: {choice}}}"))
        places = ["--runs", str(tmp_path / "runs"), "--data", str(digits)]
        said = CliRunner().invoke(submit.app, [str(file), "--dry-run", "--launcher", "inline", *places])
        assert said.exit_code == 0, said.output
        assert ("compute: fastest is estimated as exact" in said.output) == (choice == "fastest")
    assert not Path(tmp_path / "runs").exists()
