"""Image sizes of networks that take only one size."""

from collections.abc import Callable
from typing import TypeVar

Factory = TypeVar("Factory", bound=Callable)

_SIDES: dict[Callable, int] = {}


def takes_only(side: int) -> Callable[[Factory], Factory]:
    """Mark a factory whose network takes only images of `side` x `side` pixels."""

    def mark(factory: Factory) -> Factory:
        _SIDES[factory] = side
        return factory

    return mark


def only_side(factory: Callable) -> int | None:
    """Height and width of the only images that the factory's network takes; None if it takes any."""
    return _SIDES.get(factory)
