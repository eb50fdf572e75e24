"""What the device does at best, by a large matrix product and a large copy: what training is held against."""

from collections.abc import Callable, Iterable
from functools import cache

import torch

from bench.measure.timer import Timer
from crt import distributed
from crt.training.loop import LOW
from crt.training.precision import products
from crt.training.recipe import Recipe

_TRIES = 5


def roofline(recipes: Iterable[Recipe]) -> dict[str, float]:
    """Operations a second of the product in the precision of each recipe, and bytes a second of the copy (`copy`)."""
    found = {precision: _product(precision) for precision in {recipe.precision for recipe in recipes}}
    return found | {"copy": _copy()}


# A process measures each once, not anew for each of its studies.
@cache
def _product(precision: str) -> float:
    device = distributed.device()
    side = 8192 if device.type == "cuda" else 1024
    one, other = torch.randn(2, side, side, device=device).to(LOW.get(precision, torch.float32))
    with products(precision, trial=True):
        return 2 * side**3 / _least(lambda: one @ other)


@cache
def _copy() -> float:
    device = distributed.device()
    source = torch.ones(2**28 if device.type == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _least(lambda: target.copy_(source))


def _least(work: Callable[[], object]) -> float:
    """The fewest seconds that it takes, after one time that does not count."""
    work()
    seconds = []
    for _ in range(_TRIES):
        with Timer(alone=True) as timer:
            work()
        seconds.append(timer.seconds)
    return min(seconds)
