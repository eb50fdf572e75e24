"""Transfer: images that PGD makes on another network, judged on this one; its source, identity and refusals."""

import json
from pathlib import Path

import pytest
import torch
from test_attack_evals import BOTH, Linear, Watched, doubled, judge, questions, stands, told
from test_multitargeted import points
from typer.testing import CliRunner

from bench.commands.attack_table import attack_on
from bench.manifest import read_manifest
from bench.manifest.plugin_spec import spec
from bench.submit import app as submit
from crt.archs.convnet import cnn2c2f
from crt.evals.pgd import PGD
from crt.evals.transfer import Transfer
from crt.models.classifier import Classifier
from crt.threat import Threat

LINF = Threat(norm="linf", eps=0.08)


@BOTH
def test_of_linear_networks_it_steps_to_the_sources_worst_corner(threat):
    threat = threat.model_copy(update={"eps": 0.0025 if threat.norm == "linf" else 0.025})
    model, source, x = Linear(2), Linear(2), points(60)
    source.w.data[:, ::4] *= -0.2  # the source is wrong about a quarter of the pixels
    y = model(x).argmax(1)
    found = judge(Transfer(threat=threat, steps=40, teacher=source), model, x, y)
    # Two classes: the cross-entropy rises along the difference of the weights, to the end of the ball.
    g = (source.w[1] - source.w[0]).detach().view(3, 6, 6) * torch.where(y == 0, 1, -1)[:, None, None, None]
    step = g.sign() if threat.norm == "linf" else g / g.flatten(1).norm(dim=1)[:, None, None, None]
    logits = model(x + threat.eps * step).detach()
    margins = logits.gather(1, y[:, None])[:, 0] - logits.gather(1, 1 - y[:, None])[:, 0]
    clear = {place for place, d in enumerate(margins) if abs(d) > 1e-3 * abs(margins).max()}
    assert stands(found) & clear == {place for place in clear if margins[place] > 0} and len(clear) > 50
    assert len(stands(judge(PGD(threat=threat), model, x, y))) < len(stands(found)) < 60


def test_from_itself_it_breaks_what_pgd_breaks_last(digits):
    model, x, y = doubled(digits, 24)
    transferred = stands(judge(Transfer(threat=LINF, steps=10, teacher=model), model, x, y))
    assert stands(judge(PGD(threat=LINF, steps=10), model, x, y)) <= transferred and 2 < len(transferred) < 24


@BOTH
def test_verdicts_do_not_depend_on_batches_or_order(digits, threat):
    model, x, y = doubled(digits, 20)
    evaluation = Transfer(threat=threat, steps=5, restarts=2, teacher=model)
    whole = judge(evaluation, model, x, y)
    assert 2 < len(stands(whole)) < 20
    small = Transfer(threat=threat, steps=5, restarts=2, teacher=model, batch=6)
    assert [told(found) for found in judge(small, model, x, y)] == [told(found) for found in whole]
    backwards = [told(found) for found in evaluation.judge_many(model, questions(x, y)[::-1])]
    assert backwards == [told(found) for found in whole[::-1]]


def test_passes_are_those_that_estimates_count():
    model, source, x = Watched(Linear(5)), Watched(Linear(5)), points(6)
    evaluation = Transfer(threat=Threat(norm="l2", eps=1e-5), steps=7, restarts=3, teacher=source)
    judge(evaluation, model, x, model(x).argmax(1))
    assert model.backwards == 0 and len(model.inputs) - 1 == 1 + 3
    assert (len(source.inputs), source.backwards) == (21, 21)
    assert len(model.inputs) - 1 + len(source.inputs) + source.backwards == evaluation.forwards


def checkpoint(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    torch.save(Classifier(*cnn2c2f(), 10, (0.5,) * 3, (0.5,) * 3).state_dict(), path)
    return path


def test_a_file_is_the_other_network_and_its_content_the_identity(digits, tmp_path):
    model, x, y = doubled(digits, 8)
    file = checkpoint(tmp_path / "other.pt")
    torch.manual_seed(0)
    other = Classifier(*cnn2c2f(), 10, (0.5,) * 3, (0.5,) * 3).eval().double()
    from_file = Transfer(threat=LINF, steps=3, weights=str(file), arch="cnn2c2f")
    bound = Transfer(threat=LINF, steps=3, teacher=other)
    assert judge(from_file, model, x, y) == judge(bound, model, x, y)

    def identity(path: Path) -> str:
        return spec("crt.evals", {"Transfer": {"weights": str(path), "arch": "cnn2c2f"}}, LINF, "evals[0]").id

    copy = tmp_path / "copy.pt"
    copy.write_bytes(file.read_bytes())
    assert identity(copy) == identity(file) != identity(checkpoint(tmp_path / "third.pt", seed=1))


def test_what_names_no_network_is_refused(tmp_path):
    file = str(checkpoint(tmp_path / "other.pt"))
    for arguments, words in (
        ({"weights": file}, "weights without arch"),
        ({"arch": "cnn2c2f"}, "arch without weights"),
        ({"weights": file, "arch": "no"}, "unknown name 'no'"),
        ({"weights": str(tmp_path / "no.pt"), "arch": "cnn2c2f"}, "no.pt: missing"),
        ({"weights": file, "arch": "cnn2c2f", "sha256": "0123456789"}, "sha256: 0123456789"),
    ):
        with pytest.raises(ValueError, match=words):
            Transfer(threat=LINF, **arguments)
    with pytest.raises(ValueError, match="no other network"):
        judge(Transfer(threat=LINF), Linear(5), points(2), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="--attack Transfer: unknown"):
        attack_on("Transfer", {}, "linf", "8/255")


MANIFEST = """
title: t
dataset: digits
arch: cnn2c2f
threat: {norm: linf, eps: 0.1}
loader: device
images: 64
recipe: {epochs: 1, batch_size: 32, lr: 0.01}
evals: [Transfer: {steps: 2, images: 6}]
cells:
  - {method: KD, teacher: {arch: cnn2c2f, method: Standard, recipe: {epochs: 1, batch_size: 32, lr: 0.05}}}
"""


def test_a_student_is_judged_on_images_made_on_its_teacher(tmp_path, digits):
    path = tmp_path / "transfer.yaml"
    path.write_text(MANIFEST)
    options = ["--launcher", "inline", "--runs", str(tmp_path / "runs"), "--data", str(digits)]
    found = CliRunner().invoke(submit, [str(path), *options])
    assert found.exit_code == 0, found.output
    (cell,) = read_manifest(path).cells
    lines = [
        json.loads(line)
        for file in (tmp_path / "runs" / cell.id).glob("judge-*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert sum(line["kind"] == "verdict" for line in lines) == 6
    with pytest.raises(ValueError, match=r"cells\[0\].evals\[0\]: Transfer needs a teacher"):
        read_manifest(path, overrides=["method=Standard", "teacher=null"])
    with pytest.raises(ValueError, match=r"cells\[0\].monitor.evals\[0\]: Transfer needs a teacher"):
        read_manifest(path, overrides=["monitor={evals: [Transfer]}"])
