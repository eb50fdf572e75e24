"""Former names of modules, by which jobs that were queued before a move name their classes.

submitit unpickles a job by the names that modules had when it was queued. The first name in a job's pickle is one of
this package, so that importing the package makes the others known, too. No code imports by these names.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

FORMER = {
    "bench.attempt": "bench.jobs.lease",
    "bench.cells": "bench.cell",
    "bench.tables": "bench.manifest.manifest",
    "crt.recipe": "crt.training.recipe",
}


RENAMED = {"Place": "JobPaths"}
"""Former names of classes, and their names now."""


class _FormerModule(ModuleType):
    """A module by its former name, which takes everything from where it is now."""

    def __getattr__(self, name: str) -> Any:
        # Python asks modules by such names what they are.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(FORMER[self.__name__]), RENAMED.get(name, name))


def register() -> None:
    """Let the import system find each former name."""
    for name in FORMER:
        sys.modules.setdefault(name, _FormerModule(name))
