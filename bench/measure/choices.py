"""Choices of a recipe's switches that a trial compares: those that this device and installation support."""

from bench.cell import Cell
from bench.records import Switches
from crt import distributed
from crt.training.precision import check
from crt.training.recipe import EXACT, Recipe


def resolved(recipe: Recipe, switches: Switches) -> Recipe:
    """The recipe with these switches on; ValueError where they exclude one another or the device does not support them.

    A rank that works with others has no CUDA graphs.
    """
    whole = Recipe.model_validate(recipe.model_dump() | {"compute": "stated"} | switches)
    check(whole, distributed.device())
    return whole


def _supported(cell: Cell, choices: list[Switches]) -> list[Switches]:
    found = []
    for switches in choices:
        try:
            resolved(cell.recipe, switches)
        except ValueError:
            continue
        found.append(switches)
    return found


def _layouts(cell: Cell) -> list[Switches]:
    """`exact`, with and without its order of the weights, and with a stream of the teacher's own."""
    exact: Switches = dict(EXACT)
    teacher = [exact | {"teacher_stream": True}] if cell.teacher else []
    return [exact, {"fused": True, "fold": True}, *teacher]


def eager(cell: Cell) -> list[Switches]:
    """The choices for eager steps, `exact` first."""
    return _supported(cell, [*_layouts(cell), {}])


def recorded(cell: Cell, fastest: Switches) -> list[Switches]:
    """The choices for recorded steps; the order of weights counts for more where the host does not hold up the GPU."""
    # A hand-written loop takes its steps itself, and none is recorded.
    return [] if cell.loop == "bare" else _supported(cell, [{**each, "cuda_graph": True} for each in _layouts(cell)])


def compiled(cell: Cell, fastest: Switches) -> list[Switches]:
    """The choices for compiled networks, given the fastest without a compiler."""
    modes = ("default",) if fastest.get("cuda_graph") else ("default", "reduce-overhead")
    return _supported(cell, [{**fastest, "compile": mode} for mode in modes])
