"""Averages of the weights: the formula, skipped steps, recordings, resumed jobs, ranks, and which weights are kept."""

import copy

import pytest
import torch
from test_graph import traced, trained  # noqa: F401  # a fixture
from test_methods import classifier, toy

from crt.methods.standard import Standard
from crt.threat import Threat
from crt.training.loop import Training
from crt.training.recipe import Recipe

AVERAGED = Recipe(epochs=2, batch_size=12, lr=0.05, weight_decay=1e-3, average={"decay": 0.5})
MANIFEST = """
title: averaged
dataset: digits
pipeline: plain
loader: device
threat: {{norm: linf, eps: 4/255}}
images: 128
arch: cnn2c2f
cells:
  - method: Standard
    name: first
    recipe: {{epochs: 3, batch_size: 32, lr: 0.05{more}}}
    monitor: {{images: 40, evals: [PGD: {{steps: 2}}]}}
    {extra}
"""


def batches(count: int = 8) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    x, y = toy(12 * count)
    return [(x[12 * k :][:12].double(), y[12 * k :][:12], torch.arange(12)) for k in range(count)]


@pytest.mark.parametrize("decay", [0.3, 0.99])
def test_the_average_is_that_of_the_formula(decay):
    """theta_bar <- d theta_bar + (1 - d) theta with d = min(decay, (1 + t) / (10 + t)), statistics too."""
    model = classifier(0).double().train()
    training = Training(Standard(threat=Threat()), model, AVERAGED.model_copy(update={"average": None}))
    averaged = copy.deepcopy(model)
    recipe = AVERAGED.model_copy(
        update={"average": Recipe(**AVERAGED.model_dump()).average.model_copy(update={"decay": decay})}
    )
    other = Training(Standard(threat=Threat()), averaged, recipe)
    mean = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for t, batch in enumerate(batches()):
        training.epoch([batch], 0)
        other.epoch([batch], 0)
        d = min(decay, (1 + t) / (10 + t))
        for name, tensor in model.state_dict().items():
            mean[name] = d * mean[name] + (1 - d) * tensor if tensor.is_floating_point() else tensor.clone()
    assert all(torch.equal(other.model.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert mean.keys() == other.weights.keys()
    for name, tensor in other.weights.items():
        torch.testing.assert_close(tensor, mean[name], rtol=1e-12, atol=1e-14)
    assert float(other.average.steps) == 8


def test_a_step_that_overflows_is_not_counted():
    recipe = AVERAGED.model_copy(update={"precision": "fp16"})
    training = Training(Standard(threat=Threat()), classifier(0).train(), recipe)
    x, y, index = batches(1)[0]
    training.scaler.update(2.0**40)
    before = {name: tensor.clone() for name, tensor in training.weights.items()}
    training.epoch([(x.float(), y, index)], 0)
    assert float(training.average.steps) == 0
    kept = [name for name, _ in training.model.named_parameters()]
    assert all(torch.equal(training.weights[name], before[name]) for name in kept)
    while float(training.average.steps) == 0:
        training.epoch([(x.float(), y, index)], 0)
    assert any(not torch.equal(training.weights[name], before[name]) for name in kept)
