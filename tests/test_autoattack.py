"""AutoPGD against that of AutoAttack's authors, iterate by iterate; AutoAttack as an evaluation."""

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack
from test_attack_evals import BOTH, LINF, Linear, Watched, doubled, judge, stands, trained
from torch import nn

from crt.attacks import autopgd, run
from crt.evals import autoattack
from crt.evals.autoattack import AutoAttack
from crt.evals.autopgd import AutoPGD
from crt.threat import Threat


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("steps", [20, 50])
@BOTH
def test_autopgd_asks_what_the_authors_code_asks(digits, threat, steps, loss):
    model, x, y = doubled(digits, 36)
    threat = threat.model_copy(update={"eps": threat.eps / 2})
    robust = sorted(stands(judge(AutoPGD(threat=threat, steps=steps, restarts=1, loss=loss), model, x, y)))
    x, y = x[robust], y[robust]
    assert len(x) > 12
    ours, theirs = Watched(model), Watched(model)
    start = (x + run.offsets(x, threat, [(0, i) for i in robust], 0, full=True)).clamp(0, 1)
    losses = {"ce": autopgd.cross_entropy, "dlr": autopgd.dlr}
    found = autopgd.autopgd(ours, x, y, start, threat, steps=steps, loss=losses[loss], rho=0.75)
    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    attack = APGDAttack(theirs, n_iter=steps, norm=norm, eps=threat.eps, loss=loss, rho=0.75, device="cpu")
    attack.init_hyperparam(x)
    torch.set_default_dtype(torch.double)
    try:
        _, robust, _, _ = attack.attack_single_run(x, y, x_init=start)
    finally:
        torch.set_default_dtype(torch.float)
    assert robust.all() and not found.broken.any()
    assert len(ours.inputs) == len(theirs.inputs) == steps + 1
    for number, (a, b) in enumerate(zip(ours.inputs, theirs.inputs, strict=True)):
        assert (a - b).abs().max() < 1e-9, number


def test_autoattack_names_the_package_that_it_needs(monkeypatch):
    monkeypatch.setattr(autoattack, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install pyautoattack"):
        AutoAttack(threat=LINF)


def test_autoattack_breaks_what_autopgd_breaks(digits, monkeypatch):
    model, x, y = trained(digits)
    x, y = x[:8], y[:8]
    monkeypatch.setattr(autoattack, "ATTACKS", ("apgd-ce", "apgd-t"))
    random = torch.get_rng_state()
    found = judge(AutoAttack(threat=LINF), model, x, y)
    assert torch.equal(random, torch.get_rng_state())
    assert stands(found) <= stands(judge(AutoPGD(threat=LINF, steps=20, restarts=1), model, x, y)) < set(range(8))
    assert {judged.details["attack"] for judged in found if judged.details} <= {0, 1}


@pytest.mark.parametrize("attack", autoattack.ATTACKS)
def test_each_attack_of_autoattack_breaks_images(digits, monkeypatch, attack):
    model, x, y = trained(digits)
    monkeypatch.setattr(autoattack, "ATTACKS", (attack,))
    found = judge(AutoAttack(threat=Threat(norm="linf", eps=0.4)), model, x[:2], y[:2])
    assert [judged.details["attack"] for judged in found] == [0, 0]


class Exact(nn.Module):
    """A network in float64 for the package's float32 images: the batch size does not turn the sign of a gradient."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x.double())


@BOTH
def test_images_leave_the_first_attack_once_broken_and_the_same_are_broken(digits, monkeypatch, threat):
    model, x, y = doubled(digits, 16)
    x = x.float()
    monkeypatch.setattr(autoattack, "ATTACKS", ("apgd-ce",))
    few, every = Watched(Exact(model)), Watched(Exact(model))
    found = judge(AutoAttack(threat=threat), few, x, y)
    monkeypatch.setattr(autoattack, "Leaving", Staying)
    expected = judge(AutoAttack(threat=threat), every, x, y)
    assert stands(found) == stands(expected) and 0 < len(stands(found)) < 16
    assert [judged.skipped for judged in found] == [judged.skipped for judged in expected]
    assert sum(map(len, every.inputs)) > 100 * 12 and sum(map(len, few.inputs)) < 0.9 * sum(map(len, every.inputs))


class Staying(autoattack.Leaving):
    """The network computes the whole batch to the end; what the last pass finds is what the package returns."""

    def forward(self, x):
        logits = self.network(x)
        self.found = run.Found.nothing(self.found.adversarial)
        self.found.note(torch.arange(len(x)), x.detach(), self.y, run.classes(logits.detach()), 0)
        return logits


def test_autoattack_on_nine_classes(monkeypatch, caplog):
    monkeypatch.setattr(autoattack, "ATTACKS", ("apgd-t", "fab-t"))
    model = Linear(9).float()
    x = 0.5 + 0.1 * torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert len(stands(judge(AutoAttack(threat=Threat(norm="linf", eps=1e-5)), model, x, model(x).argmax(1)))) == 3
    assert not caplog.records
