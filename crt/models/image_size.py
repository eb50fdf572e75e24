"""Image sizes of networks that take only one size."""

from collections.abc import Callable
from typing import TypeVar

Factory = TypeVar("Factory", bound=Callable)

SIDES: dict[str, int] = {}
"""Height and width of the only images that a network takes, by the network's name."""


def takes_only(side: int) -> Callable[[Factory], Factory]:
    """Mark a factory whose network takes only images of `side` x `side` pixels."""

    def mark(factory: Factory) -> Factory:
        SIDES[factory.__name__] = side
        return factory

    return mark
