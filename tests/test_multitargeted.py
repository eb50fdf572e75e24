"""The MultiTargeted attack: against the closed form of linear networks, a planted weak point, and PGD; its passes."""

import torch
from test_attack_evals import BOTH, PGD, Linear, Watched, doubled, judge, questions, stands, told
from torch import nn

from crt.evals.multitargeted import MultiTargeted
from crt.threat import Threat


def points(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return 0.5 + 0.03 * torch.randn(count, 3, 6, 6, generator=generator, dtype=torch.double)


@BOTH
def test_of_linear_networks_exactly_the_fragile_images_are_broken(threat):
    threat = threat.model_copy(update={"eps": 0.0025 if threat.norm == "linf" else 0.025})
    model, x = Linear(5), points(60)
    logits = model(x).detach()
    y = logits.argmax(1)
    apart = model.w.detach()[y][:, None] - model.w.detach()
    dual = apart.abs().sum(-1) if threat.norm == "linf" else apart.square().sum(-1).sqrt()
    distance = ((logits.gather(1, y[:, None]) - logits) / dual).scatter(1, y[:, None], torch.inf)
    nearest = distance.min(1).values
    assert ((nearest / threat.eps - 1).abs() > 1e-3).all()
    found = judge(MultiTargeted(threat=threat, steps=20, targets=9), model, x, y)
    robust = torch.tensor([judged.radius == threat.eps for judged in found])
    assert torch.equal(robust, nearest > threat.eps) and 5 < robust.sum() < 55


class Decoy(nn.Module):
    """One class rises towards the label's and never reaches it; another, far below, rises the other way and does."""

    def forward(self, x):
        s = (x - 0.5).mean((1, 2, 3)) / 0.1
        return torch.stack([0 * s, -2 + 1.9 * s, -9.5 - 10.5 * s], 1)


def test_a_class_is_found_that_the_cross_entropy_leads_away_from():
    x = torch.full((4, 3, 6, 6), 0.5).double()
    threat, y = Threat(norm="linf", eps=0.1), torch.zeros(4, dtype=torch.long)
    assert len(stands(judge(PGD(threat=threat, restarts=3), Decoy(), x, y))) == 4
    for targets, robust in ((1, 4), (2, 0)):
        found = judge(MultiTargeted(threat=threat, targets=targets), Decoy(), x, y)
        assert len(stands(found)) == robust
    assert [judged.details["adversarial"] for judged in found] == [2] * 4
    # The first run is towards the decoy.
    assert [judged.details["restart"] for judged in found] == [1] * 4


def test_passes_are_those_that_estimates_count():
    model, x = Watched(Linear(5)), points(7)
    evaluation = MultiTargeted(threat=Threat(norm="l2", eps=1e-4), steps=6, restarts=2, targets=3)
    found = judge(evaluation, model, x, model(x).argmax(1))
    assert len(stands(found)) == 7
    # The labels above come first.
    assert len(model.inputs) - 1 + model.backwards == evaluation.forwards == 2 * 3 * (2 * 6 + 2) + 1
    assert model.backwards == 2 * 3 * 6 and evaluation.budget == (1, 36)


def test_a_network_of_few_classes_has_few_targets():
    model, x = Watched(Linear(3)), points(5)
    evaluation = MultiTargeted(threat=Threat(norm="l2", eps=1e-4), steps=4, targets=9)
    judge(evaluation, model, x, model(x).argmax(1))
    assert model.backwards == 2 * 4


@BOTH
def test_verdicts_do_not_depend_on_batches_or_order(digits, threat):
    model, x, y = doubled(digits, 20)
    evaluation = MultiTargeted(threat=threat, steps=5, targets=3)
    whole = judge(evaluation, model, x, y)
    assert 2 < len(stands(whole)) < 19
    small = MultiTargeted(threat=threat, steps=5, targets=3, batch=7)
    assert [told(found) for found in judge(small, model, x, y)] == [told(found) for found in whole]
    backwards = [told(found) for found in evaluation.judge_many(model, questions(x, y)[::-1])]
    assert backwards == [told(found) for found in whole[::-1]]
    assert stands(whole) <= stands(judge(PGD(threat=threat, steps=1), model, x, y))
