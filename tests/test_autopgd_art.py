"""AutoPGD and PGD against those of the Adversarial Robustness Toolbox, on a trained network."""

from unittest import mock

import numpy as np
import pytest
import torch
from art.attacks.evasion import (
    AutoProjectedGradientDescent,
    ProjectedGradientDescentPyTorch,
    auto_projected_gradient_descent,
)
from art.estimators.classification import PyTorchClassifier
from test_attack_evals import BOTH, L2, doubled, judge, questions, stands, trained
from torch import nn

from crt.attacks.autopgd import cross_entropy
from crt.attacks.autopgd_art import art17, wandering, windows
from crt.attacks.common import frozen
from crt.evals.autopgd import AutoPGD
from crt.evals.pgd import PGD
from crt.threat import Threat

STRAY = 3
"""Images that may stand against one attack and not against the other, of 150: starts are random."""


def estimator(model: nn.Module) -> PyTorchClassifier:
    shape = {"input_shape": (3, 32, 32), "nb_classes": 10, "clip_values": (0.0, 1.0)}
    return PyTorchClassifier(model, nn.CrossEntropyLoss(), device_type="cpu", **shape)


class Doubled(nn.Module):
    """A network in float64, also where the toolbox tries it on an image in float32."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x.double())


def arguments(threat: Threat) -> dict:
    return {"norm": np.inf if threat.norm == "linf" else 2, "eps": threat.eps, "verbose": False}


def theirs(attack, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> set[int]:
    """The places of the images that stand: those whose adversarial image the network puts in the label's class."""
    np.random.seed(0)
    at = torch.from_numpy(attack.generate(x.numpy(), y.numpy()))
    return set((model(at).argmax(1) == y).nonzero().flatten().tolist())


def compare(name: str, ours: set[int], art: set[int]) -> None:
    print(f"{name}: {len(ours)} stand, {len(art)} in the toolbox; only here {sorted(ours - art)}")
    assert len(ours - art) <= STRAY and len(ours) <= len(art) + STRAY


@BOTH
def test_what_the_toolboxs_autopgd_breaks_is_broken(digits, threat):
    model, x, y = trained(digits)
    x, y = x[:150], y[:150]
    attack = AutoProjectedGradientDescent(
        estimator(model), eps_step=2 * threat.eps, max_iter=20, nb_random_init=2, batch_size=150, **arguments(threat)
    )
    ours = stands(judge(AutoPGD(threat=threat, steps=20, restarts=2), model, x, y))
    assert 5 < len(ours) < 140
    compare("AutoPGD", ours, theirs(attack, model, x, y))


@BOTH
def test_what_the_toolboxs_pgd_breaks_is_broken(digits, threat):
    model, x, y = trained(digits)
    x, y = x[:150], y[:150]
    attack = ProjectedGradientDescentPyTorch(
        estimator(model), eps_step=threat.eps / 8, max_iter=20, num_random_init=1, batch_size=150, **arguments(threat)
    )
    ours = stands(judge(PGD(threat=threat, steps=20), model, x, y))
    assert 5 < len(ours) < 140
    compare("PGD", ours, theirs(attack, model, x, y))


@pytest.mark.parametrize("steps", [20, 50])
@BOTH
def test_the_toolbox_form_is_the_toolboxs_of_one_image(digits, threat, steps, monkeypatch):
    """Since version 1.14 the toolbox decides image by image: then a batch of one is what it was before."""
    # In float32 the sign of a small gradient, and with it a pixel, would hang on the processor.
    monkeypatch.setattr(auto_projected_gradient_descent, "ART_NUMPY_DTYPE", np.float64)
    model, x, y = doubled(digits, 20)
    settings = {"eps_step": 2 * threat.eps, "max_iter": steps, "nb_random_init": 1, "batch_size": 1}
    attack = AutoProjectedGradientDescent(estimator(Doubled(model)), **settings, **arguments(threat))
    broken = 0
    for place in range(20):
        image, label = x[place : place + 1], y[place : place + 1]
        if int(model(image).argmax(1)) != int(label):
            continue
        start = wandering(image, threat, [(0, place)], 0)
        drawn = mock.Mock(return_value=(start - image).numpy())
        with mock.patch.object(auto_projected_gradient_descent, "random_sphere", drawn):
            at = torch.from_numpy(attack.generate(image.numpy(), label.numpy()))
        assert at.dtype == torch.float64
        fooled = int(model(at).argmax(1)) != int(label)
        with frozen(model):
            ours = art17(model, image, label, start, threat, steps=steps, loss=cross_entropy, rho=0.75)
        assert bool(ours.broken) == fooled, place
        if fooled:
            broken += 1
            # The toolbox adds 1e-7 to the length of a gradient that it divides by.
            assert (ours.adversarial - at).abs().max() < (1e-9 if threat.norm == "linf" else 1e-6), place
    assert broken > 1


@pytest.mark.parametrize(
    ("steps", "ends"), [(20, [5, 9, 12, 15, 16, 18, 19, 20]), (50, [11, 21, 29, 35, 40, 44, 47, 50])]
)
def test_checkpoints_of_the_toolbox(steps, ends):
    found = windows(steps)
    assert list(found) == ends
    assert list(found.values()) == [end - last for last, end in zip([0, *ends], ends, strict=False)]


def test_the_toolbox_form_depends_on_the_batch(digits):
    model, x, y = trained(digits)
    x, y = x[:60], y[:60]
    form = AutoPGD(threat=L2, steps=20, restarts=2, form="art17")
    together, again = judge(form, model, x, y), judge(form, model, x, y)
    alone = [next(form.judge_many(model, [question])) for question in questions(x, y)]
    assert together == again
    pairs = [
        (a.details["norm"], b.details["norm"]) for a, b in zip(together, alone, strict=True) if a.details and b.details
    ]
    assert max(abs(a - b) for a, b in pairs) > 1e-4
    assert all(judged.details.get("iterations", 0) in (0, 20) for judged in together)
    assert len(stands(judge(AutoPGD(threat=L2, steps=20, restarts=2), model, x, y)) - stands(together)) <= 1
    assert judge(AutoPGD(threat=L2, steps=20, restarts=2, form="art17", batch=3), model, x, y) == together
