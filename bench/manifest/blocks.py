"""Models of a manifest as written, before the lists of its blocks are expanded into cells.

The models check keys, types and ranges, and `bench.manifest.json_schema` generates the JSON schema from them.
Conditions that involve several parts of a cell are checked when the cell is built.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    create_model,
)

from bench.manifest.block_forms import Line, T, axis_form, init_form, is_a, is_init, list_of, teacher_form
from bench.manifest.manifest import Timing
from bench.manifest.plugin_types import Arch, Baseline, Dataset, Evaluation, Loader, Method, Pipeline
from bench.manifest.recipe_block import RecipeKey
from bench.published import Paper, Published
from crt.quantity import Count, NonNegative, Positive, Real, Share, Whole
from crt.threat import Threat

Axis = Annotated[
    Annotated[T, Tag("<one>")] | Annotated[tuple[T, ...], Field(min_length=1), Tag("<list>")],
    Discriminator(axis_form),
]
"""One value, or a list of values; the block stands for the product of its lists."""
Evaluations = Annotated[tuple[Evaluation, ...], list_of("evaluation")]


class Block(BaseModel):
    """A mapping of known keys."""

    # Build validators on first use: models that only the schema describes never need one.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class FolderBlock(Block):
    """Dataset made from an image folder, `train/CLASS/IMAGE` and `test/CLASS/IMAGE`; its images decide its identity."""

    folder: Annotated[Line, is_a(str, "the path of a folder, as text")]
    """Path of the folder."""
    size: Annotated[Count, Field(ge=8, le=1024)]
    """Height and width of the network's images; larger ones are resized, and their centre is cropped."""
    flip: Annotated[bool, is_a(bool, "true, false")] = True
    """True if an image and its mirror image are of the same class."""


def _dataset_form(value: Any) -> str:
    return "<FolderBlock>" if isinstance(value, dict | FolderBlock) else "<name>"


DatasetKey = Annotated[
    Annotated[Dataset, Tag("<name>")] | Annotated[FolderBlock, Tag("<FolderBlock>")], Discriminator(_dataset_form)
]


class MonitorBlock(Block):
    """Evaluations during training: after every `every` epochs and after the last."""

    every: Count = 1
    split: Literal["test", "validation"] = "test"
    """Images to evaluate: the test images, or training images that are held out, on which nothing is trained."""
    images: Count | None = None
    """Number of test images, from the first (default: all), or of training images to hold out, drawn by the seed."""
    evals: Annotated[tuple[Evaluation, ...], list_of("evaluation", least=1), Field(min_length=1)]


class Grid(Block):
    """Values of a recipe's keys to try. Each is a list, and a training is made for each element of their product."""

    lr: Annotated[tuple[Positive, ...], list_of("number", least=1)] = ()
    momentum: Annotated[tuple[Share, ...], list_of("number", least=1)] = ()
    weight_decay: Annotated[tuple[NonNegative, ...], list_of("number", least=1)] = ()
    label_smoothing: Annotated[tuple[Annotated[Real, Field(ge=0, lt=1)], ...], list_of("number", least=1)] = ()

    @property
    def axes(self) -> dict[str, tuple[float, ...]]:
        """The keys that are given, with their values."""
        return {key: values for key in type(self).model_fields if (values := getattr(self, key))}


class TuneBlock(Block):
    """Search of the recipe: a training for each choice of `recipe`, on all images but `images`, which decide by `by`.

    The cell is trained by the best choice, on all images. Its hours with teacher include those of the search.
    """

    recipe: Annotated[Grid, is_a(dict, f"a mapping of {', '.join(Grid.model_fields)}")]
    images: Count
    """Number of training images to hold out, drawn by the seed."""
    by: Evaluation
    """Evaluation of the held-out images after the last epoch; the highest accuracy at its eps decides."""


class TeacherName(Block):
    """Teacher, or network of initial weights, that is a cell of this manifest."""

    cell: Annotated[Any, WithJsonSchema({"type": "string"})]
    """The `name` of the cell's block."""


class TeacherFile(Block):
    """Teacher that was trained elsewhere."""

    weights: Annotated[Line, is_a(str, "the path of a file, as text")]
    """Path of a checkpoint."""
    sha256: Annotated[Any, WithJsonSchema({"type": "string"})] = None
    """SHA-256 of the file in hex digits; another file is refused."""
    arch: Arch
    normalize: Annotated[bool | None, is_a(bool | None, "true, false")] = None
    """True if the network expects normalized pixels (default: read from the file)."""
    key: Annotated[Line | None, is_a(str | None, "the name of a state dict in the file")] = None
    """Key of the state dict to use in a file that holds several."""
    pipeline: Pipeline = Pipeline("")
    """Pipeline whose constants normalize the pixels (default: the student's)."""


class InitFile(TeacherFile):
    """Initial weights that were trained elsewhere."""

    dataset: DatasetKey | None = None
    """Dataset whose classes the file's network tells apart (default: the cell's)."""


class TeacherBlock(Block):
    """Teacher to train first. It inherits the keys in `INHERITED` from its student unless they are given."""

    dataset: DatasetKey = Dataset("")
    threat: Threat = Threat()
    pipeline: Pipeline = Pipeline("")
    loader: Loader = Loader("")
    ranks: Count = 1
    nodes: Count = 1
    images: Count | None = None
    arch: Arch
    method: Method
    recipe: RecipeKey
    seed: Whole = 0
    teacher: "Teacher" = None
    init: "Init" = None
    monitor: MonitorBlock | None = None
    select: Literal["last", "best"] = "last"


INHERITED = ("dataset", "threat", "pipeline", "loader", "ranks", "nodes", "images")

Teacher = (
    Annotated[
        Annotated[TeacherName, Tag("<TeacherName>")]
        | Annotated[TeacherFile, Tag("<TeacherFile>")]
        | Annotated[TeacherBlock, Tag("<TeacherBlock>")],
        Discriminator(teacher_form),
    ]
    | None
)


Init = (
    Annotated[
        Annotated[TeacherName, Tag("<TeacherName>")] | Annotated[InitFile, Tag("<InitFile>")],
        Discriminator(init_form),
        BeforeValidator(is_init),
    ]
    | None
)


def _figure(annotation: Any) -> Any:
    """Type of a published figure in a block: a value of that type or null, or a list of them."""
    axis: Any = Axis
    return axis[annotation | None]


_FIGURES: dict[str, Any] = {key: (_figure(field.annotation), None) for key, field in Paper.model_fields.items()}
PaperBlock = create_model(
    "PaperBlock",
    __base__=Block,
    __doc__="Published figures of a block. A block of several cells lists one per cell, null where none was printed.",
    **_FIGURES,
)


class SharedKeys(Block):
    """Keys that a block may have. Given at the top of the file, they apply to every block that lacks them."""

    dataset: Axis[DatasetKey]
    arch: Axis[Arch]
    method: Axis[Method]
    threat: Axis[Threat] = Threat()
    """Perturbations to withstand, in units of pixels in [0, 1]."""
    recipe: Axis[RecipeKey]
    seed: Axis[Whole] = 0
    teacher: Axis[Teacher] = None
    """Network that the method learns from."""
    init: Init = None
    """Network with whose final weights the training begins: a cell of this manifest, or a file (default: none)."""
    ranks: Axis[Count] = 1
    """Processes that train the network together."""
    pipeline: Pipeline = Pipeline("crt")
    loader: Loader = Loader("ffcv")
    nodes: Count = 1
    """Machines that the ranks are spread over."""
    images: Count | None = None
    """Number of training images, from the first (default: all)."""
    evals: Evaluations = ()
    """Evaluations of `crt/evals` to run after training."""
    monitor: MonitorBlock | None = None
    select: Literal["last", "best"] = "last"
    """Epoch whose weights are kept; `best`: the highest robust accuracy by the monitor's first evaluation."""
    tune: Annotated[TuneBlock | None, is_a(dict, f"a mapping of {', '.join(TuneBlock.model_fields)}")] = None
    """Search of the recipe on held-out training images (default: none)."""


class CellBlock(SharedKeys):
    """Block of cells: one for each element of the product of its lists."""

    loop: Literal["train", "bare"] = "train"
    """`bare`: the method's restatement in plain PyTorch, with a training loop of its own (timing studies only)."""
    paper: Annotated[PaperBlock | None, is_a(dict, f"a mapping of {', '.join(Paper.model_fields)}")] = None
    name: Annotated[Line | None, is_a(str, "a word")] = None
    """Name by which other blocks refer to this cell as their teacher."""


class Head(Block):
    """Keys of a manifest that blocks do not have. The blocks stay unparsed here."""

    title: Annotated[Any, WithJsonSchema({"type": "string"})] = None
    """Title of the report."""
    baseline: Baseline | None = None
    timing: Annotated[Timing | None, is_a(dict, f"a mapping of {', '.join(Timing.model_fields)}")] = None
    """Settings of a timing study; their presence makes the manifest one."""
    control: Annotated[bool, is_a(bool, "true, false")] = False
    """Time the baseline of a timing study against itself, in a second arm, which shows the noise of its ratios."""
    published: Annotated[Published | None, is_a(dict, f"a mapping of {', '.join(Published.model_fields)}")] = None
    """What the paper prints about the whole table."""
    recipes: list[RecipeKey] | Any = None
    """Place for YAML anchors; it is ignored otherwise."""
    cells: Annotated[Sequence[Any], list_of("cell", least=1)]


class ManifestFile(SharedKeys, Head):
    """Manifest: a table of a paper, or your own table."""

    cells: Annotated[tuple[CellBlock, ...], Field(min_length=1)]
    """Blocks of cells."""
