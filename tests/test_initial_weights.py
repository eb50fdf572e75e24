"""Trainings that begin with another network's weights: which weights, in which order, at whose hours, and refusals."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from test_run import place, weights
from test_teachers import SECONDS
from test_teachers import train as record

from bench.build.networks import initial, network
from bench.build.weights import save
from bench.cell import Cell
from bench.jobs import train
from bench.manifest import read_manifest
from bench.manifest.labels import Names
from bench.manifest.manifest import Manifest
from bench.plan.preflight import check_weights
from bench.plan.waves import waves
from bench.results.counterparts import hours_with_teacher
from bench.results.expenses import expenses
from bench.results.loading import load
from crt.data import DATASETS
from reports.tables.settings import settings
from reports.tables.teachers import teachers
from reports.tables.timing import timing

HEAD = """
dataset: digits
pipeline: plain
loader: device
images: 128
arch: cnn2c2f
threat: {norm: linf, eps: 4/255}
recipe: {epochs: 2, batch_size: 32, lr: 0.05}
cells:
  - {method: Standard, name: first}
"""
FROZEN = "recipe: {epochs: 1, batch_size: 32, lr: 1e-12}"


@pytest.fixture
def made(tmp_path):
    def make(cells: str, head: str = HEAD) -> Manifest:
        path = tmp_path / "init.yaml"
        path.write_text(head + cells)
        return read_manifest(path)

    return make


def test_a_training_begins_with_the_final_weights_of_the_cell(made, digits, tmp_path):
    manifest, at = made(f"  - {{method: SAT, init: {{cell: first}}, {FROZEN}}}\n"), place(tmp_path / "runs", digits)
    first, second = manifest.cells
    with pytest.raises(ValueError, match="not trained to the end"):
        train.run_cell(second, at)
    for cell in manifest.cells:
        train.run_cell(cell, at)
    begun, ended = weights(first, at.runs), weights(second, at.runs)
    for name, tensor in network(second).state_dict().items():
        torch.testing.assert_close(ended[name], begun[name], rtol=0, atol=1e-7)
        assert name.startswith("normalize.") or not torch.allclose(ended[name], tensor, rtol=0, atol=1e-4)


def test_it_is_another_cell_with_a_name_of_its_own_and_comes_after_its_ancestors(made, tmp_path):
    manifest = made(
        "  - {method: SAT, init: {cell: first}, name: second}\n"
        "  - {method: SAT}\n"
        "  - {method: RRM, teacher: {cell: first}, init: {cell: second}}\n"
    )
    first, tuned, plain, taught = manifest.cells
    assert len({cell.id for cell in manifest.cells}) == 4 and "init" not in plain.id
    assert [cell.wave for cell in manifest.cells] == [0, 1, 0, 2]
    assert [cell.id for cell in taught.ancestors] == [first.id, tuned.id]
    names = Names(manifest.cells)
    assert [names.label(cell) for cell in (tuned, plain)] == ["SAT, init Standard", "SAT"]
    assert settings(tuned)["init"] == "cnn2c2f Standard" and settings(plain)["init"] is None
    planned = waves(manifest, place(tmp_path / "runs", tmp_path))
    keys = [[job.task.cell.id for job in wave.jobs] for wave in planned]
    assert keys == [[first.id, plain.id], [tuned.id], [taught.id]] and [w.after for w in planned] == [None, 0, 1]


def test_seeds_go_together_and_a_quick_run_begins_with_a_quick_one(made, tmp_path):
    cells = "  - {method: SAT, init: {cell: first}, seed: [0, 1]}\n"
    manifest = made(cells, HEAD.replace("name: first", "name: first, seed: [0, 1]"))
    assert [cell.init.seed for cell in manifest.cells[2:]] == [0, 1]
    assert manifest.cells[2].seedless.id == manifest.cells[3].seedless.id
    quick = read_manifest(tmp_path / "init.yaml", quick=True)
    assert [cell.init.id for cell in quick.cells[2:]] == [cell.id for cell in quick.cells[:2]]


def test_the_head_is_drawn_where_the_classes_differ(made, tmp_path, monkeypatch):
    few = replace(DATASETS["digits"], name="few", classes=tuple("0123"), mean=(0.5,) * 3)
    monkeypatch.setitem(DATASETS, "few", few)
    (first,) = made("").cells
    source = network(first)
    (tmp_path / first.id).mkdir()
    save(tmp_path / first.id / "model.pt", source.state_dict(), first.id)
    cell = Cell(**(dict(first) | {"dataset": "few", "init": first, "seed": 5}))
    begun, drawn = initial(cell, tmp_path).state_dict(), network(cell).state_dict()
    for name, tensor in begun.items():
        own = name.startswith(("head.", "normalize."))
        assert torch.equal(tensor, (drawn if own else source.state_dict())[name]), name


def test_a_file_is_read_as_a_teachers_is(made, digits, tmp_path):
    (first,) = made("").cells
    source, file = network(first.model_copy(update={"seed": 3})), tmp_path / "elsewhere.pt"
    torch.save(source.state_dict(), file)
    cells = f"  - {{method: SAT, {FROZEN}, init: {{weights: {file}, arch: cnn2c2f}}}}\n"
    manifest = made(cells)
    check_weights(manifest, tmp_path)
    cell = manifest.cells[1]
    assert cell.wave == 0 and cell.ancestors == () and cell.outside == (cell.init,)
    begun = initial(cell, tmp_path).state_dict()
    assert all(torch.equal(tensor, begun[name]) for name, tensor in source.state_dict().items())
    raw = copy.deepcopy(source.state_dict())
    raw["normalize.mean"] += 1
    torch.save(raw, file)
    with pytest.raises(ValueError, match="normalized with mean"):
        check_weights(made(cells), tmp_path)
    with pytest.raises(ValueError, match=r"init\.sha256: 00 \(the file's is"):
        made(cells.replace("arch: cnn2c2f}", "arch: cnn2c2f, sha256: '00'}"))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("arch: resnet20, init: {cell: first}", r"init: of 'cnn2c2f' \(allowed: 'resnet20', the cell's own arch"),
        (
            "pipeline: duet, init: {cell: first}",
            "init: of pipeline 'plain', which normalizes pixels by other constants",
        ),
        ("init: {cell: frist}", r"init\.cell: 'frist' \(allowed: first, own\)"),
        ("init: {cell: own}", "init: a cycle of initial weights: own <- own"),
        ("init: first", r"init: 'first' \(allowed: {cell: NAME}, {weights: FILE, "),
        ("init: {arch: cnn2c2f, method: SAT}", r"init: {.*} \(allowed: {cell: NAME}, {weights: FILE, "),
        ("init: {weights: nowhere.pt, arch: cnn2c2f}", r"init\.weights: nowhere\.pt: missing"),
        ("init: {weights: nowhere.pt}", r"init\.arch: missing"),
    ],
)
def test_mistakes(cell, message, made):
    with pytest.raises(ValueError, match=rf"cells\[1\]\.{message}"):
        made(f"  - {{method: Standard, name: own, {cell}}}\n")


def test_hours_count_the_ancestor(made, tmp_path):
    manifest, runs = made("  - {method: SmoothMix, init: {cell: first}}\n"), tmp_path / "runs"
    for cell in manifest.cells:
        record(cell, runs)
    measured = load(manifest, [runs])
    first, second = (2 * SECONDS[cell.method.name] / 3600 for cell in manifest.cells)
    rows = timing(manifest, measured)
    assert rows["hours"].tolist() == pytest.approx([first, second])
    assert math.isnan(rows["hours_with_teacher"][0])
    assert rows["hours_with_teacher"][1] == pytest.approx(first + second)
    assert teachers(measured)["name"].tolist() == ["cnn2c2f Standard"]
    assert list(hours_with_teacher(measured[1]).values()) == pytest.approx([first + second])


def test_hours_of_a_file_are_unknown(made, tmp_path):
    file = tmp_path / "elsewhere.pt"
    torch.save(network(made("").cells[0]).state_dict(), file)
    manifest, runs = made(f"  - {{method: SAT, init: {{weights: {file}, arch: cnn2c2f}}}}\n"), tmp_path / "runs"
    (_, measured) = load(manifest, [runs])
    (expense,) = expenses(measured)
    assert expense.kind == "weights" and math.isnan(expense.hours) and "trained elsewhere" in expense.why
    assert hours_with_teacher(measured) == {}
