"""Former names of modules, for jobs that were queued before the modules moved.

submitit unpickles a job by the module names at the time of queueing. The first name in a job's pickle is one of this
package, and importing the package registers the other names. No code imports by these names.
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
"""Current names of classes by their former names."""


class _FormerModule(ModuleType):
    """Module under its former name, which takes its attributes from the current module."""

    def __getattr__(self, name: str) -> Any:
        # Python itself looks up such names on modules.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(FORMER[self.__name__]), RENAMED.get(name, name))


def register() -> None:
    """Register the former names with the import system."""
    for name in FORMER:
        sys.modules.setdefault(name, _FormerModule(name))
