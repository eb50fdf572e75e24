"""Step sizes at given epochs of every schedule, Nesterov's momentum, and recipes refused."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from crt.training.loop import optimizer
from crt.training.precision import check
from crt.training.recipe import ARITHMETIC, Recipe

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


def looking_ahead(start: torch.Tensor, gradient, recipe: Recipe, steps: int) -> torch.Tensor:
    """v <- mu v - lr f'(w + mu v), w <- w + v (Sutskever et al., 2013, equations 3 and 4); where it looks, w + mu v."""
    w, v = start.clone(), torch.zeros_like(start)
    for _ in range(steps):
        v = recipe.momentum * v - recipe.lr * gradient(w + recipe.momentum * v)
        w = w + v
    return w + recipe.momentum * v


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("nesterov", [False, True])
def test_nesterov_is_sutskevers(nesterov, fused):
    recipe = Recipe(epochs=1, batch_size=4, lr=0.05, momentum=0.8, weight_decay=0.1, nesterov=nesterov, fused=fused)
    torch.manual_seed(0)
    model, pull = nn.Linear(3, 2, bias=False).double(), torch.randn(2, 3, dtype=torch.float64)
    start, steps = model.weight.detach().clone(), optimizer(model, recipe)
    for _ in range(6):
        steps.zero_grad()
        (model.weight**4 / 4 + pull * model.weight).sum().backward()
        steps.step()
    ahead = looking_ahead(start, lambda w: w**3 + pull + recipe.weight_decay * w, recipe, 6)
    # torch keeps the weights where the gradient is taken.
    assert torch.allclose(model.weight.detach(), ahead, rtol=0, atol=1e-12) == nesterov


def test_nesterov_is_another_training_and_no_other_arithmetic():
    assert "nesterov" not in ARITHMETIC
    assert "nesterov" not in Recipe(**BASE).model_dump(exclude_defaults=True)


@pytest.mark.parametrize("unfit", [{"optimizer": "adam"}, {"momentum": 0}])
def test_nesterov_needs_sgd_with_momentum(unfit):
    with pytest.raises(ValidationError, match="nesterov: true needs optimizer: sgd and a momentum above 0"):
        Recipe(**BASE, nesterov=True, **unfit)


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule": "multistep"},
        {"milestones": [3]},
        {"schedule": "multistep", "milestones": [3, 2]},
        {"schedule": "cosine", "lr_min": 0.2},
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
        {"teacher_stream": True, "compile": "reduce-overhead"},
    ],
)
def test_refused(wrong):
    with pytest.raises(ValidationError):
        Recipe(**(BASE | wrong))


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("changes", [{}, {"channels_last": True, "fused": True, "fold": True}, {"cuda_graph": True}])
def test_what_is_portable_is_not_refused_by_a_cpu(precision, changes):
    if precision == "fp16" and changes.get("cuda_graph"):
        pytest.skip("refused by the recipe itself")
    recipe = Recipe(epochs=1, batch_size=1, lr=0.1, precision=precision, **changes)
    assert recipe.portable == (precision != "tf32" and "cuda_graph" not in changes)
    if recipe.portable:
        check(recipe, torch.device("cpu"))
    else:
        with pytest.raises(ValueError, match="needs a GPU"):
            check(recipe, torch.device("cpu"))
