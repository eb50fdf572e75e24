"""The tables, figures and ablations of the Duet paper: every one reads, bears the printed figures, has the recipes."""

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.build.networks import network
from bench.cell import Cell
from bench.manifest import read_manifest
from bench.manifest.manifest import Manifest
from crt.training.recipe import EXACT, Recipe

FOLDER = Path(__file__).parents[1] / "manifests"
EPS = 36 / 255

# How many cells each has, and how many of them are trained to the end.
CELLS = {
    "table1": (5, 5),
    "table2": (5, 5),
    "table3": (11, 0),
    "figure2": (4, 4),
    "a1": (17, 17),
    "a2": (36, 36),
    "a3": (9, 9),
    "a4": (24, 24),
    "a5": (6, 6),
    "a6": (6, 6),
    "a7": (6, 6),
    "a8": (8, 8),
    "a9": (24, 24),
    "ablations": (27, 27),
}
PRINTED = ("table1", "table2", "table3", "figure2")
ABLATIONS = tuple(name for name in CELLS if name not in PRINTED)


@cache
def read(name: str) -> Manifest:
    return read_manifest(FOLDER / f"duet/{name}.yaml")


def row(name: str, method: str, arch: str = "cnn6c2f", stored: int = 0) -> Cell:
    """The one cell of a manifest with these features."""
    found = [
        cell
        for cell in read(name).cells
        if (cell.method.name, cell.arch) == (method, arch) and cell.method.args.get("stored", stored) == stored
    ]
    assert len(found) == 1, (name, method, arch, len(found))
    return found[0]


def test_all_are_there():
    assert {path.stem for path in (FOLDER / "duet").glob("*.yaml")} == set(CELLS)


@pytest.mark.parametrize("name", CELLS)
def test_reads_and_says_how_it_is_used(name):
    path, full = FOLDER / f"duet/{name}.yaml", read(name)
    assert (len(full.cells), len(full.trained)) == CELLS[name]
    head = path.read_text().partition("title:")[0].splitlines()
    assert all(line.startswith("# ") for line in head)
    assert "Duet" in head[0]
    assert f"# python -m bench.submit manifests/duet/{path.name}" in head
    assert any(line.startswith(f"# python -m reports      manifests/duet/{path.name}") for line in head)
    assert any(line.startswith("# Expect") for line in head)
    assert max(map(len, path.read_text().splitlines())) <= 120


@pytest.mark.parametrize("name", CELLS)
def test_threat_and_pixels(name):
    for cell in read(name).cells:
        assert (cell.dataset, cell.pipeline, cell.threat.norm) == ("cifar10", "duet", "l2")
        assert cell.threat.eps == pytest.approx(EPS) or name == "a9"
        assert cell.select == "last"


# Section 3 (LMT, BCP, Duet), section 6 (LocalBCP), section 7.6 (the teacher), section 7.7 (ablations).
ADAM = Recipe(
    epochs=200,
    batch_size=128,
    optimizer="adam",
    lr=1e-3,
    schedule="multistep",
    factor=0.5,
    milestones=(140, 150, 160, 170, 180, 190),
)
LOCAL = Recipe(epochs=800, batch_size=256, optimizer="adam", lr=1e-3, schedule="geometric", decay_from=424, lr_min=1e-6)
SGD = Recipe(epochs=200, batch_size=128, lr=0.1, schedule="cosine", nesterov=True, weight_decay=5e-4)
SHORT = ADAM.model_copy(update={"epochs": 60, "milestones": (42, 45, 48, 51, 54, 57)})


def test_steps_are_as_published():
    assert [ADAM.lr_at(epoch) for epoch in (139.9, 140, 199)] == pytest.approx([1e-3, 5e-4, 1.5625e-5])
    assert [LOCAL.lr_at(epoch) for epoch in (424, 611.5, 799)] == pytest.approx([1e-3, 1e-3 * 1e-3**0.5, 1e-6])


@pytest.mark.parametrize("name", PRINTED)
def test_recipes_are_the_authors(name):
    for cell in {one.id: one for c in read(name).cells for one in (c, *c.lineage)}.values():
        method, args = cell.method.name, cell.method.args
        if method == "Standard":
            assert cell.recipe == (SGD if cell.arch == "cnn6c2f_bn" else ADAM)
        elif method == "LocalBCP":
            assert cell.recipe == LOCAL
            assert (args["warmup"], args["ramp"], args["widening"], args["power_iterations"]) == (20, 400, 1.1, 2)
        else:
            assert cell.recipe == ADAM
            assert (args["warmup"], args["ramp"], args["kappa_final"], args["power_iterations"]) == (10, 121, 0, 1)
    duet = row(name, "Duet")
    wanted = {"similarity": "eq11", "lbd": 0.1, "rotation": "normalized", "rank": 0.5, "inputs": "own"}
    assert {key: duet.method.args[key] for key in wanted} == wanted
    # A student does not begin with its teacher's weights.
    assert (duet.seed, duet.teacher.seed, duet.teacher.arch) == (0, 100, "cnn6c2f_bn")


# Typed from the print: architecture, clean, PGD, certified, seconds, GB.
TABLES = [
    ("LMT", "cnn6c2f", 63.1, 58.3, 38.1, 569, 8),
    ("BCP", "cnn6c2f", 65.7, 60.8, 51.3, 14.8, 3.2),
    ("LocalBCP", "cnn6c2f_relutheta", 70.7, 64.8, 54.3, 67.8, 40.3),
    ("Duet", "cnn6c2f", 69.46, 61.8, 50.37, 38.5, 5.1),
]
BOUNDS = {"LMT": "global", "BCP": "box", "LocalBCP": "local", "Duet": "box"}


@pytest.mark.parametrize(("method", "arch", "clean", "robust", "certified", "seconds", "memory"), TABLES)
def test_tables_2_and_3(method, arch, clean, robust, certified, seconds, memory):
    cell = row("table2", method, arch)
    assert (cell.paper.clean, cell.paper.robust, cell.paper.certified) == (clean, robust, {EPS: certified})
    assert [spec.name for spec in cell.evals] == ["PGD", "Lipschitz", "Lipschitz"]
    pgd, *proofs = cell.evals
    assert (pgd.args["steps"], pgd.args["alpha"], pgd.args["restarts"]) == (100, pytest.approx(EPS / 4), 1)
    assert [(p.args["bounds"], p.args["norms"]) for p in proofs] == [
        (BOUNDS[method], "fft_upper"),
        (BOUNDS[method], "power_iteration"),
    ]
    # LocalBCP's authors keep the vectors of all training images.
    timed = row("table3", method, arch, stored=50_000).paper
    assert (timed.s_per_epoch, timed.memory_gb) == (seconds, memory)


def test_other_figures_are_the_printed_ones():
    assert row("table2", "Standard", "cnn6c2f_bn").paper.clean == 90.06
    smaller = [row("table3", "LocalBCP", f"cnn{plan}_relutheta", stored=50_000) for plan in ("4c2f", "4c3f")]
    assert [(cell.paper.s_per_epoch, cell.paper.memory_gb) for cell in smaller] == [(45.8, 21), (None, None)]


# Typed from the print: similarity in percent, Lipschitz constant.
LIKENESS = [("LMT", 51.6, 19.9), ("BCP", 70.3, 5.5), ("LocalBCP", 77.8, 3.8), ("Duet", 95.6, 7.8)]


@pytest.mark.parametrize(("method", "similarity", "lipschitz"), LIKENESS)
def test_table_1(method, similarity, lipschitz):
    paper = row("table1", method, next(arch for name, arch, *_ in TABLES if name == method)).paper
    assert (paper.similarity, paper.lipschitz) == (similarity, lipschitz)


def test_tables_share_their_networks():
    ids = {name: {cell.id for cell in read(name).cells} for name in ("table1", "table2", "figure2")}
    assert ids["table1"] == ids["table2"] and ids["figure2"] < ids["table2"]
    assert row("figure2", "Duet").teacher.id == row("table2", "Standard", "cnn6c2f_bn").id


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_have_one_short_schedule_and_one_teacher(name):
    teachers = set()
    for cell in read(name).cells:
        teachers |= {one.id for one in cell.lineage}
        if cell.method.name == "Standard":
            assert (cell.arch, cell.seed, cell.recipe) == ("cnn4c3f_bn", 100, SGD)
            continue
        assert cell.recipe == SHORT and cell.seed in ((0, 1, 2, 100) if name in ("a1", "a8") else (0, 1, 2))
        assert (cell.method.args["warmup"], cell.method.args["ramp"]) == (3, 36)
    assert teachers == {row("a1", "Standard", "cnn4c3f_bn").id}


VARIED = {
    "a2": {
        (similarity, through, weight)
        for similarity, through in [("eq11", False), ("eq11", True), ("relative", False), ("cosine", False)]
        for weight in (0.01, 0.1, 1.0)
    },
    "a3": {("normalized",), ("polar",), ("rank_one",)},
    "a4": {(rank, project) for rank in (0.0, 0.25, 0.5, 1.0) for project in (True, False)},
    "a5": {("own",), ("shared",)},
    "a6": {(True,), (False,)},
    "a7": {("all",), ("convs",)},
}
KEYS = {
    "a2": "similarity through_norms lbd",
    "a3": "rotation",
    "a4": "rank project",
    "a5": "inputs",
    "a6": "scaled",
    "a7": "layers",
}


@pytest.mark.parametrize("name", VARIED)
def test_ablations_vary_what_they_say(name):
    found: dict[tuple, list[int]] = {}
    for cell in read(name).cells:
        found.setdefault(tuple(cell.method.args[key] for key in KEYS[name].split()), []).append(cell.seed)
    assert found == {key: [0, 1, 2] for key in VARIED[name]}


def test_further_ablations_change_one_thing_each():
    changes: dict[str, list[int]] = {}
    for cell in read("ablations").cells:
        changes.setdefault(cell.method.label, []).append(cell.seed)
    words = [
        "BCP(warmup=3, ramp=36)",
        *(
            f"Duet({change}warmup=3, ramp=36{more})"
            for change, more in [
                ("similarity=eq11, rotation=normalized, ", ""),
                ("similarity=eq11, rotation=normalized, directions=8, ", ""),
                ("similarity=eq11, rotation=block, directions=8, ", ""),
                ("similarity=eq11, rotation=normalized, layers=body, ", ""),
                ("similarity=eq11, rotation=normalized, start=teacher, ", ""),
                ("similarity=logits, rotation=normalized, ", ""),
                ("similarity=logits, lbd=1, rotation=normalized, ", ""),
                ("similarity=logits, lbd=10, rotation=normalized, ", ""),
            ]
        ),
    ]
    assert changes == {label: [0, 1, 2] for label in words}


def test_the_teachers_seed_alone_begins_with_its_weights():
    for cell in [cell for cell in read("a8").cells if cell.teacher]:
        mine, taught = (
            [m.weight for m in network(one).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
            for one in (cell, cell.teacher)
        )
        same = [torch.equal(a, b) for a, b in zip(mine, taught, strict=True)]
        assert same == [cell.seed == 100] * 7


def test_control_is_bcp_of_smaller_radii_and_of_lasting_clean_loss():
    found: dict[tuple, list[int]] = {}
    for cell in read("a9").cells:
        key = (cell.method.name, round(cell.threat.eps / EPS, 6), cell.method.args["kappa_final"])
        found.setdefault(key, []).append(cell.seed)
        pgd, proof = cell.evals
        # What is judged is the same of all, whatever they were trained for.
        assert pgd.args["eps"] == proof.args["eps"] == pytest.approx(EPS) and proof.args["bounds"] == "box"
    kinds = [("BCP", share, 0.0) for share in (0.7, 0.8, 0.9, 1.0)] + [("BCP", 1.0, k) for k in (0.1, 0.25, 0.5)]
    assert found == {key: [0, 1, 2] for key in [*kinds, ("Duet", 1.0, 0.0)]}


def test_every_method_of_the_paper_stands_in_one_manifest():
    whole = read_manifest(FOLDER / "lipschitz.yaml")
    methods = {"Standard", "LMT", "BCP", "LocalBCP", "GloRo", "Duet", "CROWNIBP"}
    for ranks in (1, 2):
        assert {c.method.name for c in whole.cells if c.ranks == ranks} == methods
    assert {c.method.name for c in whole.trained} == methods and len(whole.cells) == 14
    judged = {c.method.name: [s.args.get("bounds", s.name) for s in c.evals if s.name != "PGD"] for c in whole.trained}
    others = {"Standard": ["global"], "GloRo": ["global"], "CROWNIBP": ["CROWN"]}
    assert judged == {method: [bounds] for method, bounds in BOUNDS.items()} | others
    recipes = {c.method.name: c.recipe for c in whole.cells}
    assert recipes.pop("LocalBCP") == LOCAL.model_copy(update=EXACT)
    assert recipes.pop("GloRo") == LOCAL.model_copy(update=EXACT | {"decay_from": 400})
    assert set(recipes.values()) == {ADAM.model_copy(update=EXACT)}


def test_limits_of_crt():
    teacher, student = read_manifest(FOLDER / "limits.yaml").cells
    assert (teacher.method.name, teacher.arch, teacher.recipe, teacher.paper.acr) == (
        "CROWNIBP",
        "cnn4c3f",
        ADAM,
        0.064,
    )
    assert (student.method.name, student.arch, student.paper.acr) == ("CRT", "wideresnet34_10", 0.065)
    assert student.teacher.id == teacher.id
    assert {spec.args["n"] for cell in (teacher, student) for spec in cell.evals} == {100_000}


def test_a_quick_store_is_small():
    quick = read_manifest(FOLDER / "duet/table3.yaml", quick=True)
    assert {c.method.args["stored"] for c in quick.cells if c.method.name == "LocalBCP"} == {0, 1000}


def test_reads_quick():
    full, quick = read("figure2"), read_manifest(FOLDER / "duet/figure2.yaml", quick=True)
    assert [(c.arch, c.method.name) for c in quick.cells] == [(c.arch, c.method.name) for c in full.cells]
    # The epochs that methods count are as much shorter as training is, so that the radius rises within it.
    assert all(c.method.args["warmup"] + c.method.args["ramp"] < c.recipe.epochs for c in quick.cells)
    assert not {c.id for c in quick.cells} & {c.id for c in full.cells}
