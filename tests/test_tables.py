"""The tables of the CRT paper: every one reads, bears the figures as printed, and shares its networks with others."""

from functools import cache
from itertools import product
from pathlib import Path

import pytest

from bench.cell import Cell
from bench.manifest import read_manifest
from bench.manifest.manifest import Manifest

FOLDER = Path(__file__).parents[1] / "manifests"

# How many cells each table has.
CELLS = {1: 6, 2: 10, 3: 7, 4: 11, 5: 3, 6: 9, 7: 9, 8: 7, 9: 7, 10: 6, 11: 4, 12: 9, 13: 4, 14: 3, 15: 5}
R20, R110, EXT, DLA, REG, VIT = "resnet20", "resnet110", "resnext29", "dla", "regnetx_200mf", "vit"
I18, I50, IREG = "imagenet_resnet18", "imagenet_resnet50", "imagenet_regnetx_4gf"
SM = f"{R110} SmoothMix"
CON = f"{R110} Consistency"


@cache
def table(number: int) -> Manifest:
    return read_manifest(FOLDER / f"table{number}.yaml")


def row(
    number: int,
    arch: str,
    method: str,
    teacher: str | None = None,
    sigma: float | None = None,
    target: str = "logits",
) -> Cell:
    """The one cell of a table; `teacher` is `architecture method` of the nearest one."""
    found = [
        c
        for c in table(number).cells
        if (c.arch, c.method.name) == (arch, method)
        and (teacher is None or f"{c.teacher.arch} {c.teacher.method.name}" == teacher)
        and (sigma is None or c.threat.sigma == sigma)
        and c.method.args.get("target", target) == target
    ]
    assert len(found) == 1, (number, arch, method, teacher, sigma, [c.id for c in found])
    return found[0]


def test_all_fifteen_are_there():
    there = {path.name for path in FOLDER.glob("table*.yaml")}
    assert there == {f"table{number}.yaml" for number in CELLS} and len(CELLS) == 15


@pytest.mark.parametrize("number", CELLS)
def test_reads_and_says_how_it_is_used(number):
    path, full = FOLDER / f"table{number}.yaml", table(number)
    assert len(full.cells) == CELLS[number]
    head = path.read_text().partition("title:")[0].splitlines()
    assert all(line.startswith("# ") for line in head)
    assert head[0].startswith(f"# Table {number} of the CRT paper")
    assert f"# python -m bench.submit manifests/{path.name}" in head
    assert f"# python -m reports      manifests/{path.name}" in head
    assert any(line.startswith("# Expect") for line in head)
    assert max(map(len, path.read_text().splitlines())) <= 120


def test_reads_quick():
    """One of the cheapest: a quick reading counts every network's operations. test_manifest.py reads others."""
    full, quick = table(15), read_manifest(FOLDER / "table15.yaml", quick=True)
    assert [(c.arch, c.method, c.paper) for c in quick.cells] == [(c.arch, c.method, c.paper) for c in full.cells]
    assert not {c.id for c in quick.cells} & {c.id for c in full.cells}


SIGMA = {7: 0.5, 8: 0.5, 9: 1.0, 14: 0.5}


@pytest.mark.parametrize("number", CELLS)
def test_noise_data_and_images_judged(number):
    for cell in table(number).cells:
        assert cell.threat.norm == "l2" and cell.threat.eps == 0 and cell.seed == 0 and cell.ranks == 1
        if number == 10:
            assert cell.threat.sigma in (0.25, 0.5, 1.0)
        else:
            assert cell.threat.sigma == SIGMA.get(number, 0.25)
        assert cell.dataset == ("imagenet" if number in (7, 14) else "cifar10")
        assert all(teacher.threat == cell.threat for teacher in cell.lineage)
        if number in (1, 4):
            assert cell.evals == ()
            continue
        # Table 5 trains a teacher that it prints no figure of.
        for spec in cell.evals if (number, cell.arch) != (5, R20) else ():
            assert (spec.name, spec.args["n0"], spec.args["n"], spec.args["alpha"]) == ("Smoothing", 100, 100_000, 1e-3)
            judged = spec.indices(50_000 if cell.dataset == "imagenet" else 10_000)
            assert list(judged)[:2] == ([0, 100] if cell.dataset == "imagenet" else [0, 1])
            assert len(judged) == (500 if cell.dataset == "imagenet" else 10_000)
        assert len(cell.evals) == ((number, cell.arch) != (5, R20))


# As many radii as were printed follow from the sigma.
RADII = {0.25: 4, 0.5: 8, 1.0: 10}
ACR_ALONE = (6, 7, 14)
PRINTED = {
    1: lambda c: {"total"} if c.method.name in ("SmoothAdv", "MACER", "SmoothMix") else set(),
    4: lambda c: {"s_per_epoch", "hours"} if c.method.name != "Standard" else set(),
    5: lambda c: {"acr", {"SmoothMix": "hours", "CRT": "hours_with_teacher"}[c.method.name]} if c.evals else set(),
    15: lambda c: {"acr", "hours"},
}


@pytest.mark.parametrize("number", CELLS)
def test_no_cell_lacks_a_figure_that_was_printed(number):
    for cell in table(number).cells:
        paper = cell.paper.model_dump(exclude_none=True)
        radii = paper.pop("certified")
        assert set(paper) == PRINTED.get(number, lambda c: {"acr"})(cell), cell.id
        certified = number not in (1, 4, *ACR_ALONE) and (number, cell.arch) != (5, R20)
        expected = RADII[cell.threat.sigma] if certified else 0
        assert list(radii) == [0.25 * k for k in range(expected)], cell.id
        percents = list(radii.values())
        assert percents == sorted(percents, reverse=True) and all(0 < p < 100 for p in percents)
        if percents:
            # The mean radius is the area under a falling curve, which lies between its two staircases.
            least = 0.25 * sum(percents[1:]) / 100
            rest = 3.8115 * cell.threat.sigma - max(radii)
            most = (0.25 * sum(percents[:-1]) + rest * percents[-1]) / 100
            assert least < paper["acr"] < most, cell.id


def _radius(printed: str) -> dict[float, float]:
    return {0.25 * k: float(percent) for k, percent in enumerate(printed.split())}


# Typed from the print: table, architecture, method, nearest teacher, sigma, the certified accuracies, ACR.
ROWS = [
    (2, DLA, "SmoothMix", None, 0.25, "77.72 68.53 57.69 45.56", 0.551),
    (2, REG, "CRT", SM, 0.25, "77.89 69.57 59.36 47.28", 0.564),
    (3, DLA, "CRT", f"{EXT} CRT", 0.25, "78.46 70.05 60.01 48.30", 0.570),
    (3, REG, "CRT", f"{DLA} CRT", 0.25, "78.16 69.00 58.69 47.00", 0.559),
    (5, R110, "SmoothMix", None, 0.25, "76.89 68.25 57.42 46.26", 0.550),
    (5, R110, "CRT", f"{R20} SmoothMix", 0.25, "75.68 67.20 56.30 44.83", 0.540),
    (8, EXT, "SmoothMix", None, 0.5, "63.90 56.81 48.80 40.79 33.29 27.24 20.80 14.60", 0.687),
    (8, DLA, "CRT", SM, 0.5, "65.23 58.33 51.23 44.04 37.09 30.47 24.39 18.37", 0.743),
    (9, REG, "SmoothMix", None, 1.0, "47.32 42.87 38.25 33.33 29.17 25.80 21.99 18.51 15.66 13.05", 0.743),
    (9, EXT, "CRT", SM, 1.0, "48.03 43.41 38.56 33.15 28.92 25.29 21.43 18.40 15.03 12.20", 0.728),
    (10, VIT, "SmoothMix", None, 0.5, "50.56 43.87 37.20 30.55 24.55 19.41 14.78 10.43", 0.515),
    (10, VIT, "CRT", SM, 0.25, "69.63 56.60 42.29 28.45", 0.415),
    (10, VIT, "CRT", SM, 1.0, "41.76 37.19 32.55 28.43 24.67 20.89 17.48 14.91 12.29 9.79", 0.610),
    (11, R110, "SmoothMix", None, 0.25, "78.22 69.23 58.71 46.61", 0.559),
    (11, EXT, "SmoothMix", None, 0.25, "77.22 66.72 55.06 42.43", 0.528),
    (12, REG, "Consistency", None, 0.25, "75.48 66.76 55.96 43.76", 0.534),
    (12, VIT, "Consistency", None, 0.25, "60.52 52.17 42.87 34.08", 0.416),
    (12, VIT, "CRT", CON, 0.25, "73.00 64.50 53.69 42.33", 0.515),
    (13, EXT, "CRT", CON, 0.25, "75.72 68.46 58.85 47.30", 0.557),
    (13, VIT, "CRT", f"{REG} CRT", 0.25, "74.42 66.18 55.94 44.88", 0.535),
    (15, R110, "Gaussian", None, 0.25, "81.41 67.75 49.67 32.37", 0.486),
    (15, VIT, "Gaussian", None, 0.25, "48.77 32.70 18.78 8.98", 0.211),
]
FIGURES = [
    (1, R110, "SmoothAdv", None, {"total": 46.20}),
    (1, R110, "MACER", None, {"total": 20.86}),
    (1, R110, "SmoothMix", None, {"total": 4.97}),
    (4, R110, "SmoothMix", None, {"s_per_epoch": 455.55, "hours": 18.98}),
    (4, EXT, "SmoothMix", None, {"s_per_epoch": 1085.09, "hours": 45.21}),
    (4, DLA, "CRT", SM, {"s_per_epoch": 62.24, "hours": 3.46}),
    (5, R110, "SmoothMix", None, {"hours": 18.98}),
    (5, R110, "CRT", f"{R20} SmoothMix", {"hours_with_teacher": 10.07}),
    (6, R20, "MACER", None, {"acr": 0.507}),
    (6, R110, "CRT", f"{R20} SmoothAdv", {"acr": 0.519}),
    (6, R110, "CRT", f"{R20} MACER", {"acr": 0.528}),
    (6, R110, "CRT", f"{R20} SmoothMix", {"acr": 0.540}),
    (6, R110, "SmoothAdv", None, {"acr": 0.547}),
    (7, I18, "SmoothAdv", None, {"acr": 0.684}),
    (7, I50, "CRT", f"{I18} MACER", {"acr": 0.576}),
    (7, I50, "CRT", f"{I18} SmoothMix", {"acr": 0.661}),
    (7, I50, "MACER", None, {"acr": 0.653}),
    (14, I50, "SmoothMix", None, {"acr": 0.799}),
    (14, IREG, "CRT", f"{I50} SmoothMix", {"acr": 0.788}),
    (14, IREG, "SmoothMix", None, {"acr": 0.877}),
    (15, EXT, "Gaussian", None, {"hours": 4.55}),
    (15, VIT, "Gaussian", None, {"hours": 4.78}),
]


@pytest.mark.parametrize(("number", "arch", "method", "teacher", "sigma", "certified", "acr"), ROWS)
def test_certified_accuracies_are_the_printed_ones(number, arch, method, teacher, sigma, certified, acr):
    paper = row(number, arch, method, teacher, sigma).paper
    assert (paper.certified, paper.acr) == (_radius(certified), acr)


@pytest.mark.parametrize(("number", "arch", "method", "teacher", "figures"), FIGURES)
def test_other_figures_are_the_printed_ones(number, arch, method, teacher, figures):
    paper = row(number, arch, method, teacher).paper.model_dump()
    assert {key: paper[key] for key in figures} == figures


def test_hours_are_the_printed_seconds_times_the_recipe_s_epochs():
    for cell in table(4).cells:
        if cell.paper.hours:
            assert cell.paper.s_per_epoch * cell.recipe.epochs / 3600 == pytest.approx(cell.paper.hours, abs=0.006)


# The recipes of the paper's Table 16: epochs, batch size, step size, where it falls.
STEPS = {
    "SmoothAdv": (150, 256, 0.1, (50, 100)),
    "MACER": (440, 64, 0.01, (200, 400)),
    "SmoothMix": (150, 256, 0.1, (50, 100)),
    "Consistency": (150, 256, 0.1, (50, 100)),
    "Gaussian": (200, 128, 0.1, (100, 150)),
    "Standard": (200, 128, 0.1, (100, 150)),
    "CRT": (200, 128, 0.1, (100, 150)),
}
IMAGENET = {"MACER": (120, 256, 0.1, (30, 60, 90))}
# Its Table 17, by data and sigma where they bear on it.
ARGUMENTS = {
    "SmoothAdv": {"m": 8, "T": 10, "eps": 1.0},
    "MACER": {"k": 16, "lbd": 12, "beta": 16, "gamma": 8},
    "Consistency": {"m": 2, "lbd": 20, "eta": 0.5},
    "CRT": {"alpha": 1.0},
    "SmoothMix 0.25": {"T": 4, "m": 2, "eta": 5, "alpha": 0.5, "mix_step": 0},
    "SmoothMix 0.5": {"T": 4, "m": 2, "eta": 5, "alpha": 1.0, "mix_step": 0},
    "SmoothMix 1.0": {"T": 4, "m": 2, "eta": 5, "alpha": 2.0, "mix_step": 0},
    "imagenet SmoothAdv": {"m": 1, "T": 1, "eps": 1.0},
    "imagenet MACER": {"k": 2, "lbd": 3, "beta": 16, "gamma": 8},
    "imagenet SmoothMix": {"T": 1, "m": 1, "eta": 1, "alpha": 8.0, "mix_step": 0},
}


@pytest.mark.parametrize("number", CELLS)
def test_recipes_and_parameters_are_the_printed_ones(number):
    for cell in {one.id: one for c in table(number).cells for one in (c, *c.lineage)}.values():
        method, imagenet = cell.method.name, cell.dataset == "imagenet"
        expected = IMAGENET.get(method, (90, 400, 0.1, (30, 60))) if imagenet else STEPS[method]
        if number == 11:
            expected = STEPS["CRT"]
        if cell.arch == VIT and method in ("SmoothMix", "Consistency"):
            expected = (*expected[:2], 0.01, expected[3])
        recipe = cell.recipe
        assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.milestones) == expected, cell.id
        assert (recipe.momentum, recipe.weight_decay, recipe.precision) == (0.9, 1e-4, "fp32"), cell.id
        asked = (f"imagenet {method}", f"{method} {cell.threat.sigma}", method)[0 if imagenet else 1 :]
        arguments = next((ARGUMENTS[key] for key in asked if key in ARGUMENTS), {})
        assert {key: cell.method.args[key] for key in arguments} == arguments, cell.id


# A network of several tables, and which: as a cell, or (t) as a teacher alone.
SHARED = {
    (R110, "Standard", 0.25): "1 4",
    (R110, "Gaussian", 0.25): "1 15",
    (R110, "SmoothAdv", 0.25): "1 6",
    (R110, "MACER", 0.25): "1 6",
    (R110, "SmoothMix", 0.25): "1 2 3 4 5 6 10t",
    (R20, "SmoothMix", 0.25): "1t 5 6",
    (EXT, "SmoothMix", 0.25): "2 3 4",
    (DLA, "SmoothMix", 0.25): "2 3 4",
    (REG, "SmoothMix", 0.25): "2 3 4",
    (R110, "SmoothMix", 0.5): "8 10t",
    (R110, "SmoothMix", 1.0): "9 10t",
    (R110, "Consistency", 0.25): "12 13t",
    (I50, "SmoothMix", 0.5): "7 14",
    (R110, "CRT", 0.25, f"{R20} SmoothMix"): "1 5 6",
    (EXT, "CRT", 0.25, SM): "2 3 4",
    (DLA, "CRT", 0.25, SM): "2 4",
    (REG, "CRT", 0.25, SM): "2 4",
    (EXT, "CRT", 0.25, CON): "12 13",
}


def _owners() -> dict[str, dict[int, tuple[bool, Cell]]]:
    """By network, the tables it is in, and whether as a cell of its own."""
    found: dict[str, dict[int, tuple[bool, Cell]]] = {}
    for number in CELLS:
        for cell in table(number).cells:
            for one in cell.lineage:
                found.setdefault(one.id, {}).setdefault(number, (False, one))
        for cell in table(number).cells:
            found.setdefault(cell.id, {})[number] = (True, cell)
    return found


def _kind(cell: Cell) -> tuple:
    teacher = (f"{cell.teacher.arch} {cell.teacher.method.name}",) if cell.teacher else ()
    return (cell.arch, cell.method.name, cell.threat.sigma, *teacher)


def test_a_network_of_several_tables_is_one_network():
    found = {
        _kind(next(iter(tables.values()))[1]): " ".join(f"{n}{'' if own else 't'}" for n, (own, _) in tables.items())
        for tables in _owners().values()
        if len(tables) > 1
    }
    assert found == SHARED


def test_networks_that_only_look_alike_stay_apart():
    # SmoothMix by its own recipe and by CRT's; students of one teacher and of a chain.
    for arch in (R110, EXT, DLA, REG):
        assert row(2, arch, "SmoothMix").id != row(11, arch, "SmoothMix").id
    for (direct, chain), arch in product([(2, 3), (12, 13)], [DLA, REG]):
        assert row(direct, arch, "CRT").id != row(chain, arch, "CRT").id
    assert row(12, VIT, "CRT").id != row(10, VIT, "CRT", sigma=0.25).id


def test_chains_are_as_long_as_printed():
    students = {n: [c for c in table(n).cells if c.teacher] for n in (3, 13)}
    lineages = {n: [[t.arch for t in c.lineage] for c in cells] for n, cells in students.items()}
    assert lineages[3] == [[R110], [EXT, R110], [DLA, EXT, R110]]
    assert lineages[13] == [*lineages[3], [REG, DLA, EXT, R110]]
    assert {c.lineage[-1].method.name for c in students[3]} == {"SmoothMix"}
    assert {c.lineage[-1].method.name for c in students[13]} == {"Consistency"}


def test_table_3_has_the_first_teacher_and_each_student_s_rival():
    for arch in (R110, EXT, DLA, REG):
        mine, theirs = (row(number, arch, "SmoothMix") for number in (3, 2))
        assert (mine.id, mine.paper) == (theirs.id, theirs.paper)


def test_both_readings_of_crt_stand_beside_the_same_figures():
    for arch in (EXT, DLA, REG):
        code, paper = (row(2, arch, "CRT", target=target) for target in ("logits", "softmax"))
        assert code.paper == paper.paper and code.id != paper.id and code.teacher == paper.teacher


def test_table_4_has_the_printed_uncertainties_and_means():
    """Typed from the print: half-widths of the intervals, means over the students, and the hours of all three."""
    printed = {(c.method.name, c.arch): c.paper.s_per_epoch.plus_minus for c in table(4).cells if c.paper.s_per_epoch}
    smoothmix = {R110: 1.17, EXT: 0.50, DLA: 0.09, REG: 0.51}
    crt = {EXT: 0.11, DLA: 0.40, REG: 0.30}
    assert printed == {("SmoothMix", a): w for a, w in smoothmix.items()} | {("CRT", a): w for a, w in crt.items()}
    (means,) = table(4).published.comparisons
    assert (means.epoch_ratio, means.training_ratio, means.hours_saved) == (10.75, 8.06, 87.84)
    assert (means.slower_hours, means.faster_hours) == (96.21, 11.70)
    # The printed means follow from the printed seconds.
    pairs = [(row(4, arch, "SmoothMix"), row(4, arch, "CRT", SM)) for arch in crt]
    per_epoch = [slow.paper.s_per_epoch / fast.paper.s_per_epoch for slow, fast in pairs]
    assert sum(per_epoch) / 3 == pytest.approx(10.75, abs=0.005)
    longer = [
        ratio * slow.recipe.epochs / fast.recipe.epochs for ratio, (slow, fast) in zip(per_epoch, pairs, strict=True)
    ]
    assert sum(longer) / 3 == pytest.approx(8.06, abs=0.005)
