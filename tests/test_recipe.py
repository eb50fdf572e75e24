"""Step sizes at given epochs of every schedule, and recipes refused."""

import math

import pytest
from pydantic import ValidationError

from crt.recipe import Recipe

BASE = {"epochs": 200, "batch_size": 128, "lr": 0.1}


@pytest.mark.parametrize(
    ("schedule", "epoch", "lr"),
    [
        ({}, 150, 0.1),
        ({"schedule": "multistep", "milestones": [100, 150]}, 99.99, 0.1),
        ({"schedule": "multistep", "milestones": [100, 150]}, 100, 0.01),
        ({"schedule": "multistep", "milestones": [100, 150]}, 199, 0.001),
        ({"schedule": "step", "step_epochs": 30}, 29.9, 0.1),
        ({"schedule": "step", "step_epochs": 30}, 60, 0.001),
        ({"schedule": "cosine"}, 0, 0.1),
        ({"schedule": "cosine"}, 100, 0.05),
        ({"schedule": "cosine"}, 50, 0.05 * (1 + math.sqrt(0.5))),
        ({"schedule": "cosine"}, 200, 0.0),
    ],
)
def test_lr_at(schedule, epoch, lr):
    assert Recipe(**BASE, **schedule).lr_at(epoch) == pytest.approx(lr, abs=1e-15)


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule": "multistep"},
        {"milestones": [3]},
        {"schedule": "multistep", "milestones": [3, 2]},
        {"schedule": "step"},
        {"lr": 0},
        {"lr": "nan"},
        {"epochs": 0},
        {"momentum": 1.5},
        {"warmth": 1},
        {"precision": "fp8"},
        {"compile": "fast"},
        {"compile": True},
        {"fold": 2},
    ],
)
def test_refused(wrong):
    with pytest.raises(ValidationError):
        Recipe(**(BASE | wrong))
