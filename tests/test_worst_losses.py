"""Losses of worst logits that bounds tell beside their verdicts, against closed forms and attacks; and their curves."""

import math

import pytest
import torch
from pydantic import ValidationError
from test_crownibp import linear_network as linear_crown
from test_lipschitz import THREAT, attacks, linear_network, network
from torch import nn
from torch.nn import functional as F

from bench.jobs.lease import JobPaths
from bench.jobs.train import run_cell
from bench.manifest import read_manifest
from bench.records import MonitorPoint, read
from bench.results.loading import load
from crt.evals.crown import CROWN
from crt.evals.lipschitz import Lipschitz
from crt.threat import Threat
from reports.figures import training
from reports.tables.monitor import monitored
from reports.tables.timing import timing


def judged(evaluation, model, x, y):
    """Verdicts of images with labels, their losses and those of worst logits."""
    questions = [(image, int(label), (0, i)) for i, (image, label) in enumerate(zip(x, y, strict=True))]
    found = list(evaluation.judge_many(model, questions))
    columns = [[v.details[key] for v in found] for key in ("loss", "worst_loss")]
    return found, *torch.tensor(columns, dtype=torch.float64)


ROUNDED = 5.1e-7
"""Losses are told to six decimals."""


@pytest.mark.parametrize("evaluation", [Lipschitz, CROWN], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("arguments", [{}, {"bounds": "box"}, {"eps": 0.3}], ids=str)
def test_losses_of_linear_networks_are_exact(evaluation, arguments):
    if evaluation is CROWN and "bounds" in arguments:
        pytest.skip("has one kind of bound")
    model = (linear_network() if evaluation is Lipschitz else linear_crown()).requires_grad_(False)
    if arguments.get("bounds"):
        # Behind a multiple of the identity the box holds the whole ball.
        nn.init.eye_(model.body[1].weight)
    torch.manual_seed(1)
    x = torch.rand(12, 1, 4, 4, dtype=torch.float64)
    y, eps = torch.arange(12) % 4, arguments.get("eps", THREAT.eps)
    found, loss, worst = judged(evaluation(threat=THREAT, **arguments), model, x, y)
    jacobian = torch.func.jacrev(lambda image: model(image[None])[0])(x[0]).flatten(1)
    for b, (z, label) in enumerate(zip(model(x).tolist(), y.tolist(), strict=True)):
        apart = [eps * float((jacobian[k] - jacobian[label]).norm()) for k in range(4)]
        clean, moved = (
            math.log(sum(math.exp(value + extra - z[label]) for value, extra in zip(z, more, strict=True)))
            for more in ([0] * 4, apart)
        )
        assert (float(loss[b]), float(worst[b])) == pytest.approx((clean, moved), abs=ROUNDED)
    assert {v.prediction == label for v, label in zip(found, y.tolist(), strict=True)} == {True, False}


KINDS = [Lipschitz(threat=THREAT, bounds=bounds) for bounds in ("global", "box", "local")] + [CROWN(threat=THREAT)]


def test_no_attack_has_a_greater_loss():
    torch.manual_seed(5)
    model, x, y = network().requires_grad_(False), torch.rand(12, 3, 8, 8, dtype=torch.float64), torch.arange(12) % 3
    found = [judged(kind, model, x, y) for kind in KINDS]
    clean = F.cross_entropy(model(x), y, reduction="none")
    nearest = torch.stack([F.cross_entropy(model(x + d), y, reduction="none") for d in attacks(model, x, y)]).amax(0)
    for verdicts, loss, worst in found:
        assert {v.prediction == label for v, label in zip(verdicts, y.tolist(), strict=True)} == {True, False}
        torch.testing.assert_close(loss, clean, rtol=0, atol=ROUNDED)
        assert (worst >= nearest - ROUNDED).all() and (nearest > clean + 1e-3).all()
    alone, box, local, _ = (worst for *_, worst in found)
    assert (alone >= box - 2 * ROUNDED).all() and (box >= local - 2 * ROUNDED).all()
    assert float((alone - box).max()) > 1e-3


def test_crown_of_another_radius_is_that_of_its_threat():
    model, x, y = network(), torch.rand(6, 3, 8, 8), torch.arange(6) % 3
    asked, meant = (
        judged(one, model, x, y)[0] for one in (CROWN(threat=THREAT, eps=0.01), CROWN(threat=Threat(eps=0.01)))
    )
    assert asked == meant != judged(CROWN(threat=THREAT), model, x, y)[0]
    assert {v.radius for v in asked} & {0.01}
    with pytest.raises(ValidationError):
        CROWN(threat=THREAT, eps=0)


WATCHED = """
title: watched
dataset: digits
pipeline: duet
loader: device
threat: {norm: l2, eps: 36/255}
arch: cnn2c2f
images: 128
recipe: {epochs: 3, batch_size: 32, lr: 1e-3, optimizer: adam}
cells:
  - method: {BCP: {warmup: 1, ramp: 1}}
    monitor: {images: 20, evals: [Lipschitz: {bounds: box}, CROWN]}
  - {method: Standard, monitor: {images: 20, evals: [Clean]}}
"""


def test_curves_of_clean_and_certified_loss_are_drawn(tmp_path, digits):
    (tmp_path / "m.yaml").write_text(WATCHED)
    manifest = read_manifest(tmp_path / "m.yaml")
    place = JobPaths(runs=tmp_path / "runs", data=digits, process="shared")
    for cell in manifest.cells:
        run_cell(cell, place)
    records = read(place.runs / manifest.cells[0].id / "train.jsonl")
    seen = [one for one in records if isinstance(one, MonitorPoint) and one.eval.startswith("Lipschitz")]
    assert all(0 < one.details["loss"] < one.details["worst_loss"] for one in seen) and len(seen) == 3
    measured = load(manifest, [place.runs])
    frame, times = monitored(manifest, measured), timing(manifest, measured)
    accuracy, test, loss = training.epochs(frame, times).axes
    assert test.get_ylabel() == "test loss" and len(test.lines) == 3
    drawn = [line.get_xydata().tolist() for line in test.lines[:2]]
    assert drawn == [[[k + 1, one.details[key]] for k, one in enumerate(seen)] for key in ("loss", "worst_loss")]
    assert {line.get_linestyle() for line in test.lines} == {"-", "--", ":"}
    assert len(accuracy.lines) > 4 and len(loss.lines) == 2
    # Attacks tell no such loss: there is no panel for it.
    assert len(training.epochs(frame[frame["method"].str.startswith("Standard")], times).axes) == 2
