"""The switches of a cell with `compute: fastest`: those it began with, those kept for its like, or those of a trial."""

import shutil
import sys
import time
from collections.abc import Iterable
from os import environ
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from bench.cell import Cell, digest
from bench.manifest.labels import switches_in_words
from bench.measure.choices import resolved
from bench.measure.trial import COMPILING, SECONDS, Outcome, trial
from bench.records import Machine, Record, Start, Switches
from crt import distributed
from crt.disk import read_note, replacing
from crt.plugins import declaration
from crt.text import printable
from crt.training.recipe import Recipe

FOLDER = "fastest"
"""Folder of the kept choices, in the runs folder."""


class KeptChoice(BaseModel):
    """A choice as it is kept, with what it holds for and the times that decided it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conditions: dict[str, Any]
    switches: Switches
    seconds: dict[str, float]
    """Median seconds of a batch by choice."""
    images: int
    """Images of that batch."""


def choose(cell: Cell, runs: Path, machine: Machine, begun: Iterable[Record] = ()) -> Switches | None:
    """The switches of the cell's training, the same on every rank; None unless its recipe has `compute: fastest`.

    Every rank must call this; rank 0 decides. `begun` are the records of earlier attempts, whose choice holds on.
    """
    if cell.recipe.compute != "fastest":
        return None
    decided = _decide(cell, runs, machine, begun) if distributed.rank() == 0 else None
    return distributed.gather(decided)[0]


def recipe_with(cell: Cell, switches: Switches | None) -> Recipe:
    """The cell's recipe, with the switches that were chosen for it, if they were."""
    return cell.recipe if switches is None else resolved(cell.recipe, switches)


def _decide(cell: Cell, runs: Path, machine: Machine, begun: Iterable[Record]) -> Switches:
    conditions = _conditions(cell, machine)
    file = runs / FOLDER / f"{cell.arch}-{cell.method.name}-{digest(conditions)}.json"
    former = [record.switches[cell.id] for record in begun if isinstance(record, Start) and cell.id in record.switches]
    for switches, words in ((former[-1] if former else None, "as it began"), (_kept(file, conditions), f"by {file}")):
        if switches is not None and _runs_here(cell, switches):
            _say(cell, f"{switches_in_words(switches)}, {words}")
            return switches
    return _tried(cell, file, conditions)


def _conditions(cell: Cell, machine: Machine) -> dict[str, Any]:
    """All that the fastest choice depends on."""
    dataset, recipe, kind = cell.data, cell.recipe, declaration("crt.methods", cell.method.name)
    cpu = {"cpu": machine.cpu, "threads": machine.threads} if machine.device == "cpu" else {}
    return {
        "device": machine.device,
        **cpu,
        "torch": torch.__version__,
        "compiler": shutil.which(environ.get("CXX", "g++")) is not None,
        "ranks": cell.ranks,
        "arch": cell.arch,
        "teacher": cell.teacher.arch if cell.teacher else None,
        "method": cell.method.name,
        # The length of a schedule changes no step.
        "arguments": {key: value for key, value in cell.method.args.items() if key not in kind.epochs_of},
        "threat": [cell.threat.norm, cell.threat.sigma > 0, cell.threat.eps > 0],
        "shape": list(dataset.shape),
        "classes": len(dataset.classes),
        "images": recipe.batch_size // cell.ranks,
        "precision": recipe.precision,
        "optimizer": recipe.optimizer,
        "loop": cell.loop,
        **({"average": True} if recipe.average else {}),
    }


def _kept(file: Path, conditions: dict[str, Any]) -> Switches | None:
    """The choice that is kept in a file; None where there is none, or a damaged one."""
    try:
        kept = KeptChoice.model_validate_json(read_note(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        print(printable(f"{file}: damaged; the choice is measured anew"), file=sys.stderr, flush=True)
        return None
    return kept.switches if kept.conditions == conditions else None


def _runs_here(cell: Cell, switches: Switches) -> bool:
    """True if this device and installation support the choice; an earlier attempt may have had others."""
    try:
        resolved(cell.recipe, switches)
    except ValueError as error:
        print(printable(f"{cell.id}: the choice is measured anew: {error}"), file=sys.stderr, flush=True)
        return False
    return True


def _tried(cell: Cell, file: Path, conditions: dict[str, Any]) -> Switches:
    """The choice of a trial. It is kept after each stage: a later one that ends the process costs one attempt."""
    _say(cell, f"a trial, in stages of about {SECONDS:.0f} s, and {COMPILING:.0f} s at most of compilation")
    file.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for outcome in trial(cell):
        kept = KeptChoice(conditions=conditions, **outcome._asdict())
        with replacing(file, shared=True) as out:
            out.write(kept.model_dump_json(indent=1).encode() + b"\n")
    _say(cell, f"{_words(outcome)}; measured in {time.monotonic() - began:.0f} s")
    return outcome.switches


def _words(outcome: Outcome) -> str:
    """The choice and the times that decided it."""
    times = "; ".join(f"{words}: {1000 * seconds:.4g} ms" for words, seconds in outcome.seconds.items())
    return f"{switches_in_words(outcome.switches)} ({times} for {outcome.images} images)"


def _say(cell: Cell, text: str) -> None:
    print(printable(f"{cell.id}: compute: fastest: {text}"), flush=True)
