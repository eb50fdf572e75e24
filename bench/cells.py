"""What is measured: a cell is one network to train, time and evaluate."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from crt.quantity import Count, Real, Whole
from crt.recipe import Recipe
from crt.threat import Threat

_STRICT = ConfigDict(frozen=True, extra="forbid")


def digest(value: Any) -> str:
    """Eight hex digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class Spec(BaseModel):
    """A plug-in's name, all its arguments (defaults included), and the label a report gives it."""

    model_config = _STRICT

    name: str
    args: dict[str, Any] = Field(default_factory=dict)
    label: str
    id: str
    """The name and a digest of the arguments that bear on the answer."""
    every: Count = 1
    images: Count | None = None
    """An evaluation judges images 0, every, 2 every, … and at most this many of them."""

    def indices(self, available: int) -> range:
        """The images that an evaluation judges, of those there are."""
        chosen = range(0, available, self.every)
        return chosen[: self.images]


class Paper(BaseModel):
    """What was published for a cell: never part of its identity, never mixed into measured columns."""

    model_config = _STRICT

    s_per_epoch: Real | None = None
    hours: Real | None = None
    slowdown: Real | None = None
    acr: Real | None = None
    certified: dict[Real, Real] = Field(default_factory=dict)
    """Certified accuracy in percent by radius."""


class Cell(BaseModel):
    """One network; `id` is a digest of all that determines its weights and its time."""

    model_config = _STRICT

    dataset: str
    pipeline: str
    loader: str
    arch: str
    method: Spec
    threat: Threat
    recipe: Recipe
    seed: Whole = 0
    ranks: Count = 1
    nodes: Count = 1
    images: Count | None = None
    """Training images used (the first of the file), where not all."""
    quick: bool = False
    teacher: "Cell | None" = None
    evals: tuple[Spec, ...] = ()
    paper: Paper = Paper()

    @property
    def id(self) -> str:
        body = self.model_dump(mode="json", exclude={"evals", "paper", "teacher", "method"})
        body["method"] = [self.method.name, self.method.args]
        body["teacher"] = self.teacher.id if self.teacher else None
        return f"{self.arch}-{self.method.name}-s{self.seed}-{digest(body)}"

    @property
    def questions(self) -> str:
        """A digest of what its evaluations ask, images included: names the job that answers."""
        return digest([[spec.id, spec.every, spec.images] for spec in self.evals])

    @property
    def wave(self) -> int:
        """How many teachers stand before it."""
        return self.teacher.wave + 1 if self.teacher else 0


class Timing(BaseModel):
    """A timing study: `runs` fresh processes, each of `rounds` timed epochs of every arm after one of warm-up."""

    model_config = _STRICT

    runs: Count = 5
    rounds: Count = 10
    images: Count | None = None
    """Images in a timed epoch, where not all; times are scaled to the whole set in the report."""


class Study(BaseModel):
    """The arms of one architecture, timed side by side in one process."""

    model_config = _STRICT

    name: str
    timing: Timing
    arms: tuple[Cell, ...]

    @property
    def id(self) -> str:
        arms = [arm.id for arm in self.arms]
        shape = self.timing.model_dump(exclude={"runs"})
        return f"{self.name}-{self.arms[0].arch}-{digest([arms, shape])}"


class Manifest(BaseModel):
    """A table: its cells, and how they are timed where it is a timing study."""

    model_config = _STRICT

    name: str
    title: str
    baseline: str | None = None
    timing: Timing | None = None
    quick: bool = False
    cells: tuple[Cell, ...]

    @property
    def studies(self) -> list[Study]:
        """The cells by what one process can share: dataset, pipeline, loader, architecture, ranks and nodes."""
        groups: dict[tuple, list[Cell]] = {}
        for cell in self.cells:
            key = (cell.dataset, cell.pipeline, cell.loader, cell.arch, cell.ranks, cell.nodes)
            groups.setdefault(key, []).append(cell)
        return [Study(name=self.name, timing=self.timing, arms=tuple(arms)) for arms in groups.values()]
