"""PGD and AutoPGD as evaluations: against closed forms and each other; what they ask of a network and tell."""

import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crt.archs.convnet import cnn2c2f
from crt.attacks import autopgd, run
from crt.data.beton_file import Beton
from crt.evals import attacker
from crt.evals.autoattack import AutoAttack
from crt.evals.autopgd import AutoPGD
from crt.evals.pgd import PGD
from crt.judgement import Judgement
from crt.models.classifier import Classifier
from crt.threat import Threat

LINF, L2 = Threat(norm="linf", eps=0.08), Threat(norm="l2", eps=2.0)
BOTH = pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])


@cache
def trained(folder: Path) -> tuple[Classifier, torch.Tensor, torch.Tensor]:
    """A network that a few epochs taught the digits, and the test images with their labels.

    It learns in float64, so that it is the same on every processor, and is float32 then.
    """
    x, y = split(folder, "train")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Classifier(*cnn2c2f(), 10, (0.5,) * 3, (0.5,) * 3).double()
        sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(5):
            for part in torch.randperm(len(x)).split(64):
                sgd.zero_grad()
                F.cross_entropy(model(x[part].double()), y[part]).backward()
                sgd.step()
    return model.float().eval(), *split(folder, "test")


def split(folder: Path, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    beton = Beton(folder / f"digits-{name}.beton")
    images = torch.from_numpy(beton.images(list(range(len(beton)))))
    return images.permute(0, 3, 1, 2).contiguous().float() / 255, torch.tensor([int(label) for label in beton.labels])


def questions(x: torch.Tensor, y: torch.Tensor) -> list:
    return [(image, int(label), (0, index)) for index, (image, label) in enumerate(zip(x, y, strict=True))]


def judge(evaluation, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[Judgement]:
    return list(evaluation.judge_many(model, questions(x, y)))


def stands(judgements: list[Judgement]) -> set[int]:
    return {place for place, found in enumerate(judgements) if found.radius > 0}


def doubled(folder: Path, images: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The same in float64, where rounding turns no sign of a gradient and no verdict, and the first images."""
    model, x, y = trained(folder)
    return copy.deepcopy(model).double(), x[:images].double(), y[:images]


class Watched(nn.Module):
    """A network that keeps what it is asked, and counts what is differentiated."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.inputs, self.backwards = network, [], 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inputs.append(x.detach().clone())
        logits = self.network(x)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, _: torch.Tensor) -> None:
        self.backwards += 1


class Linear(nn.Module):
    """Logits that are linear in the pixels."""

    def __init__(self, classes: int, side: int = 6):
        super().__init__()
        w = torch.randn(classes, 3 * side * side, generator=torch.Generator().manual_seed(classes), dtype=torch.double)
        self.w = nn.Parameter(30 * w)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - 0.5).flatten(1) @ self.w.T


@pytest.mark.parametrize(
    ("steps", "ends"),
    [
        (20, [4, 7, *range(9, 21)]),
        (50, [11, 21, 30, 38, 45]),
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),
    ],
)
def test_checkpoints(steps, ends):
    found = autopgd.windows(steps)
    assert list(found) == ends
    assert list(found.values()) == [end - last for last, end in zip([0, *ends], ends, strict=False)]


@BOTH
def test_every_iterate_lies_in_ball_and_box(digits, threat):
    model, x, y = trained(digits)
    x, y = x[:12], y[:12]
    for evaluation in (
        PGD(threat=threat, batch=1),
        AutoPGD(threat=threat, steps=20, restarts=2, batch=1),
        AutoPGD(threat=threat, steps=20, restarts=2, form="art17"),
    ):
        for image, label in zip(x, y, strict=True):
            watched = Watched(model)
            judge(evaluation, watched, image[None], label[None])
            for asked in watched.inputs:
                d = (asked - image).double().flatten()
                reached = d.abs().max() if threat.norm == "linf" else d.square().sum().sqrt()
                assert reached <= threat.eps * (1 + 1e-6) and 0 <= asked.min() and asked.max() <= 1


def test_an_attack_that_leaves_the_ball_is_found_out():
    x, y, model = torch.full((2, 3, 6, 6), 0.5).double(), torch.tensor([0, 1]), Linear(4)
    y = model(x + 1e-3).argmax(1)

    def cheat(how):
        def attack(x, y, names, restart):
            found = run.Found.nothing(x)
            found.note(torch.arange(len(x)), how(x), y, y + 1, 3)
            return found

        asked = [(image, int(label), (0, i)) for i, (image, label) in enumerate(zip(x + 1e-3, y, strict=True))]
        return list(attacker.withstand(model, asked, attack, LINF, 1, 10))

    assert [found.details["norm"] for found in cheat(lambda x: x + 0.08)] == pytest.approx([0.08, 0.08])
    for how in (lambda x: x + 0.0801, lambda x: x + torch.nan, lambda x: x - 0.6):
        with pytest.raises(RuntimeError, match="left the linf ball"):
            cheat(how)


@pytest.mark.parametrize(("classes", "loss", "scale"), [(2, "ce", 1), (5, "ce", 1), (5, "dlr", 1), (5, "dlr", 100)])
@BOTH
def test_of_linear_networks_exactly_the_fragile_images_are_broken(threat, classes, loss, scale):
    threat = threat.model_copy(update={"eps": 0.0025 if threat.norm == "linf" else 0.025})
    model = Linear(classes)
    model.w.data *= scale
    x = 0.5 + 0.03 * torch.randn(200, 3, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.double)
    logits = model(x).detach()
    y = logits.argmax(1)
    apart = model.w.detach()[y][:, None] - model.w.detach()
    dual = apart.abs().sum(-1) if threat.norm == "linf" else apart.square().sum(-1).sqrt()
    distance = (logits.gather(1, y[:, None]) - logits) / dual
    distance.scatter_(1, y[:, None], torch.inf)
    nearest = distance.min(1).values
    found = judge(AutoPGD(threat=threat, steps=50, restarts=2, loss=loss), model, x, y)
    robust = torch.tensor([judged.radius == threat.eps for judged in found])
    assert 25 < robust.sum() < 160 and ((nearest / threat.eps - 1).abs() > 1e-4).all()
    assert torch.equal(robust, nearest > threat.eps)
    for place, judged in enumerate(found):
        if judged.details:
            assert nearest[place] * (1 - 1e-9) <= judged.details["norm"] <= threat.eps * (1 + 1e-9)


@BOTH
def test_verdicts_do_not_depend_on_batches_or_shards(digits, threat):
    model, x, y = doubled(digits, 36)
    for kind, changes in ((PGD, {}), (AutoPGD, {}), (AutoPGD, {"loss": "dlr"})):
        evaluation = kind(threat=threat, steps=8, restarts=2, **changes)
        whole = judge(evaluation, model, x, y)
        assert 5 < len(stands(whole)) < 33
        small = kind(threat=threat, steps=8, restarts=2, batch=7, **changes)
        assert [told(found) for found in judge(small, model, x, y)] == [told(found) for found in whole]
        asked = questions(x, y)[::-1][1::3]
        part = [told(found) for found in evaluation.judge_many(model, asked)]
        assert part == [told(found) for found in whole[::-1][1::3]]
    assert PGD.execution == AutoPGD.execution == {"batch"}


def told(found: Judgement) -> tuple:
    return found.prediction, found.radius, found.skipped, {k: round(v, 9) for k, v in found.details.items()}


@BOTH
def test_more_restarts_break_more_and_autopgd_no_less_than_pgd(digits, threat):
    model, x, y = doubled(digits, 90)
    clean = {place for place, found in enumerate(model(x).argmax(1) == y) if found}
    pgd = [stands(judge(PGD(threat=threat, restarts=n), model, x, y)) for n in (1, 3)]
    auto = [stands(judge(AutoPGD(threat=threat, steps=20, restarts=n), model, x, y)) for n in (1, 3)]
    assert pgd[1] <= pgd[0] < clean and auto[1] <= auto[0] < clean
    assert len(auto[0]) <= len(pgd[0]) and len(auto[1]) <= len(pgd[1])
    longer = [len(stands(judge(AutoPGD(threat=threat, steps=n, restarts=1), model, x, y))) for n in (1, 5, 50)]
    assert longer[0] >= longer[1] >= longer[2] and longer[0] > longer[2] <= len(auto[0])


def test_what_is_told(digits):
    model, x, y = trained(digits)
    y = y.clone()
    y[3] = (y[3] + 1) % 10
    found = judge(AutoPGD(threat=LINF, steps=20, restarts=2), model, x[:80], y[:80])
    assert [judged.prediction for judged in found] == model(x[:80]).argmax(1).tolist()
    assert found[3].skipped and found[3].radius == 0 and not found[3].details
    broken = [(place, judged) for place, judged in enumerate(found) if not judged.skipped and judged.radius == 0]
    assert broken and all(judged.radius == LINF.eps for judged in found if not judged.skipped and not judged.details)
    for place, judged in broken:
        assert judged.details["adversarial"] != y[place] and 0 < judged.details["norm"] <= LINF.eps * (1 + 1e-6)
        assert 0 <= judged.details["iterations"] <= 20 and judged.details["restart"] in (0, 1)
    wide = judge(PGD(threat=LINF, eps="64/255"), model, x[:20], y[:20])
    assert not stands(wide) and max(judged.details.get("norm", 0) for judged in wide) > 0.1


@pytest.mark.parametrize("kind", [PGD, AutoPGD])
def test_one_forward_and_one_backward_each_step(kind):
    model = Watched(Linear(5))
    x = 0.5 + 0.1 * torch.rand(9, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    found = judge(kind(threat=Threat(norm="l2", eps=1e-4), steps=6, restarts=3), model, x, model(x).argmax(1))
    assert len(stands(found)) == 9
    # The labels above, the network's own classes, and in each restart the start and six steps.
    assert len(model.inputs) == 1 + 1 + 3 * 7 and model.backwards == 3 * 6


def test_broken_images_are_asked_no_more(digits):
    model, x, y = trained(digits)
    watched = Watched(model)
    found = judge(AutoPGD(threat=LINF, steps=10, restarts=2), watched, x, y)
    due = len(x)
    for judged in found:
        if judged.details:
            due += 11 * judged.details["restart"] + judged.details["iterations"] + 1
        else:
            due += 0 if judged.skipped else 22
    assert sum(map(len, watched.inputs)) == due


@pytest.mark.parametrize("evaluation", [PGD(threat=L2), AutoPGD(threat=L2, steps=5), AutoPGD(threat=L2, form="art17")])
def test_the_network_stays_as_it_is(evaluation):
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(), nn.Flatten())
    model = Classifier(body, 64, 4, (0.5,) * 3, (0.5,) * 3).train()
    model.body[1].eval()
    model.head.bias.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    x = torch.rand(6, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    judge(evaluation, model, x, torch.arange(6) % 4)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and not model.body[1].training and model.body[2].training
    assert all(p.grad is None and p.requires_grad == (p is not model.head.bias) for p in model.parameters())


def test_questions_are_asked_batch_after_batch():
    model, taken = Linear(4), []
    x = torch.full((3, 6, 6), 0.5).double()

    def asked():
        for index in range(10):
            taken.append(index)
            yield x, 0, (0, index)

    judgements = PGD(threat=LINF, steps=1, batch=4).judge_many(model, asked())
    next(judgements)
    assert taken == [0, 1, 2, 3]
    assert len(list(judgements)) == 9 and taken == list(range(10))


def test_networks_without_an_answer():
    class Lost(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :4] * torch.where(x.amax((1, 2, 3)) > 0.5, torch.nan, 1)[:, None]

    x = torch.stack([torch.full((3, 6, 6), 0.6), torch.full((3, 6, 6), 0.45)])
    lost, found = judge(PGD(threat=LINF), Lost(), x, torch.tensor([0, 0]))
    assert (lost.prediction, lost.radius, lost.skipped) == (-1, 0, True)
    assert (found.prediction, found.radius) == (0, 0) and found.details["adversarial"] in (-1, 1, 2, 3)


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (PGD, {"threat": Threat()}, "PGD needs eps > 0"),
        (AutoPGD, {"threat": Threat()}, "AutoPGD needs eps > 0"),
        (AutoAttack, {"threat": Threat()}, "AutoAttack needs eps > 0"),
        (PGD, {"threat": LINF, "start": "none", "restarts": 2}, "would repeat itself"),
        (PGD, {"threat": LINF, "steps": 0}, "steps"),
        (AutoPGD, {"threat": LINF, "loss": "cw"}, "'ce' or 'dlr'"),
        (AutoPGD, {"threat": LINF, "rho": 1.5}, "rho"),
    ],
)
def test_what_cannot_be_asked(kind, arguments, words):
    with pytest.raises(ValueError, match=words):
        kind(**arguments)


def test_losses_that_need_more_classes():
    x = torch.full((2, 3, 6, 6), 0.6).double()
    for evaluation, model in ((AutoPGD(threat=LINF, loss="dlr"), Linear(2)), (AutoAttack(threat=LINF), Linear(3))):
        with pytest.raises(ValueError, match="classes, and the network has"):
            judge(evaluation, model, x, model(x).argmax(1))
