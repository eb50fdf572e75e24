"""The device's highest rates, measured by a large matrix product and a large copy, to compare training with."""

from collections.abc import Callable, Iterable
from functools import cache

import torch

from bench.measure.timer import Timer
from crt import distributed
from crt.training.precision import LOW, products
from crt.training.recipe import Recipe

_TRIES = 5


def roofline(recipes: Iterable[Recipe]) -> dict[str, float]:
    """Operations a second of the product by each recipe's precision, and bytes a second of the copy (`copy`)."""
    rates = {precision: _product(precision) for precision in {recipe.precision for recipe in recipes}}
    return rates | {"copy": _copy()}


# The cache lets a process measure each rate once for all its studies.
@cache
def _product(precision: str) -> float:
    device = distributed.device()
    side = 8192 if device.type == "cuda" else 1024
    left, right = torch.randn(2, side, side, device=device).to(LOW.get(precision, torch.float32))
    with products(precision, trial=True):
        return 2 * side**3 / _least(lambda: left @ right)


@cache
def _copy() -> float:
    device = distributed.device()
    source = torch.ones(2**28 if device.type == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _least(lambda: target.copy_(source))


def _least(work: Callable[[], object]) -> float:
    """Fewest seconds of several repetitions of the work, after one untimed repetition."""
    work()
    seconds = []
    for _ in range(_TRIES):
        with Timer(alone=True) as timer:
            work()
        seconds.append(timer.seconds)
    return min(seconds)
