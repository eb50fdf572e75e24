"""The tables and figures of the RRM paper: every one reads, bears the printed figures, and has the authors' recipes."""

import re
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cell import Cell
from bench.manifest import read_manifest
from bench.manifest.manifest import Manifest
from bench.submit import app
from crt.training.recipe import Recipe

FOLDER = Path(__file__).parents[1] / "manifests"

# How many cells each has, and how many of them are trained to the end.
CELLS = {
    "table1": (7, 6),
    "table2": (9, 9),
    "table3": (6, 4),
    "table8": (13, 13),
    "table9": (11, 0),
    "table10": (8, 0),
    "figure2": (36, 36),
    "figure3": (11, 0),
    "figure4": (14, 14),
    "figure5": (8, 8),
}
R50, DNN, V11, V19, R18 = "resnet50_512", "dnn", "vgg11", "vgg19", "resnet18"
I50, IALEX, IV16 = "imagenet_resnet50", "imagenet_alexnet", "imagenet_vgg16"
LINF, L2, L2_3 = ("linf", 8 / 255), ("l2", 1.0), ("l2", 3.0)


@cache
def read(name: str) -> Manifest:
    return read_manifest(FOLDER / f"rrm/{name}.yaml")


def every(*names: str) -> list[Cell]:
    """Each network of the manifests once, teachers included."""
    found = [one for name in names or CELLS for cell in read(name).cells for one in (cell, *cell.lineage)]
    return list({cell.id: cell for cell in found}.values())


def row(name: str, arch: str, method: str, teacher: str | None = None, **more) -> Cell:
    """The one cell of a manifest with these features."""
    wanted = {
        "norm": lambda c: c.threat.norm,
        "epochs": lambda c: c.recipe.epochs,
        "form": lambda c: c.method.args["form"],
    }
    found = [
        cell
        for cell in read(name).cells
        if (cell.arch, cell.method.name, cell.teacher and cell.teacher.arch) == (arch, method, teacher)
        and all(wanted[key](cell) == value for key, value in more.items())
    ]
    assert len(found) == 1, (name, arch, method, teacher, more, len(found))
    return found[0]


def test_all_ten_are_there():
    assert {path.stem for path in (FOLDER / "rrm").glob("*.yaml")} == set(CELLS)


@pytest.mark.parametrize("name", CELLS)
def test_reads_and_says_how_it_is_used(name):
    path, full = FOLDER / f"rrm/{name}.yaml", read(name)
    assert (len(full.cells), len(full.trained)) == CELLS[name]
    head = path.read_text().partition("title:")[0].splitlines()
    assert all(line.startswith("# ") for line in head)
    kind, number = re.fullmatch("([a-z]+)([0-9]+)", name).groups()
    assert head[0].startswith(f"# {kind.capitalize()} {number} of the RRM paper")
    assert f"# python -m bench.submit manifests/rrm/{path.name}" in head
    assert any(line.startswith(f"# python -m reports      manifests/rrm/{path.name}") for line in head)
    assert any(line.startswith("# Expect") for line in head)
    assert max(map(len, path.read_text().splitlines())) <= 120


# Of each manifest: steps and restarts of its attack; none of a timing study.
ATTACKS = {
    "table1": (50, 10),
    "table2": (50, 10),
    "figure2": (50, 10),
    **dict.fromkeys(("table3", "table8", "figure4", "figure5"), (20, 5)),
    **dict.fromkeys(("table9", "table10", "figure3")),
}


@pytest.mark.parametrize("name", CELLS)
def test_threat_data_and_attack(name):
    for cell in read(name).cells:
        threat = (cell.threat.norm, cell.threat.eps)
        if cell.dataset == "restricted_imagenet":
            assert (cell.pipeline, threat, cell.arch.startswith("imagenet_")) == ("rrm-imagenet", L2_3, True)
        else:
            assert cell.dataset == "cifar10"
            assert (cell.pipeline, threat) in [("rrm-linf", LINF), ("rrm-l2", L2)]
        for one in cell.lineage:
            assert (one.dataset, one.pipeline, one.threat) == (cell.dataset, cell.pipeline, cell.threat)
        judged = [(e.name, e.args["steps"], e.args["restarts"], e.images, e.every) for e in cell.evals]
        wanted = ATTACKS[name] and cell.method.name != "Standard"
        assert judged == ([("AutoPGD", *ATTACKS[name], None, 1)] if wanted else [])
        assert cell.ranks == 1 and cell.seed in ((0, 1, 2) if name == "figure2" else (0,))


# Of section 6 of the code's and paper's settings, by (dataset, norm, method).
STEPS = {"schedule": "multistep", "milestones": (50, 100)}
SAT = Recipe(epochs=150, batch_size=128, lr=0.1, weight_decay=5e-4, **STEPS)
CYCLIC = {"batch_size": 128, "schedule": "cyclic", "cycle_momentum": True, "weight_decay": 5e-4, "precision": "fp16"}
COSINE = {"batch_size": 128, "lr": 0.1, "schedule": "cosine", "lr_min": 1e-6}
LATE = Recipe(epochs=100, batch_size=128, lr=0.1, weight_decay=5e-5, schedule="multistep", milestones=(65, 90))
IMAGENET = Recipe(epochs=150, batch_size=128, lr=0.01, weight_decay=1e-4, schedule="multistep", milestones=(125,))
RECIPES = {
    ("cifar10", "linf", "Standard"): [SAT],
    ("cifar10", "linf", "SAT"): [SAT],
    ("cifar10", "l2", "SAT"): [SAT],
    ("cifar10", "linf", "PGD7Fast"): [Recipe(epochs=40, lr=0.2, **CYCLIC)],
    # Passes of 8 replays: 96 and 48 epochs; the two others are figure 2's.
    ("cifar10", "linf", "FreeAT"): [Recipe(epochs=n, lr=0.04, **CYCLIC) for n in (12, 6, 3, 9)],
    ("cifar10", "linf", "RRM"): [
        Recipe(epochs=n, weight_decay=5e-4, precision="fp16", **COSINE) for n in (48, 24, 72, 96)
    ],
    ("cifar10", "l2", "RRM"): [Recipe(epochs=48, weight_decay=5e-5, **COSINE)],
    ("cifar10", "l2", "KD"): [LATE],
    ("cifar10", "l2", "RDT"): [LATE],
    ("restricted_imagenet", "l2", "Standard"): [IMAGENET],
    ("restricted_imagenet", "l2", "SAT"): [IMAGENET],
    ("restricted_imagenet", "l2", "RRM"): [
        Recipe(epochs=60, batch_size=128, lr=0.1, weight_decay=5e-5, schedule="multistep", milestones=(35, 50))
    ],
}
ARGUMENTS = {
    ("cifar10", "linf", "RRM"): {"lbd": 5e-3, "distance": "cosine", "replays": 1},
    ("cifar10", "l2", "RRM"): {"lbd": 5e-5, "distance": "cosine", "replays": 1},
    ("restricted_imagenet", "l2", "RRM"): {"lbd": 1e-3, "distance": "relative", "replays": 1},
    ("cifar10", "l2", "RDT"): {"steps": 1000, "step": 0.1},
    ("cifar10", "linf", "FreeAT"): {"m": 8, "reset": False},
}


def _kind(cell: Cell) -> tuple[str, str, str]:
    return cell.dataset, cell.threat.norm, cell.method.name


@pytest.mark.parametrize("name", CELLS)
def test_recipes_and_arguments_are_the_authors(name):
    for cell in every(name):
        kind = _kind(cell)
        allowed = RECIPES[kind] if name == "figure2" else RECIPES[kind][: 2 if kind[2] == "FreeAT" else 1]
        assert cell.recipe in allowed, cell.id
        for key, value in ARGUMENTS.get(kind, {}).items():
            if (name, key) != ("figure4", "lbd"):
                assert cell.method.args[key] == value, cell.id
        if kind[2] in ("SAT", "PGD7Fast"):
            assert cell.method.args["K"] == 7 and cell.method.args["alpha"] is None
        if kind[2] == "KD":
            assert (cell.method.args["alpha"], cell.method.args["t"]) == (1.0, 30.0)


def test_sat_alone_keeps_its_best_epoch_by_the_attack_it_trains_with():
    steps = {("linf", 8 / 255): 2 / 255, ("l2", 1.0): 0.2, ("l2", 3.0): 0.6}
    for cell in every(*(name for name in CELLS if read(name).trained)):
        if cell.method.name != "SAT":
            assert (cell.monitor, cell.select) == (None, "last"), cell.id
            continue
        (watched,) = cell.monitor.evals
        assert (cell.select, cell.monitor.every, cell.monitor.images) == ("best", 5, None)
        assert (watched.name, watched.args["steps"], watched.args["restarts"]) == ("PGD", 7, 1)
        assert watched.args["alpha"] == pytest.approx(steps[cell.threat.norm, cell.threat.eps])


def minutes(cell: Cell) -> float:
    return cell.paper.hours * 60


# Typed from the print: method, teacher, epochs of the recipe, seconds an epoch, minutes, clean, robust.
TABLE1 = [
    ("SAT", None, 150, 723.03, 1807.58, 85.50, 48.38),
    ("PGD7Fast", None, 40, 289.16, 192.77, 83.73, 50.47),
    ("FreeAT", None, 12, 36.58, 58.44, 77.74, 45.20),
    ("FreeAT", None, 6, 36.58, 29.22, 71.28, 41.53),
    ("RRM", V11, 48, 37.78, 30.22, 76.17, 49.30),
    ("RRM", R18, 48, 39.78, 31.82, 80.32, 48.67),
]


@pytest.mark.parametrize(("method", "teacher", "epochs", "seconds", "total", "clean", "robust"), TABLE1)
def test_table1(method, teacher, epochs, seconds, total, clean, robust):
    cell = row("table1", R50, method, teacher, epochs=epochs)
    assert (cell.paper.s_per_epoch, cell.paper.clean, cell.paper.robust) == (seconds, clean, robust)
    assert minutes(cell) == pytest.approx(total, abs=1e-9)
    # A replay is an epoch of the print, whose totals differ from its products by up to 0.1 minutes.
    assert minutes(cell) == pytest.approx(seconds * epochs * cell.replays / 60, abs=0.1)


TABLE2 = [
    ("SAT", None, {}, 82.97, 48.49),
    ("RDT", V11, {}, 74.61, 1.10),
    ("RDT", R18, {}, 80.47, 1.22),
    ("KD", V11, {"form": "textbook"}, 80.12, 20.89),
    ("KD", R18, {"form": "textbook"}, 83.72, 2.83),
    ("KD", V11, {"form": "paper"}, 80.12, 20.89),
    ("KD", R18, {"form": "paper"}, 83.72, 2.83),
    ("RRM", V11, {}, 78.53, 47.24),
    ("RRM", R18, {}, 80.80, 46.18),
]


@pytest.mark.parametrize(("method", "teacher", "more", "clean", "robust"), TABLE2)
def test_table2(method, teacher, more, clean, robust):
    paper = row("table2", R50, method, teacher, **more).paper
    assert (paper.clean, paper.robust, paper.hours) == (clean, robust, None)


# Minutes an epoch, hours, clean, robust, hours with the teacher (Tables 3 and 10).
TABLE3 = [
    (I50, "SAT", None, 101.49, 253.71, 95.47, 84.36, None),
    (IV16, "SAT", None, 160.01, 400.01, 92.40, 80.91, None),
    (I50, "RRM", IALEX, 13.66, 13.66, 88.19, 67.90, 46.69),
    (IV16, "RRM", IALEX, 33.30, 33.30, 87.86, 73.30, 66.33),
]


@pytest.mark.parametrize(("arch", "method", "teacher", "each", "hours", "clean", "robust", "taught"), TABLE3)
def test_tables_3_and_10(arch, method, teacher, each, hours, clean, robust, taught):
    paper, timed = row("table3", arch, method, teacher).paper, row("table10", arch, method, teacher).paper
    assert (paper.clean, paper.robust, timed.clean, timed.robust) == (clean, robust, None, None)
    for figures in (paper, timed):
        assert figures.s_per_epoch == pytest.approx(each * 60, abs=1e-9) and figures.hours == hours
    assert (paper.hours_with_teacher, timed.hours_with_teacher) == (None, taught)
    alexnet = row("table10", IALEX, "SAT").paper
    assert alexnet.hours == 33.03
    if taught:
        assert hours + alexnet.hours == pytest.approx(taught)


TABLE8 = [
    (DNN, "SAT", "l2", 59.95, 34.15),
    (V11, "SAT", "l2", 78.81, 46.08),
    (V19, "SAT", "l2", 74.64, 45.52),
    (R18, "SAT", "l2", 82.81, 48.99),
    (R50, "SAT", "l2", 82.97, 48.65),
    (V11, "PGD7Fast", "linf", 76.94, 44.11),
    (R18, "PGD7Fast", "linf", 82.60, 51.30),
    (R50, "SAT", "linf", 85.50, 49.60),
    (R50, "PGD7Fast", "linf", 83.73, 50.65),
    (R50, "FreeAT", "linf", 77.74, 45.41),
    (IALEX, "SAT", "l2", 87.67, 75.24),
    (IV16, "SAT", "l2", 92.40, 80.91),
    (I50, "SAT", "l2", 95.47, 84.36),
]


@pytest.mark.parametrize(("arch", "method", "norm", "clean", "robust"), TABLE8)
def test_table8(arch, method, norm, clean, robust):
    paper = row("table8", arch, method, norm=norm).paper
    assert (paper.clean, paper.robust) == (clean, robust)


@pytest.mark.parametrize("name", ["table9", "figure3"])
def test_table_9_and_figure_3(name):
    for teacher, own, student, total in [(V11, 27.69, 30.22, 57.91), (R18, 59.95, 31.82, 91.77)]:
        cell = row(name, R50, "RRM", teacher)
        assert minutes(cell) == pytest.approx(student)
        assert minutes(row(name, teacher, "PGD7Fast")) == pytest.approx(own)
        assert cell.paper.hours_with_teacher * 60 == pytest.approx(total) == own + student
        assert cell.teacher.id == row(name, teacher, "PGD7Fast").id


# Half-widths of the printed intervals, by method, teacher and epochs.
UNCERTAINTIES = {
    ("SAT", None, 150): 0.88,
    ("PGD7Fast", None, 40): 0.22,
    ("FreeAT", None, 12): 0.23,
    ("FreeAT", None, 6): 0.03,
    ("RRM", V11, 48): 0.09,
    ("RRM", R18, 48): 0.10,
}


@pytest.mark.parametrize("name", ["table1", "table9", "figure3"])
def test_times_have_the_printed_uncertainties(name):
    for (method, teacher, epochs), plus_minus in UNCERTAINTIES.items():
        assert row(name, R50, method, teacher, epochs=epochs).paper.s_per_epoch.plus_minus == plus_minus


@pytest.mark.parametrize("name", ["table9", "figure3"])
def test_table_9_and_figure3_have_the_times_of_table1(name):
    for method, teacher, epochs, seconds, total, *_ in TABLE1:
        paper = row(name, R50, method, teacher, epochs=epochs).paper
        assert paper.s_per_epoch == seconds and paper.hours * 60 == pytest.approx(total)


def test_figure2_is_three_trainings_of_each_length():
    lengths = [
        (c.method.name, c.teacher and c.teacher.arch, c.recipe.epochs * c.replays) for c in read("figure2").cells
    ]
    for each in [("FreeAT", None), ("RRM", V11), ("RRM", R18)]:
        assert sorted(n for *who, n in lengths if tuple(who) == each) == sorted([24, 48, 72, 96] * 3)
    assert {teacher.seed for cell in read("figure2").cells for teacher in cell.lineage} == {0}


def test_figure4_sweeps_lambda_for_two_teachers():
    swept = {
        arch: [c.method.args["lbd"] for c in read("figure4").cells if c.teacher.arch == arch] for arch in (V11, R18)
    }
    assert swept[V11] == swept[R18] == pytest.approx([5e-7, 5e-6, 5e-5, 5e-4, 5e-3, 5e-2, 5e-1])


def test_figure5():
    robust = {DNN: None, V11: 23.74, V19: 28.03, R18: 40.56, R50: 47.54}
    assert {arch: row("figure5", arch, "RRM", R50).paper.robust for arch in robust} == robust
    alexnet = row("figure5", IALEX, "RRM", I50).paper
    assert (alexnet.clean, alexnet.robust) == (78.11, 51.72)
    teachers = [row("figure5", R50, "SAT").paper, row("figure5", I50, "SAT").paper]
    assert [(p.clean, p.robust) for p in teachers] == [(82.97, 48.65), (95.47, 84.36)]


def test_a_network_of_several_tables_is_one_network():
    ids = {name: {one.id for cell in read(name).cells for one in (cell, *cell.lineage)} for name in CELLS}
    shared = {(a, b): len(ids[a] & ids[b]) for a in CELLS for b in CELLS if a < b and ids[a] & ids[b]}
    assert shared["table1", "table8"] == 5  # SAT, Fast AT and Free AT of ResNet50; two teachers.
    assert shared["table2", "table8"] == 3
    assert shared["table3", "table8"] == 3
    assert shared["figure5", "table8"] == 2
    assert shared["figure4", "table1"] == 4
    assert shared["figure2", "table1"] == 6


def test_dry_run(tmp_path):
    told = CliRunner().invoke(
        app, [str(FOLDER / "rrm/table9.yaml"), "--dry-run", "--launcher", "local", "--runs", str(tmp_path)]
    )
    assert told.exit_code == 0, told.output
    assert "table9" in told.output


def test_reads_quick():
    full, quick = read("table9"), read_manifest(FOLDER / "rrm/table9.yaml", quick=True)
    assert [(c.arch, c.method, c.paper) for c in quick.cells] == [(c.arch, c.method, c.paper) for c in full.cells]
    assert not {c.id for c in quick.cells} & {c.id for c in full.cells}


def test_every_method_of_the_paper_stands_in_one_manifest():
    whole = read_manifest(FOLDER / "adversarial.yaml")
    methods = {"Standard", "SAT", "PGD7Fast", "FGSMRS", "FreeAT", "RRM", "KD", "RDT"}
    for ranks in (1, 2):
        assert {c.method.name for c in whole.cells if c.ranks == ranks} == methods
    assert {c.method.name for c in whole.trained} == methods and len(whole.cells) == 16
    # One batch size and precision: nothing is timed but what is written.
    assert [len(study.arms) for study in whole.studies] == [8, 8]
    epochs = {c.method.name: c.recipe.epochs for c in whole.cells}
    assert epochs == {
        "Standard": 150, "SAT": 150, "PGD7Fast": 40, "FGSMRS": 15, "FreeAT": 12, "RRM": 48, "KD": 100, "RDT": 100,
    }  # fmt: skip
