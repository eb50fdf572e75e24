"""Run tensor code without importing torch's compiler, which takes seconds and hundreds of megabytes."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

Result = TypeVar("Result")

_COMPILER, _MARK = "torch._dynamo", "__dynamo_disable"


class _StandIn(ModuleType):
    """Offers the one function of the compiler that marks others as not to be compiled, and remembers which."""

    def __init__(self):
        super().__init__(_COMPILER)
        self.marked: list[Callable] = []

    def disable(self, function: Callable, *_: Any, **__: Any) -> Callable:
        self.marked.append(function)
        return function


def uncompiled(work: Callable[[], Result]) -> Result:
    """The result of `work`, which compiles nothing and may be done twice.

    torch's kernels of the meta device import the compiler on their first call only to say that it must leave them
    alone (`torch._disable_dynamo`). A stand-in answers them and leaves no trace; where it does not suffice, `work` is
    done again with the compiler itself.
    """
    if _COMPILER in sys.modules:
        return work()
    import torch

    stand_in = sys.modules[_COMPILER] = _StandIn()
    try:
        return work()
    except (ImportError, AttributeError):
        pass
    finally:
        del sys.modules[_COMPILER]
        for function in stand_in.marked:
            vars(function).pop(_MARK, None)
        vars(torch).pop("_dynamo", None)
    return work()
