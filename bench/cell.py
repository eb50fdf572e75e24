"""Cell: one network to train, time and evaluate."""

import hashlib
import inspect
import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bench.published import Paper
from crt.data import DATASETS, PIPELINES, Dataset
from crt.pickled import Pickled
from crt.plugins import declaration
from crt.quantity import Count, Whole
from crt.threat import Threat
from crt.training.recipe import ARITHMETIC, Recipe

if TYPE_CHECKING:
    from crt.training.method import Method

_STRICT = ConfigDict(frozen=True, extra="forbid")


class StepKey(NamedTuple):
    """The part of a cell that must be equal for times of a training step to be comparable."""

    images: int
    """Global batch size: images of one optimizer step, over all ranks."""
    compute_settings: tuple[Any, ...]
    """Values of the recipe's fields named in `ARITHMETIC`, in that order."""


def digest(value: Any) -> str:
    """Eight hex digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class Spec(BaseModel):
    """A plug-in's name, all its arguments (defaults included), and its label in reports."""

    model_config = _STRICT

    name: str
    args: dict[str, Any] = Field(default_factory=dict)
    label: str
    id: str
    """The name and a digest of the arguments that affect the result."""
    every: Count = 1
    images: Count | None = None
    """An evaluation judges images 0, every, 2 every, …, at most this many (None: no limit)."""

    def indices(self, available: int) -> range:
        """Indices of the images that an evaluation judges, out of `available` images."""
        return range(0, available, self.every)[: self.images]


class Monitor(Pickled):
    """Evaluations during training, outside the timed part: after every `every` epochs and after the last."""

    every: Count = 1
    split: Literal["test", "validation"] = "test"
    """`validation`: training images that are held out, drawn by the cell's seed, which the network never trains on."""
    images: Count | None = None
    """Number of test images, from the first (None: all), or of training images to hold out."""
    evals: tuple[Spec, ...]


class OnImages(Pickled):
    """A network's dataset: the name of one of `DATASETS`, or of one that is made from an image folder."""

    dataset: str
    folder: Dataset | None = None
    """The dataset that is made from an image folder; its name contains a digest of its images."""

    @property
    def data(self) -> Dataset:
        """The dataset's description."""
        return self.folder or DATASETS[self.dataset]


class Weights(OnImages):
    """A network trained elsewhere, identified by the SHA-256 of its file."""

    arch: str
    weights: str
    """Path of the file."""
    sha256: str
    normalize: bool | None = None
    """True if the network expects normalized pixels; None to read it from the file."""
    key: str | None = None
    """Key of the state dict to use in a file that holds several."""
    pipeline: str = "crt"
    """Pipeline whose constants normalize the pixels."""
    seed: Whole = 0

    @property
    def id(self) -> str:
        has_constants = self.dataset in PIPELINES[self.pipeline].constants
        raw = "-raw" if self.normalize is False else ""
        key = "" if self.key is None else f"-{digest(self.key)}"
        return f"{self.arch}-weights-{self.sha256[:8]}{raw}{key}" + (f"-{self.pipeline}" if has_constants else "")


class Cell(OnImages):
    """One network. `id` contains a digest of everything that determines its weights and its training time."""

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
    """Number of training images, from the first (None: all)."""
    loop: Literal["train", "bare"] = "train"
    """`bare`: the method's restatement in plain PyTorch, see `bench.plain_eager`."""
    control: bool = False
    """True for a second arm of the baseline in a timing study: its time relative to the first shows the noise."""
    quick: bool = False
    teacher: "Cell | Weights | None" = None
    init: "Cell | Weights | None" = None
    """Network with whose final weights the training begins; None for weights drawn from the seed."""
    candidates: "tuple[Cell, ...]" = ()
    """Trainings by other values of the recipe: that with the best accuracy on held-out images decides these values."""
    monitor: Monitor | None = None
    select: Literal["last", "best"] = "last"
    """Epoch whose weights are kept; `best`: the highest accuracy by the monitor's first evaluation."""
    evals: tuple[Spec, ...] = ()
    paper: Paper = Paper()

    @property
    def id(self) -> str:
        apart = {"evals", "paper", "teacher", "init", "candidates", "method", "recipe", "folder"}
        body = self.model_dump(mode="json", exclude=apart)
        # Defaults of the recipe are left out, so that a new key leaves the ids of existing cells as they are.
        body["recipe"] = self.recipe.model_dump(mode="json", exclude_defaults=True)
        body["method"] = [self.method.name, self.method.args]
        body["teacher"] = self.teacher.id if self.teacher else None
        if self.init:
            body["init"] = self.init.id
        if self.candidates:
            body["candidates"] = [each.id for each in self.candidates]
        for key in ("loop", "control", "monitor", "select"):
            if body[key] == type(self).model_fields[key].default:
                del body[key]
        if self.monitor and not self.held_out:
            del body["monitor"]["split"]
        return f"{self.arch}-{self.method.name}-s{self.seed}-{digest(body)}"

    @property
    def comparison_group(self) -> tuple:
        """Values that are equal in all cells that are timed in one process and compared."""
        return self.dataset, self.pipeline, self.loader, self.arch, self.ranks, self.nodes

    @property
    def per_step(self) -> int:
        """Global batch size: images of one optimizer step over all ranks. A loaded batch may hold several steps."""
        return self.recipe.batch_size // self.build_method().chunks

    @property
    def compute_settings(self) -> dict[str, Any]:
        """Fields of the recipe that set how its arithmetic is done, by name."""
        return {key: getattr(self.recipe, key) for key in ARITHMETIC}

    @property
    def step_key(self) -> StepKey:
        """Key that two cells share if their times are comparable."""
        return StepKey(self.per_step, tuple(self.compute_settings.values()))

    @property
    def replays(self) -> int:
        """Optimizer steps on the same images; each replay counts as one epoch in tables."""
        return self.build_method().replays

    @property
    def cut_schedule(self) -> str:
        """The parts of the method's own schedule, if it is longer than the training, in words; empty if it fits."""
        lengths = {key: self.method.args[key] for key in declaration("crt.methods", self.method.name).epochs_of}
        if sum(lengths.values()) <= self.recipe.epochs:
            return ""
        parts = " and ".join(f"{key} {length:g}" for key, length in lengths.items())
        return f"{parts}, of {self.recipe.epochs} epochs"

    def build_method(self) -> "Method":
        """The method built without a teacher, to read what it declares."""
        return declaration("crt.methods", self.method.name)(threat=self.threat, **self.method.args)

    @property
    def arguments(self) -> dict[str, Any]:
        """The method's arguments by name, also those that its spec leaves out at their defaults."""
        kind, given = declaration("crt.methods", self.method.name), self.method.args
        defaults = {key: parameter.default for key, parameter in inspect.signature(kind).parameters.items()}
        return {key: given.get(key, default) for key, default in defaults.items() if key in given or key in kind.unsaid}

    @property
    def evals_digest(self) -> str:
        """Digest of the evaluations and their images; it is part of the key of the job that runs them."""
        return digest([[spec.id, spec.every, spec.images] for spec in self.evals])

    @property
    def required_teacher(self) -> "Cell | Weights":
        """The teacher of a cell whose method needs one; ValueError for a cell without a teacher."""
        if self.teacher is None:
            raise ValueError(f"{self.id}: no teacher")
        return self.teacher

    @property
    def robust(self) -> str | None:
        """Name of the robust dataset generated from the teacher (None for methods other than RDT)."""
        if not declaration("crt.methods", self.method.name).makes_dataset:
            return None
        return f"rdt-{digest([self.dataset, self.method.args, self.images, self.seed])}"

    @property
    def wave(self) -> int:
        """Number of trainings and of robust datasets to generate, one after another, before this cell is trained."""
        taught, begun = (1 + each.wave if isinstance(each, Cell) else 0 for each in (self.teacher, self.init))
        return max(taught + (self.robust is not None), begun, *(1 + each.wave for each in self.candidates))

    @property
    def held_out(self) -> int:
        """Number of training images that are held out for validation."""
        return self.monitor.images or 0 if self.monitor and self.monitor.split == "validation" else 0

    @property
    def seedless(self) -> "Cell":
        """This cell with seed 0, and its ancestors, too: equal for cells that differ in nothing but their seed."""
        teacher, init = (each.seedless if isinstance(each, Cell) else each for each in (self.teacher, self.init))
        candidates = tuple(each.seedless for each in self.candidates)
        return self.model_copy(update={"seed": 0, "teacher": teacher, "init": init, "candidates": candidates})

    @property
    def lineage(self) -> "tuple[Cell, ...]":
        """The chain of teachers that are cells, nearest first."""
        return (self.teacher, *self.teacher.lineage) if isinstance(self.teacher, Cell) else ()

    @property
    def parents(self) -> "tuple[Cell | Weights, ...]":
        """Networks that the training begins from: the teacher, that of the initial weights, and the candidates."""
        return tuple(network for network in (self.teacher, self.init, *self.candidates) if network is not None)

    @property
    def ancestors(self) -> "tuple[Cell, ...]":
        """Cells to train before this one, nearest first, each once: its parents and theirs."""
        own = [network for network in self.parents if isinstance(network, Cell)]
        return tuple({each.id: each for cell in own for each in (cell, *cell.ancestors)}.values())

    @property
    def outside(self) -> tuple[Weights, ...]:
        """Weights trained elsewhere that this cell or an ancestor uses, each once."""
        networks = [network for cell in (self, *self.ancestors) for network in cell.parents]
        return tuple({each.id: each for each in networks if isinstance(each, Weights)}.values())
