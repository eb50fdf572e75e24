"""The Square attack: linear networks, a weak point without gradients, the authors' windows, and its passes."""

import math

import pytest
import torch
from stand_in_gpu import gpu
from test_attack_evals import BOTH, PGD, Linear, Watched, doubled, judge, questions, stands, told
from test_multitargeted import points
from torch import nn

from crt.attacks import square as attack
from crt.evals.square import Square
from crt.threat import Threat


@BOTH
def test_of_linear_networks_no_robust_image_is_broken_and_nearly_every_fragile_one(threat):
    linf = threat.norm == "linf"
    threat = threat.model_copy(update={"eps": 0.0025 if linf else 0.025})
    model, x = Linear(5), points(40)
    logits = model(x).detach()
    y = logits.argmax(1)
    apart = model.w.detach()[y][:, None] - model.w.detach()
    dual = apart.abs().sum(-1) if linf else apart.square().sum(-1).sqrt()
    nearest = ((logits.gather(1, y[:, None]) - logits) / dual).scatter(1, y[:, None], torch.inf).min(1).values
    found = stands(judge(Square(threat=threat, steps=1000), model, x, y))
    assert {place for place, d in enumerate(nearest) if d > threat.eps} <= found
    # Random search comes near the best point; without windows of one pixel, those of l2 less so.
    assert not found & {place for place, d in enumerate(nearest) if d < (0.8 if linf else 0.5) * threat.eps}
    assert 3 < len(found) < 38


class Patch(nn.Module):
    """Another class wherever a patch of pixels is bright enough: a network without gradients."""

    def __init__(self, level: float):
        super().__init__()
        self.level = level

    def forward(self, x):
        bright = (x[:, 0, 4:7, 4:7].mean((1, 2)) > self.level).to(x) + 0 * x.sum((1, 2, 3))
        near = (x[:, 0, 4:7, 4:7] > 0.5 + (self.level - 0.5) / 2).to(x).mean((1, 2))
        return torch.stack([torch.full_like(bright, 0.95), torch.maximum(bright, 0.9 * near)], 1)


@pytest.mark.parametrize(("norm", "eps", "level"), [("linf", 0.1, 0.57), ("l2", 1.0, 0.6)])
def test_a_weak_point_is_found_where_gradients_show_nothing(norm, eps, level):
    x, y = torch.full((3, 3, 12, 12), 0.5).double(), torch.zeros(3, dtype=torch.long)
    threat = Threat(norm=norm, eps=eps)
    assert len(stands(judge(PGD(threat=threat, steps=10, restarts=2), Patch(level), x, y))) == 3
    found = judge(Square(threat=threat, steps=1500), Patch(level), x, y)
    assert not stands(found) and all(judged.details["norm"] <= eps * (1 + 1e-9) for judged in found)
    assert len(stands(judge(Square(threat=threat, steps=300), Patch(0.9), x, y))) == 3


@BOTH
def test_every_proposal_is_in_ball_and_box_and_changes_a_window(threat):
    x = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    model = Watched(Flat())
    judge(Square(threat=threat, steps=60, batch=2), model, x, torch.zeros(2, dtype=torch.long))
    clean, first, *proposals = model.inputs
    assert torch.equal(clean, x) and len(proposals) == 60
    d = (first - x).flatten(1)
    norms = d.abs().amax(1) if threat.norm == "linf" else d.norm(dim=1)
    assert (norms <= threat.eps * (1 + 1e-9)).all() and (norms > 0.5 * threat.eps).all()
    for asked in proposals:
        d = (asked - x).flatten(1)
        norms = d.abs().amax(1) if threat.norm == "linf" else d.norm(dim=1)
        assert (norms <= threat.eps * (1 + 1e-9)).all() and 0 <= asked.min() and asked.max() <= 1
    assert not torch.equal(proposals[0][0] - x[0], proposals[0][1] - x[1])  # a window of its own for each image
    if threat.norm == "linf":
        # Nothing is kept, for the margin never rises: each proposal differs from the first point by one window.
        side = round(math.sqrt(attack.share(5, 60, 0.8) * 144))
        rows, columns = ((proposals[5] - first) != 0).any(1)[0].nonzero().unbind(1)
        assert rows.max() - rows.min() < side and columns.max() - columns.min() < side


class Flat(nn.Module):
    """The same logits everywhere."""

    def forward(self, x):
        return torch.stack([0 * x.sum((1, 2, 3)) + 1, 0 * x.sum((1, 2, 3))], 1)


def test_windows_and_their_shrinking_are_the_authors():
    theirs = pytest.importorskip("pyautoattack.square").SquareAttack(
        lambda x: x, norm="L2", device="cpu", n_queries=5000
    )
    assert [attack.share(i, 5000, 0.8) for i in range(0, 5000, 7)] == [
        pytest.approx(theirs.p_selection(i)) for i in range(0, 5000, 7)
    ]
    like = torch.zeros((), dtype=torch.double)
    for side in (3, 5, 8, 13):
        torch.manual_seed(0)
        pattern = theirs.eta(side).double()
        own = attack.pattern(side, like)
        assert min((pattern - own).abs().max(), (pattern - own.T).abs().max()) < 1e-6


@BOTH
def test_a_search_on_a_gpu_is_the_search_here(threat):
    threat = threat.model_copy(update={"eps": 0.0025 if threat.norm == "linf" else 0.025})
    x, evaluation = points(12), Square(threat=threat, steps=60)
    y = Linear(5)(x).argmax(1)
    here = judge(evaluation, Linear(5), x, y)
    with gpu():
        there = judge(evaluation, Linear(5).to("cuda"), x.to("cuda"), y)
    assert [told(found) for found in there] == [told(found) for found in here] and 0 < len(stands(here)) < 12


@BOTH
def test_passes_are_those_that_estimates_count(threat):
    model, x = Watched(Linear(5)), points(6)
    evaluation = Square(threat=threat.model_copy(update={"eps": 1e-5}), steps=30, restarts=2)
    found = judge(evaluation, model, x, model(x).argmax(1))
    assert len(stands(found)) == 6 and model.backwards == 0
    assert len(model.inputs) - 1 == evaluation.forwards == 2 * 31 + 1


@BOTH
def test_verdicts_do_not_depend_on_batches_or_order(digits, threat):
    model, x, y = doubled(digits, 20)
    evaluation = Square(threat=threat, steps=40)
    whole = judge(evaluation, model, x, y)
    assert 2 < len(stands(whole)) < 20
    small = Square(threat=threat, steps=40, batch=6)
    assert [told(found) for found in judge(small, model, x, y)] == [told(found) for found in whole]
    backwards = [told(found) for found in evaluation.judge_many(model, questions(x, y)[::-1])]
    assert backwards == [told(found) for found in whole[::-1]]
