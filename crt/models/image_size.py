"""The images that a network takes, where it does not take images of any size."""

from collections.abc import Callable
from typing import TypeVar

Factory = TypeVar("Factory", bound=Callable)

SIDES: dict[str, int] = {}
"""Height and width of the images that a network takes, by name, of networks that take no others."""


def takes_only(side: int) -> Callable[[Factory], Factory]:
    """Mark a factory whose network takes images of `side` x `side` pixels and no others."""

    def mark(factory: Factory) -> Factory:
        SIDES[factory.__name__] = side
        return factory

    return mark
