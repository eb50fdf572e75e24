"""Weights of a lower precision: cast once for all passes of an attack, with the same results as under autocast."""

from collections import Counter

import pytest
import torch
from test_methods import toy
from test_switches import bound, network, recipe
from torch.utils._python_dispatch import TorchDispatchMode

from crt.models.fold_batchnorm import twin
from crt.models.low_weights import low_weights
from crt.training.loop import Training
from crt.training.method import Method

ATTACKS = {"SAT": {"K": 4}, "PGD7Fast": {"K": 4}, "SmoothMix": {"T": 4, "m": 1}, "SmoothAdv": {"T": 4, "m": 1}}


class Casts(TorchDispatchMode):
    """Counts how often each of the weights is cast."""

    def __init__(self, weights: list[torch.Tensor]):
        super().__init__()
        self.weights, self.counts = {weight.data_ptr(): place for place, weight in enumerate(weights)}, Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket is torch.ops.aten._to_copy and args[0].data_ptr() in self.weights:
            self.counts[self.weights[args[0].data_ptr()]] += 1
        return func(*args, **(kwargs or {}))


def losses(name: str, low: bool, **switches) -> tuple[list[float], Counter]:
    """Losses of three steps, and the casts in the last of them."""
    method, model = bound(name, **ATTACKS.get(name, {}))
    training = Training(method, model, recipe(precision="bf16", **switches))
    networks = [model, *([model.twin.network] if model.twin else []), *([method.teacher] if method.teacher else [])]
    if not low:
        for each in networks:
            each.low = None
    x, y = toy(12)
    torch.manual_seed(7)
    found = [training.epoch([(x, y, torch.arange(12))], epoch).item() for epoch in range(2)]
    convolutions = [m.weight for each in networks for m in each.modules() if isinstance(m, torch.nn.Conv2d)]
    with Casts(convolutions) as casts:
        found.append(training.epoch([(x, y, torch.arange(12))], 2).item())
    return found, casts.counts


@pytest.mark.parametrize("switches", [{}, {"fold": True}], ids=["plain", "fold"])
@pytest.mark.parametrize("name", [*ATTACKS, "CRT", "RRM"])
def test_frozen_weights_are_cast_once_and_nothing_else_changes(name, switches):
    expected, each = losses(name, low=False, **switches)
    found, once = losses(name, low=True, **switches)
    assert found == expected
    # The student's own pass casts its two convolutions, in SmoothMix twice the same; four steps of an attack, or the
    # teacher's pass, cast them no more.
    assert set(once.values()) == {1} and len(once) == 2 and sum(each.values()) >= 4


def test_float64_and_other_precisions_are_left_alone():
    method, model = bound("SAT")
    Training(method, model, recipe(precision="bf16"))
    weight = model.head.weight
    for context in (torch.autocast("cpu", torch.float16), torch.autocast("cpu", enabled=False)):
        with context, low_weights(model):
            assert model.head.weight is weight
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(ZeroDivisionError), low_weights(model):
            assert model.head.weight.dtype == torch.bfloat16 and not model.head.weight.requires_grad
            raise ZeroDivisionError
        assert model.head.weight is weight
        model.double()
        model.low.__dict__.pop("parts")
        with low_weights(model):
            assert model.head.weight.dtype == torch.float64


def test_a_teacher_is_cast_for_good_and_a_student_for_each_attack():
    method, model = bound("CRT")
    assert isinstance(method, Method)
    Training(method, model, recipe(precision="bf16"))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        for constant, expected in ((False, 2.0), (True, 2.0)):
            with low_weights(model, constant):
                assert model.head.bias[0] == model.head.bias[0]
            model.head.bias.fill_(2.0 if not constant else 3.0)
            with low_weights(model, constant):
                assert (model.head.bias == expected).all()


def test_a_twin_shares_what_it_does_not_fold():
    model = network("resnet20")
    made = twin(model)
    own, others = dict(model.named_parameters()), dict(made.network.named_parameters())
    folded = {f"{layer}.{kind}" for layer, module in made.network.named_modules() for kind in ("weight", "bias")
              if any(module is fused for _, _, fused in made.folded)}  # fmt: skip
    assert {name for name in others if name in own and others[name].data_ptr() == own[name].data_ptr()} == (
        set(others) - folded
    )
    assert made.network.normalize.mean is model.normalize.mean and "head.weight" in set(others) - folded
