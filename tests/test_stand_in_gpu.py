"""Methods, loaders and evaluations on a GPU that stands in for a real one: no mixed devices, and few waits for it."""

from collections.abc import Callable

import pytest
import stand_in_gpu
import torch
from stand_in_gpu import ASYNCHRONOUS, QUESTION, TO_DEVICE, TO_HOST, Log, gpu
from test_data import DIGITS, KINDS
from test_methods import METHODS, chain, classifier, toy
from test_switches import apart, bound, recipe

from crt.data.loader import loader
from crt.evals.base import judge_each
from crt.plugins import find
from crt.threat import Threat
from crt.training.loop import Training
from crt.training.recipe import Recipe

SETTINGS = (
    {},
    {"precision": "fp16", "channels_last": True, "fused": True, "fold": True},
    {"precision": "bf16", "fold": True, "teacher_stream": True},
    {"precision": "tf32", "cuda_graph": True},
)
"""Every precision and every switch except compilation."""


def trained(name: str, of: Recipe, device: str, log: Log | None = None) -> tuple[dict[str, torch.Tensor], float]:
    """Weights after two epochs and the last one's loss; `log` holds the second epoch, since first steps set up."""
    method, model = bound(name, device)
    training = Training(method, model, of)
    batches = [tuple(part.to(device) for part in (*toy(n), torch.arange(n))) for n in (12, 6)]
    torch.manual_seed(7)
    training.epoch(batches, 0)
    if log:
        log.events.clear()
    loss = training.epoch(batches, 1)
    if log:
        assert loss.is_cuda and all(weight.is_cuda for weight in model.parameters())
        assert not log.waits(), log.waits()
    return {key: value.cpu() for key, value in model.state_dict().items()}, float(loss)


@pytest.mark.parametrize("name", METHODS)
def test_no_step_waits_for_the_device_or_mixes_it_with_the_host(name):
    for setting in SETTINGS:
        with gpu() as log:
            trained(name, recipe(**setting), "cuda", log)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_there_is_the_step_here(name):
    """The stand-in computes what the CPU computes: it changes where tensors claim to be, and nothing else."""
    weights, loss = trained(name, recipe(), "cpu")
    with gpu():
        found, other = trained(name, recipe(), "cuda")
    assert other == loss and apart(weights, found) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_loader_waits_for_the_device(kind, digits):
    def make(device: str):
        # The pipeline with the most changes: crops, flips, jitter and rotation.
        options = {"pipeline": "rrm-l2", "batch_size": 64, "seed": 3, "images": 160, "workers": None}
        return loader(kind, DIGITS, "train", data=digits, device=device, **options)

    expected = make("cpu")
    with gpu() as log:
        made = make("cuda")
        log.events.clear()
        found = list(made)
        assert not log.waits(), log.waits()
        # Images, labels and indices of each batch, and the three draws of an epoch: or draws alone.
        assert 0 < log.count(ASYNCHRONOUS) <= 3 * len(found) + 3
        assert all(part.is_cuda for batch in found for part in batch)
        made.close()
    if kind != "ffcv":  # whose crops cannot be seeded
        for batch, other in zip(expected, found, strict=True):
            assert all(torch.equal(one, two.as_subclass(torch.Tensor)) for one, two in zip(batch, other, strict=True))
    expected.close()


@pytest.mark.parametrize(
    ("work", "kind"),
    [
        (lambda x: x.sum().item(), QUESTION),
        (lambda x: bool((x > 0).any()), QUESTION),
        (lambda x: x.tolist(), QUESTION),
        (lambda x: x[x > 0], QUESTION),
        (lambda x: x.nonzero(), QUESTION),
        (lambda x: x.masked_select(x > 0), QUESTION),
        (lambda x: x.unique(), QUESTION),
        (lambda x: torch.equal(x, x), QUESTION),
        (lambda x: x.__setitem__(x > 2, torch.zeros(2, device="cuda")), QUESTION),
        (lambda x: x[torch.zeros((), dtype=torch.long, device="cuda")], QUESTION),
        (lambda x: torch.linalg.eigvalsh(x[:4].view(2, 2)), QUESTION),
        (lambda x: (x.requires_grad_() * x.sum().item()).sum().backward(), QUESTION),
        (lambda x: x.cpu(), TO_HOST),
        (lambda x: x.to("cpu", torch.float64), TO_HOST),
        (lambda x: torch.zeros(5).copy_(x), TO_HOST),
        (lambda x: torch.zeros(5).to(x), TO_DEVICE),
        (lambda x: x.copy_(torch.zeros(5)), TO_DEVICE),
        (lambda x: torch.tensor([1.0, 2.0], device="cuda"), TO_DEVICE),
        (lambda x: x[torch.tensor([0, 2])], TO_DEVICE),
        (lambda x: torch.zeros(5).to("cuda", non_blocking=True), TO_DEVICE),
        (lambda x: torch.zeros(5).pin_memory().to("cuda"), TO_DEVICE),
    ],
)
def test_what_makes_the_host_wait_is_logged_where_it_happens(work: Callable, kind: str):
    with gpu() as log:
        x = torch.arange(5.0, device="cuda")
        log.events.clear()
        work(x)
        (event, count), *rest = log.waits().items()
        assert event.kind == kind and count == 1 and not [other for other, _ in rest if other.kind != kind]
        assert event.place.startswith("tests/test_stand_in_gpu.py:")
        torch.cuda.set_sync_debug_mode("error")
        with pytest.raises(RuntimeError, match="synchronizing CUDA operation"):
            work(x)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.to("cuda", torch.float64),
        lambda x: torch.where(x > 0, x, 0.0).sum(),
        lambda x: x.__setitem__(x > 0, 1.0),
        lambda x: x[2] + x[:1],
        lambda x: x.index_select(0, torch.arange(2, device="cuda")),
        lambda x: torch.randn(5, device="cuda", generator=torch.Generator("cuda").manual_seed(1)),
        lambda x: x + torch.tensor(1.0),
        lambda x: torch.ones(5, pin_memory=True).to(x.device, non_blocking=True),
        lambda x: (x.requires_grad_() ** 2).sum().backward(),
    ],
)
def test_what_the_host_need_not_wait_for_is_no_wait(work: Callable):
    with gpu() as log:
        x = torch.arange(5.0, device="cuda")
        work(x)
        assert not log.waits()


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x + torch.ones(5),
        lambda x: torch.cat([x, torch.ones(5)]),
        lambda x: torch.nn.functional.linear(x, torch.ones(2, 5)),
        lambda x: torch.nn.Linear(5, 2)(x),
        lambda x: torch.ones(5)[x.long()],
        lambda x: x.numpy(),
        lambda x: torch.rand(5, device="cuda", generator=torch.Generator()),
    ],
)
def test_what_a_gpu_refuses_fails(work: Callable):
    with gpu(), pytest.raises((RuntimeError, TypeError), match=r"cuda:0|other device"):
        work(torch.arange(5.0, device="cuda"))


def test_nothing_is_left_of_it():
    def everything() -> tuple:
        return torch.cuda.is_available, torch.Generator, torch.autocast, torch.cuda.Stream, torch.nn.Linear(2, 2).weight

    before = everything()
    with pytest.raises(ZeroDivisionError), gpu():
        assert torch.cuda.is_available() and torch.zeros(1, device="cuda").device == torch.device("cuda", 0)
        raise ZeroDivisionError
    assert everything()[:-1] == before[:-1] and type(everything()[-1].data) is torch.Tensor


def test_every_setting_of_a_recipe_is_among_them():
    from crt.training.recipe import ARITHMETIC

    assert {key for setting in SETTINGS for key in setting} == set(ARITHMETIC) - {"compile", "compute"}
    assert {setting.get("precision", "fp32") for setting in SETTINGS} == {"fp32", "tf32", "bf16", "fp16"}


LINF, L2 = Threat(norm="linf", eps=1e-4, sigma=0.25), Threat(norm="l2", eps=1e-4, sigma=0.25)
SCARCE, PER_BATCH = 1, 20
"""Waits that an attack may need in each of its steps, and in all else that it does with a batch in one restart."""


def judged(name: str, device: str, threat: Threat, of: Callable = classifier, **arguments) -> tuple[list, int]:
    """Judgements of 8 images with labels that are the network's own classes, and the number of waits for the device."""
    model, x = of(0).eval(), toy(8)[0]
    with torch.no_grad():
        labels = model(x).argmax(1).tolist()
    evaluation = find("crt.evals", name)(threat=threat, **arguments)
    if evaluation.needs_teacher:
        evaluation.teacher = of(0).eval().to(device)
    model, images = model.to(device), x.to(device)
    questions = [(image, label, (0, i)) for i, (image, label) in enumerate(zip(images, labels, strict=True))]
    log = stand_in_gpu.current()
    log.events.clear()
    judgements = list(judge_each(evaluation, model, questions))
    return judgements, log.count()


@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("PGD", {}),
        ("PGD", {"precision": "bf16", "channels_last": True, "fold": True}),
        ("PGD", {"precision": "tf32"}),
        ("AutoPGD", {}),
        ("AutoPGD", {"form": "art17", "loss": "dlr"}),
        ("MultiTargeted", {"targets": 1}),
        ("Square", {}),
        ("Transfer", {}),
    ],
)
def test_an_attack_asks_the_device_once_a_step(name, arguments, threat):
    with gpu():
        counts = [judged(name, "cuda", threat, steps=steps, restarts=1, **arguments)[1] for steps in (4, 8)]
        (judgements, two) = judged(name, "cuda", threat, steps=8, restarts=2, **arguments)
    assert all(judgement.radius > 0 for judgement in judgements)  # so that no attack ends early
    assert counts[1] - counts[0] <= 4 * SCARCE
    assert counts[1] <= 8 * SCARCE + PER_BATCH and two - counts[1] <= 8 * SCARCE + PER_BATCH


@pytest.mark.parametrize(
    ("name", "arguments", "most"),
    [
        ("Clean", {}, 8),  # one an image
        ("Noisy", {}, 8),
        ("Smoothing", {"n": 1000}, 17),  # two an image, and one a group of images
        ("Smoothing", {"n": 1000, "precision": "bf16"}, 17),
        # For each of three layers three of its norm, in the beginning; and five a batch.
        ("Lipschitz", {}, 14),
        ("Lipschitz", {"bounds": "box"}, 30),
        ("Lipschitz", {"bounds": "local"}, 40),
        ("CROWN", {}, 12),
        ("IBP", {}, 12),
        # Images to the host and back, and classes to the host.
        ("Corrupted", {"corruption": "jpeg"}, 4),
    ],
)
def test_no_other_evaluation_asks_the_device_more_than_so_often(name, arguments, most):
    of = chain if name in ("Lipschitz", "CROWN", "IBP") else classifier
    expected, _ = judged(name, "cpu", L2, of, **arguments)
    with gpu():
        found, count = judged(name, "cuda", L2, of, **arguments)
    assert count <= most
    # On a GPU, more draws share a pass, whose sums are rounded in another order.
    assert [(j.prediction, j.skipped) for j in found] == [(j.prediction, j.skipped) for j in expected]
    assert [j.radius for j in found] == pytest.approx([j.radius for j in expected], rel=0.05)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("PGD", {}),
        ("AutoPGD", {}),
        ("AutoPGD", {"form": "art17"}),
        ("MultiTargeted", {"targets": 3}),
        ("Transfer", {}),
    ],
)
def test_an_attack_there_is_the_attack_here(name, arguments):
    threat = Threat(norm="linf", eps=0.2)
    expected, _ = judged(name, "cpu", threat, chain, steps=5, restarts=2, **arguments)
    with gpu():
        found, _ = judged(name, "cuda", threat, chain, steps=5, restarts=2, **arguments)
    assert found == expected and any(judgement.radius == 0 for judgement in found)
