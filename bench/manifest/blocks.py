"""A manifest as it is written: its blocks, before the lists of a block are multiplied out into cells.

The models check keys, types and ranges, and are what the JSON schema of `bench.manifest.json_schema` is made from.
What the
parts of a cell must be to one another is checked when the cell is built.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, create_model

from bench.cell import Paper
from bench.manifest.manifest import Timing
from bench.manifest.messages import refused
from bench.manifest.plugin_types import Arch, Baseline, Dataset, Evaluation, Loader, Method, Pipeline
from crt.quantity import Count, Whole
from crt.threat import Threat
from crt.training.recipe import Recipe

T = TypeVar("T")


def _listed(what: str, least: int = 0) -> BeforeValidator:
    """Refuses what is no list of so many items."""

    def check(value: Any) -> Any:
        if not isinstance(value, list) or len(value) < least:
            raise refused(f"a list of {f'at least one {what}' if least else f'{what}s'}")
        return value

    return BeforeValidator(check)


def _one_or_list(value: Any) -> str:
    return "<list>" if isinstance(value, list) else "<one>"


def _teacher_form(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"cell"}:
        return "<TeacherName>"
    return "<TeacherFile>" if isinstance(value, dict) and "weights" in value else "<TeacherBlock>"


def _is(kind: Any, allowed: str) -> BeforeValidator:
    """Refuses what is not of a type."""

    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise refused(allowed)
        return value

    return BeforeValidator(check)


Axis = Annotated[
    Annotated[T, Tag("<one>")] | Annotated[tuple[T, ...], Field(min_length=1), Tag("<list>")],
    Discriminator(_one_or_list),
]
"""One value, or a list of values that the block is multiplied by."""
Evaluations = Annotated[tuple[Evaluation, ...], _listed("evaluation")]


class Block(BaseModel):
    """A mapping of known keys."""

    # Validators are built when they are first needed: those of what is only described in the schema never are.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class MonitorBlock(Block):
    """Evaluations while a network trains: after every so many epochs, and after the last."""

    every: Count = 1
    images: Count | None = None
    """Test images 0 to this many; all, where not said."""
    evals: Annotated[tuple[Evaluation, ...], _listed("evaluation", least=1), Field(min_length=1)]


class TeacherName(Block):
    """A teacher that is a cell of this manifest."""

    cell: Annotated[Any, WithJsonSchema({"type": "string"})]
    """The `name` of its block."""


class TeacherFile(Block):
    """A teacher that was trained elsewhere."""

    weights: Annotated[str, _is(str, "the path of a file, as text")]
    """The path of a checkpoint."""
    sha256: Annotated[Any, WithJsonSchema({"type": "string"})] = None
    """The SHA-256 of the file, in hex digits: another file is refused."""
    arch: Arch
    normalize: Annotated[bool | None, _is(bool | None, "true, false")] = None
    """True where the network takes normalized pixels; not said where the file tells."""
    key: Annotated[str | None, _is(str | None, "the name of a state dict in the file")] = None
    """Which of the file's state dicts, where it holds several."""
    pipeline: Pipeline = Pipeline("")
    """The pipeline whose constants the network normalizes with (default: its student's)."""


class TeacherBlock(Block):
    """A teacher that is trained first; it has the keys in `INHERITED` from its student, unless it says otherwise."""

    dataset: Dataset = Dataset("")
    threat: Threat = Threat()
    pipeline: Pipeline = Pipeline("")
    loader: Loader = Loader("")
    ranks: Count = 1
    nodes: Count = 1
    images: Count | None = None
    arch: Arch
    method: Method
    recipe: Recipe
    seed: Whole = 0
    teacher: "Teacher" = None
    monitor: MonitorBlock | None = None
    select: Literal["last", "best"] = "last"


INHERITED = ("dataset", "threat", "pipeline", "loader", "ranks", "nodes", "images")

Teacher = (
    Annotated[
        Annotated[TeacherName, Tag("<TeacherName>")]
        | Annotated[TeacherFile, Tag("<TeacherFile>")]
        | Annotated[TeacherBlock, Tag("<TeacherBlock>")],
        Discriminator(_teacher_form),
    ]
    | None
)

PaperBlock = create_model(
    "PaperBlock",
    __base__=Block,
    __doc__="Published figures of a block; of several cells a list of each, null where nothing was printed.",
    **{key: (Axis[field.annotation | None], None) for key, field in Paper.model_fields.items()},
)


class SharedKeys(Block):
    """Keys that stand in a block or, for every block that does not have them, at the top."""

    dataset: Axis[Dataset]
    arch: Axis[Arch]
    method: Axis[Method]
    threat: Axis[Threat] = Threat()
    """What to withstand, in units of pixels in [0, 1]."""
    recipe: Axis[Recipe]
    seed: Axis[Whole] = 0
    teacher: Axis[Teacher] = None
    """The network that a method learns from."""
    ranks: Axis[Count] = 1
    """Processes that train it together."""
    pipeline: Pipeline = Pipeline("crt")
    loader: Loader = Loader("ffcv")
    nodes: Count = 1
    """Machines that the ranks are on."""
    images: Count | None = None
    """The first so many training images, where not all."""
    evals: Evaluations = ()
    """Evaluations of `crt/evals` after training."""
    monitor: MonitorBlock | None = None
    select: Literal["last", "best"] = "last"
    """`best`: the weights of the epoch at which most images stood by the monitor's first evaluation are kept."""


class CellBlock(SharedKeys):
    """A block of cells, for the product of its lists."""

    loop: Literal["train", "bare"] = "train"
    """`bare`: a plain loop written out by hand, in a timing study."""
    paper: Annotated[PaperBlock | None, _is(dict, f"a mapping of {', '.join(Paper.model_fields)}")] = None
    name: Annotated[str | None, _is(str, "a word")] = None
    """What a teacher may be called by."""


class Head(Block):
    """The keys of a manifest that no block has; the blocks themselves are as they are written."""

    title: Annotated[Any, WithJsonSchema({"type": "string"})] = None
    """The head of the report."""
    baseline: Baseline | None = None
    timing: Annotated[Timing | None, _is(dict, f"a mapping of {', '.join(Timing.model_fields)}")] = None
    """Makes it a timing study."""
    recipes: list[Recipe] | Any = None
    """A place for YAML anchors; nothing reads it."""
    cells: Annotated[list[Any], _listed("cell", least=1)]


class ManifestFile(SharedKeys, Head):
    """A manifest: a table of a paper, or of your own."""

    cells: Annotated[tuple[CellBlock, ...], Field(min_length=1)]
    """Blocks of cells."""
