"""Cells: a cell is one network to train, time and evaluate."""

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from crt.data import PIPELINES
from crt.plugins import declaration
from crt.quantity import Count, Real, Whole
from crt.threat import Threat
from crt.training.recipe import ARITHMETIC, Recipe

if TYPE_CHECKING:
    from crt.training.method import Method

_STRICT = ConfigDict(frozen=True, extra="forbid")


class StepKey(NamedTuple):
    """The part of a cell that decides which times of a step are of like things."""

    images: int
    """Global batch size: images of one optimizer step, over all ranks."""
    compute_settings: tuple[Any, ...]
    """Values of the recipe's arithmetic, in the order of `ARITHMETIC`."""


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
    """Published figures of a cell: never part of its identity, never mixed into measured columns."""

    model_config = _STRICT

    s_per_epoch: Real | None = None
    hours: Real | None = None
    hours_with_teacher: Real | None = None
    slowdown: Real | None = None
    """Of an epoch."""
    total: Real | None = None
    """Of the whole training, over the baseline's."""
    clean: Real | None = None
    robust: Real | None = None
    """Accuracy in percent, without an attack and under the paper's at the threat's radius."""
    acr: Real | None = None
    certified: dict[Real, Real] = Field(default_factory=dict)
    """Certified accuracy in percent by radius."""
    similarity: Real | None = None
    """To a standard network, in percent."""
    lipschitz: Real | None = None
    """The Lipschitz constant."""


class Monitor(BaseModel):
    """Evaluations while a network trains, outside the clock: after every so many epochs, and after the last."""

    model_config = _STRICT

    every: Count = 1
    images: Count | None = None
    """Test images 0 to this many; all, where not said."""
    evals: tuple[Spec, ...]


class Weights(BaseModel):
    """A teacher that was trained elsewhere, known by the content of its file."""

    model_config = _STRICT

    dataset: str
    arch: str
    weights: str
    """The file's path."""
    sha256: str
    normalize: bool | None = None
    """True where the network takes normalized pixels; None where the file tells."""
    key: str | None = None
    """Which of the file's state dicts, where it holds several."""
    pipeline: str = "crt"
    """Whose constants it normalizes with."""
    seed: Whole = 0

    def __setstate__(self, state: dict[Any, Any]) -> None:
        # A job that was queued before a field came has none of it.
        state["__dict__"].setdefault("key", None)
        super().__setstate__(state)

    @property
    def id(self) -> str:
        with_own = self.dataset in PIPELINES[self.pipeline].constants
        raw = "-raw" if self.normalize is False else ""
        chosen = "" if self.key is None else f"-{digest(self.key)}"
        return f"{self.arch}-weights-{self.sha256[:8]}{raw}{chosen}" + (f"-{self.pipeline}" if with_own else "")


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
    loop: Literal["train", "bare"] = "train"
    """`bare`: a plain loop written out by hand, which shows what the harness costs."""
    quick: bool = False
    teacher: "Cell | Weights | None" = None
    monitor: Monitor | None = None
    select: Literal["last", "best"] = "last"
    """The epoch whose weights are kept; best: where most test images stood by the monitor's first evaluation."""
    evals: tuple[Spec, ...] = ()
    paper: Paper = Paper()

    @property
    def id(self) -> str:
        body = self.model_dump(mode="json", exclude={"evals", "paper", "teacher", "method", "recipe"})
        # What a recipe does not say is no part of it, so that a new key changes nobody's cells.
        body["recipe"] = self.recipe.model_dump(mode="json", exclude_defaults=True)
        body["method"] = [self.method.name, self.method.args]
        body["teacher"] = self.teacher.id if self.teacher else None
        for key in ("loop", "monitor", "select"):
            if body[key] == type(self).model_fields[key].default:
                del body[key]
        return f"{self.arch}-{self.method.name}-s{self.seed}-{digest(body)}"

    @property
    def comparison_group(self) -> tuple:
        """Fields that are equal in all cells that are timed in one process and compared."""
        return self.dataset, self.pipeline, self.loader, self.arch, self.ranks, self.nodes

    @property
    def per_step(self) -> int:
        """Global batch size: images of one optimizer step, a part of a loaded batch, over all ranks."""
        return self.recipe.batch_size // self.build_method().chunks

    @property
    def compute_settings(self) -> dict[str, Any]:
        """Fields of the recipe that decide how its arithmetic is done."""
        return {key: getattr(self.recipe, key) for key in ARITHMETIC}

    @property
    def step_key(self) -> StepKey:
        """Times are comparable where it is equal."""
        return StepKey(self.per_step, tuple(self.compute_settings.values()))

    @property
    def replays(self) -> int:
        """Optimizer steps on the same images; an epoch of a table is one of them."""
        return self.build_method().replays

    def build_method(self) -> "Method":
        """Its method, without a teacher, to ask what it declares."""
        return declaration("crt.methods", self.method.name)(threat=self.threat, **self.method.args)

    @property
    def evals_digest(self) -> str:
        """A digest of what its evaluations ask, images included: names the job that answers."""
        return digest([[spec.id, spec.every, spec.images] for spec in self.evals])

    @property
    def robust(self) -> str | None:
        """Name of the robust dataset generated from the teacher (of methods that make one, such as RDT)."""
        if not declaration("crt.methods", self.method.name).makes_dataset:
            return None
        return f"rdt-{digest([self.dataset, self.method.args, self.images, self.seed])}"

    @property
    def wave(self) -> int:
        """How many teachers are trained, and datasets made from them, before it."""
        return len(self.lineage) + sum(one.robust is not None for one in (self, *self.lineage))

    @property
    def lineage(self) -> "tuple[Cell, ...]":
        """The teachers that are trained before it, the nearest first."""
        return (self.teacher, *self.teacher.lineage) if isinstance(self.teacher, Cell) else ()
