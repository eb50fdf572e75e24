"""The boards of distillation, smoothing and Lipschitz bounds: every method of a family, with the same seeds."""

from functools import cache
from pathlib import Path

import pytest
from test_tables_duet import BOUNDS

from bench.manifest import read_manifest
from bench.manifest.labels import compute
from bench.manifest.manifest import Manifest

FOLDER = Path(__file__).parents[1] / "manifests" / "board"
METHODS = {
    "distillation": {"Standard", "SAT", "KD", "RRM", "RDT", "RSLAD", "ARD", "AdaAD"},
    "l2-smoothing": {"Standard", "Gaussian", "SmoothAdv", "MACER", "Consistency", "SmoothMix", "CRT"},
    "lipschitz": {"Standard", "LMT", "BCP", "LocalBCP", "GloRo", "Duet", "EMMA", "CROWNIBP"},
}


@cache
def read(name: str) -> Manifest:
    return read_manifest(FOLDER / f"{name}.yaml")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_stands_there_with_the_same_seeds(name):
    cells = read(name).cells
    assert {cell.method.name for cell in cells} == METHODS[name]
    settings = {(cell.method.label, cell.threat.sigma) for cell in cells}
    assert len(cells) == 3 * len(settings)
    for label, sigma in settings:
        same = [cell for cell in cells if (cell.method.label, cell.threat.sigma) == (label, sigma)]
        assert [cell.seed for cell in same] == [0, 1, 2] and len({cell.arch for cell in cells}) == 1
    assert {compute(cell.recipe) for cell in cells} == {"exact"} and read(name).baseline == "Standard"


def test_all_students_have_one_robust_teacher():
    cells = [cell for cell in read("distillation").cells if cell.teacher]
    assert {cell.method.name for cell in cells} == METHODS["distillation"] - {"Standard", "SAT"}
    (teacher,) = {cell.teacher.id: cell.teacher for cell in cells}.values()
    assert (teacher.method.name, teacher.threat) == ("SAT", cells[0].threat)
    assert len({cell.evals_digest for cell in read("distillation").cells}) == 1


@pytest.mark.parametrize(("sigma", "radii"), [(0.25, 4), (0.5, 7)])
def test_smoothing_is_certified_at_a_grid_with_as_many_draws_as_it_needs(sigma, radii):
    cells = [cell for cell in read("l2-smoothing").cells if cell.threat.sigma == sigma]
    for cell in cells:
        (spec,) = cell.evals
        # Radius 0 is added.
        assert (spec.args["until"], len(spec.args["radii"]), spec.every) == ("decided", radii, 10)
    students = [cell for cell in cells if cell.method.name == "CRT"]
    # By the code's outputs, and by those of the paper's Algorithm 1.
    assert [cell.method.args["target"] for cell in students] == ["logits"] * 3 + ["softmax"] * 3
    for cell in students:
        assert (cell.teacher.method.name, cell.teacher.threat, cell.teacher.seed) == (
            "SmoothMix",
            cell.threat,
            cell.seed,
        )
        assert cell.teacher.method.args["alpha"] == 2 * sigma


def test_certificates_are_those_of_each_method():
    found = {}
    for cell in read("lipschitz").cells:
        pgd, proof = cell.evals
        assert (pgd.args["steps"], pgd.args["alpha"]) == (100, pytest.approx(9 / 255))
        found[cell.method.name] = proof.args.get("bounds", proof.name)
    others = {"Standard": "global", "GloRo": "global", "EMMA": "global", "CROWNIBP": "CROWN"}
    assert found == BOUNDS | others
