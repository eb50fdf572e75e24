"""Plain PyTorch restatements of the methods, from the papers' formulas and as the authors' code computes them.

Each method's file is named as its file in `crt/methods` and offers a `Restatement` under the method's name. They share
no code with the methods, their attacks, bounds and training loop: they are the reference for their speed, and for their
results.
"""

from functools import cache
from pathlib import Path


@cache
def restates(method: type) -> bool:
    """True if the method, a class of `crt/methods`, has a restatement; nothing is imported."""
    return (Path(__file__).parent / f"{method.__module__.rpartition('.')[2]}.py").exists()
