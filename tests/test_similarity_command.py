"""The command that compares trained networks with a teacher: its rows, floors and shared seeds, and its refusals."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.cells import cell_len
from typer.testing import CliRunner

from bench.build.networks import network
from bench.cell import Cell
from bench.jobs.evaluate import image
from bench.manifest import read_manifest
from bench.similarity import app
from crt import screen
from crt.data import DATASETS
from crt.data.beton_file import Beton
from crt.lipschitz.boxes import before_head
from crt.lipschitz.chain import chain
from crt.lipschitz.norms import converged_norm
from crt.lipschitz.similarity import similarity
from crt.lipschitz.translation import over_ball, over_both

TABLE = """
title: likeness
dataset: digits
pipeline: duet
threat: {norm: l2, eps: 36/255}
arch: cnn2c2f
recipe: {epochs: 1, batch_size: 32, lr: 1e-3}
cells:
  - {name: teacher, method: Standard, seed: 100}
  - {method: BCP, seed: [0, 100], paper: {similarity: [70.3, null], lipschitz: [5.5, null]}}
  - {method: LocalBCP, arch: cnn2c2f_relutheta}
  - {method: GloRo, arch: cnn4c3f}
  - {method: LMT, seed: 3}
  - {method: Duet, teacher: {cell: teacher}}
"""
IMAGES = 60


def cells(path: Path) -> dict[tuple[str, int], Cell]:
    return {(cell.method.name, cell.seed): cell for cell in read_manifest(path).cells}


@pytest.fixture
def table(tmp_path) -> Path:
    """The manifest, beside the first weights of all its networks but LMT's, as if they had been trained."""
    path = tmp_path / "m.yaml"
    path.write_text(TABLE)
    for (method, _), cell in cells(path).items():
        if method != "LMT":
            (tmp_path / "runs" / cell.id).mkdir(parents=True)
            torch.save(network(cell).state_dict(), tmp_path / "runs" / cell.id / "model.pt")
    return path


def run(path: Path, data: Path, *options: str):
    folders = ["--runs", str(path.parent / "runs"), "--data", str(data), "--images", str(IMAGES)]
    return CliRunner().invoke(app, [str(path), *folders, *options])


def test_rows_floors_and_shared_seeds(table, digits):
    done = run(table, digits, "--csv", str(table.parent / "t.csv"))
    assert done.exit_code == 0, done.output
    frame, known = pd.read_csv(table.parent / "t.csv"), cells(table)
    by_id = frame.dropna(subset="id").set_index("id")
    row = lambda method, seed=0: by_id.loc[known[method, seed].id]  # noqa: E731
    assert set(by_id.index) == {cell.id for (method, _), cell in known.items() if method not in ("LMT", "GloRo")}
    for cell, words in ((known["LMT", 3], "not trained"), (known["GloRo", 0], "the teacher has Conv2d(3, 16")):
        assert f"left out: {cell.id}: {words}" in done.output
    teacher, own = row("Standard", 100), row("BCP")
    assert [teacher[f"M{k}"] for k in range(1, 7)] == pytest.approx([1] * 6)
    assert abs(own["M1"]) < 0.05 and own["M1_shared"] == row("BCP", 100)["M1"] == pytest.approx(1)
    assert math.isnan(row("BCP", 100)["M1_shared"]) and math.isnan(row("Duet")["M2_shared"])
    assert list(by_id["begins"].unique()) == ["as the teacher", "alone"]
    test = Beton(DATASETS["digits"].path("test", digits))
    x = torch.stack([image(test, i) for i in range(IMAGES)]).double()
    mine, taught = (network(known[key]).eval().double() for key in (("BCP", 0), ("Standard", 100)))
    assert [own[key] for key in similarity(mine, taught, x)] == pytest.approx(
        list(similarity(mine, taught, x).values())
    )
    bare = frame[frame["method"] == "untrained"].set_index("arch").loc["cnn2c2f"]
    stranger = network(known["BCP", 0].model_copy(update={"seed": bare["seed"]})).eval().double()
    assert bare["seed"] not in {seed for _, seed in known if seed in (0, 100)}
    assert bare["M2"] == own["M2_floor"] == pytest.approx(similarity(stranger, taught, x)["M2"])
    assert (own["paper_similarity"], own["paper_lipschitz"]) == (0.703, 5.5)
    assert "M1: cosine of the rotations" in done.output and "box/ball: translations" in done.output
    assert "70.3" in done.output, done.output
    assert "untrained" in done.output and "margins" in done.output


def test_constants_and_tightness(table, digits):
    assert run(table, digits, "--csv", str(table.parent / "t.csv")).exit_code == 0
    frame, known = pd.read_csv(table.parent / "t.csv").set_index("id"), cells(table)
    test = Beton(DATASETS["digits"].path("test", digits))
    x = torch.stack([image(test, i) for i in range(IMAGES)]).double()
    y = torch.tensor([int(label) for label in test.labels[:IMAGES]])
    for key in (("BCP", 0), ("LocalBCP", 0)):
        cell, row = known[key], frame.loc[known[key].id]
        model = network(cell).eval().double().requires_grad_(False)
        layers = chain(model, x.shape[1:])
        norms = {layer.name: converged_norm(layer) for layer in layers if hasattr(layer.module, "weight")}
        before = math.prod(float(norm) for name, norm in norms.items() if name != "head")
        w = model.head.weight
        below = before * float(norms["head"]), before * float(torch.pdist(w).max())
        # Norms are bounded from above, by up to a tenth each.
        for name, least in zip(("logits", "margins"), below, strict=True):
            assert least * (1 - 1e-6) <= row[name] <= 1.1**3 * least
        region = before_head(model, layers, x, cell.threat.eps, norms)
        both, ball = over_both(w, y, region, None).sum(), over_ball(w, y, region.rho).sum()
        assert row["tightness"] == pytest.approx(float(both / ball), rel=0.05) and row["tightness"] <= 1
        assert math.isnan(row["local_logits"]) == (key[0] != "LocalBCP") == math.isnan(row["local_margins_floor"])
    assert 0 < row["local_margins"] < row["margins"] and 0 < row["local_logits"] < row["logits"]
    # No image is moved more, in the direction that moves it most, than its local constant says.
    slopes = torch.stack([torch.func.jacrev(lambda z: model(z[None])[0])(each).flatten(1) for each in x])
    steepest = torch.stack([torch.pdist(each).max() for each in slopes]).mean()
    assert float(steepest) < row["local_margins"]


def test_the_teacher_is_chosen_by_a_part_of_its_id(table, digits):
    bcp = cells(table)["BCP", 100]
    done = run(table, digits, "--teacher", "BCP-s100", "--csv", str(table.parent / "t.csv"))
    assert done.exit_code == 0 and f"compared with {bcp.id}" in done.output
    assert pd.read_csv(table.parent / "t.csv").set_index("id").loc[bcp.id, "M2"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--teacher", "BCP"], "--teacher BCP: in 3 ids (allowed: part of one id of cnn2c2f-Standard-s100"),
        (["--teacher", "none"], "--teacher none: in 0 ids"),
        (["--teacher", "LMT"], "missing, so its network was not trained to the end"),
        (["--quick"], "no network to compare: "),
        (["--data", "/proc/none"], "/proc/none"),
        (["--csv", "/proc/t.csv"], "/proc/t.csv"),
    ],
)
def test_refused_in_one_line(table, digits, options, words):
    done = run(table, digits, *options)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("counting operations")]
    assert done.exit_code == 2 and len(lines) == 1 and words in lines[0], done.output


def test_what_to_run_is_said_and_who_teaches_must_be_known(table, digits, tmp_path):
    done = run(table, digits, "--quick")
    assert f"(train them: python -m bench.submit {table} --quick)" in done.stderr
    table.write_text(TABLE.partition("  - {method: Duet")[0])
    done = run(table, digits)
    assert done.exit_code == 2 and "--teacher: 0 teachers in the manifest (allowed: part of one id of" in done.stderr
    done = run(tmp_path / "none.yaml", digits)
    assert done.exit_code == 2 and "none.yaml" in done.stderr


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_fit_the_terminal_and_name_what_they_hide(table, digits, monkeypatch, width):
    monkeypatch.setattr(screen, "output", lambda: screen.Screen(width=width))
    said = run(table, digits).output
    lines = said.splitlines()
    assert max(cell_len(line) for line in lines if line[:1] in "┏┃┡│└") <= width
    head = next(line for line in lines if " M1" in line and "┃" in line)
    similarities = said.partition("Lipschitz constants")[0].splitlines()
    named = " ".join(line for line in similarities if line.startswith(("Hidden at", "All rows:")))
    for heading in "arch method seed begins M1 M2 M3 M4 M5 M6 paper".split():
        assert (heading in head.replace("┃", " ").split()) != (heading in named.replace(",", "").split()), heading
    assert "100.0│" in said and "…" not in said and ("--csv writes them" in said) == (width < 200)
