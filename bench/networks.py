"""From a cell's words to the network, its method, its batches and what a training step of it costs."""

import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bench.cells import Cell, Paper, Spec, Weights
from crt import dist
from crt.classifier import Classifier
from crt.data import DATASETS, PIPELINES, Dataset
from crt.data.batches import Loader
from crt.data.loader import loader
from crt.method import Method, Objective, Step
from crt.plugins import find
from crt.recipe import ARITHMETIC, Recipe
from crt.weights import load_weights


def network(cell: Cell | Weights) -> Classifier:
    """The cell's network with its first weights, drawn from its seed and the same on every rank."""
    dataset = DATASETS[cell.dataset]
    pipeline = PIPELINES[cell.pipeline]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)
        body, width = find("crt.archs", cell.arch)()
        return Classifier(body, width, len(dataset.classes), *pipeline.normalization(dataset), clamp=pipeline.clamp)


def method(cell: Cell, teacher: Classifier | None) -> Method:
    """The cell's method, bound to its teacher, which is frozen here."""
    if teacher is not None:
        teacher.eval().requires_grad_(False)
    return find("crt.methods", cell.method.name)(threat=cell.threat, teacher=teacher, **cell.method.args)


def trained(cell: Cell | Weights, runs: Path) -> Classifier:
    """The network with the weights it was trained to, on this rank's device; ValueError where there are none.

    ValueError, too, where they were trained on pixels normalized otherwise than the cell's pipeline says today.
    """
    if isinstance(cell, Weights):
        model = network(cell)
        load_weights(model, Path(cell.weights), cell.sha256, normalize=cell.normalize)
        return model.to(dist.device())
    path = runs / cell.id / "model.pt"
    if not path.exists():
        raise ValueError(f"{path}: missing, so its network was not trained to the end (submit again to train it)")
    model = network(cell)
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, ours in model.normalize.named_buffers():
        theirs = state[f"normalize.{name}"]
        if not torch.equal(theirs, ours):
            raise ValueError(
                f"{path}: trained on pixels normalized with {name} {theirs.flatten().tolist()}, not with pipeline"
                f" {cell.pipeline}'s {ours.flatten().tolist()} (remove the folder, and it is trained again)"
            )
    model.load_state_dict(state)
    return model.to(dist.device())


def batches(cell: Cell, data: Path, images: int | None, dataset: Dataset | None = None) -> Loader:
    """This rank's share of the training images of the cell's dataset, the first `images` of the file in `data`."""
    return loader(
        cell.loader,
        dataset or DATASETS[cell.dataset],
        "train",
        data=data,
        pipeline=cell.pipeline,
        batch_size=cell.recipe.batch_size // dist.world_size(),
        device=dist.device(),
        seed=cell.seed,
        images=images,
        rank=dist.rank(),
        world=dist.world_size(),
    )


class Work(NamedTuple):
    """What training on one loaded image takes, counted."""

    flops: float
    """Floating-point operations; a product and a sum are two."""
    traffic: float
    """Bytes that its operations read and write, were each done by itself."""


def plain(cell: Cell) -> Cell:
    """What decides how much a training step of the cell computes: not how its arithmetic is done, nor why."""
    recipe = cell.recipe.model_copy(update={key: Recipe.model_fields[key].default for key in ARITHMETIC})
    without = {"evals": (), "monitor": None, "select": "last", "paper": Paper(), "images": None, "seed": 0}
    return cell.model_copy(update={**without, "recipe": recipe, "loop": "train"})


def work(cell: Cell) -> Work:
    """Counted at the step's batch in float32, however the cell's arithmetic is done."""
    return _work(plain(cell).model_dump_json())


def step_flops(cell: Cell) -> float:
    """Counted floating-point operations of training on one loaded image."""
    return work(cell).flops


def _conv_backward(
    grad, x, weight, _bias, _stride, _padding, _dilation, transposed, _outputs, _groups, wanted, out_shape=None
) -> int:
    """Of a convolution's backward: as many operations as its forward for each of input and weight gradient.

    torch's own count forgets the groups, which made grouped networks' backward seem dearer than it is.
    """
    # Each weight meets every place of the smaller side: of a transposed convolution, its input.
    return 2 * math.prod(x if transposed else grad) * math.prod(weight[1:]) * (wanted[0] + wanted[1])


def _counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _conv_backward})


def forward_flops(cell: Cell) -> float:
    """Counted floating-point operations of judging one image once."""
    with torch.device("meta"):
        model = network(cell).eval()
        x = torch.empty(1, *DATASETS[cell.dataset].shape)
    with torch.no_grad(), _counter() as counter:
        model(x)
    return float(counter.get_total_flops())


def evaluation(cell: Cell, spec: Spec) -> Any:
    """One of the cell's evaluations, with its threat."""
    return find("crt.evals", spec.name)(threat=cell.threat, **spec.args)


def forwards(cell: Cell, spec: Spec) -> int:
    """Forward passes that an evaluation takes at most to judge an image of the cell's network."""
    return evaluation(cell, spec).forwards


class _Traffic(TorchDispatchMode):
    """Adds up the bytes of what each operation takes and gives; views move none."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            moved = tree_leaves((args, kwargs, out))
            self.total += sum(one.nbytes for one in moved if isinstance(one, torch.Tensor))
        return out


@cache
def _work(text: str) -> Work:
    cell = Cell.model_validate_json(text)
    # What is done once a step, as power iteration, is shared by the images of a rank's step.
    images = max(1, cell.per_step // cell.ranks)
    with torch.device("meta"):
        model = network(cell)
        objective = Objective(method(cell, network(cell.teacher) if cell.teacher else None), model).train()
        x = torch.empty(images, *DATASETS[cell.dataset].shape)
        y = torch.zeros(images, dtype=torch.long)
    bound = objective.method
    with _counter() as counter, _Traffic() as traffic:
        for replay in range(bound.replays):
            objective(x, y, Step(max(100.0, bound.settled), y, replay)).backward()
            with torch.no_grad():
                bound.after(model)
    return Work(counter.get_total_flops() / images, traffic.total / images)
