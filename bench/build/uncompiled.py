"""Run tensor code without importing torch's compiler, which takes seconds and hundreds of megabytes."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

Result = TypeVar("Result")

_COMPILER, _MARK = "torch._dynamo", "__dynamo_disable"


class _StandIn(ModuleType):
    """Stand-in for the compiler. It offers only `disable`, and remembers the functions that were marked with it."""

    def __init__(self):
        super().__init__(_COMPILER)
        self.marked: list[Callable] = []

    def disable(self, function: Callable, *_: Any, **__: Any) -> Callable:
        self.marked.append(function)
        return function


def uncompiled(work: Callable[[], Result]) -> Result:
    """The result of `work`, which must compile nothing and be safe to run twice.

    torch's meta kernels import the compiler on their first call, only to mark themselves as not to be compiled
    (`torch._disable_dynamo`). A stand-in serves that import and is removed afterwards. If it does not suffice, `work`
    runs again with the real compiler.
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
