"""What the device does at best, by a large matrix product and a large copy: what training is held against."""

from collections.abc import Callable, Iterable

import torch

from bench.timer import Timer
from crt import dist
from crt.recipe import Recipe
from crt.switches import arithmetic
from crt.train import LOW

_TRIES = 5


def ceilings(recipes: Iterable[Recipe]) -> dict[str, float]:
    """Operations a second of the product in the precision of each recipe, and bytes a second of the copy (`copy`)."""
    device = dist.device()
    gpu = device.type == "cuda"
    side, length = (8192, 2**28) if gpu else (1024, 2**24)
    found = {}
    for precision, recipe in {recipe.precision: recipe for recipe in recipes}.items():
        one, other = torch.randn(2, side, side, device=device).to(LOW.get(precision, torch.float32))
        with arithmetic(recipe):
            found[precision] = 2 * side**3 / _least(lambda one=one, other=other: one @ other)
    source = torch.ones(length, device=device)
    target = torch.empty_like(source)
    found["copy"] = 2 * source.nbytes / _least(lambda: target.copy_(source))
    return found


def _least(work: Callable[[], object]) -> float:
    """The fewest seconds that it takes, after one time that does not count."""
    work()
    seconds = []
    for _ in range(_TRIES):
        with Timer(alone=True) as timer:
            work()
        seconds.append(timer.seconds)
    return min(seconds)
