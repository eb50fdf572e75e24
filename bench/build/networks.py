"""Build the network, the method, the evaluations and the batches of a cell."""

from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bench.build.weights import load_network
from bench.cell import Cell, Spec, Weights
from bench.plain_eager.base import Restatement
from crt import distributed
from crt.data import PIPELINES, Dataset
from crt.data.batches import Loader
from crt.data.loader import loader
from crt.evals.base import Evaluation
from crt.models.classifier import Classifier
from crt.models.import_weights.load import load_weights
from crt.plugins import find
from crt.sealed import DamagedError
from crt.training.method import Method


def network(cell: Cell | Weights) -> Classifier:
    """The cell's network with initial weights drawn from its seed, the same on every rank."""
    dataset = cell.data
    pipeline = PIPELINES[cell.pipeline]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)
        body, width = find("crt.archs", cell.arch)()
        return Classifier(body, width, len(dataset.classes), *pipeline.normalization(dataset), clamp=pipeline.clamp)


class _Undrawn(TorchFunctionMode):
    """Skips the drawing of initial weights, which have no values on the meta device.

    The random-number kernels of the meta device are written in Python and import torch's compiler, which takes seconds.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return args[0] if func in (Tensor.normal_, Tensor.uniform_) else func(*args, **(kwargs or {}))


def untrained(cell: Cell | Weights) -> Classifier:
    """The cell's network on the meta device, where tensors have shapes and no values."""
    with torch.device("meta"), _Undrawn():
        return network(cell)


def method(cell: Cell, teacher: Classifier | None) -> Method:
    """The cell's method, bound to its teacher, which is frozen here."""
    if teacher is not None:
        teacher.eval().requires_grad_(False)
    return find("crt.methods", cell.method.name)(threat=cell.threat, teacher=teacher, **cell.method.args)


def trained(cell: Cell | Weights, runs: Path) -> Classifier:
    """The network with its trained weights on this rank's device.

    ValueError if the weights are missing, or were trained with other normalization constants than the pipeline has now.
    """
    if isinstance(cell, Weights):
        model = network(cell)
        load_weights(model, Path(cell.weights), cell.sha256, normalize=cell.normalize, key=cell.key)
        return model.to(distributed.device())
    path = runs / cell.id / "model.pt"
    if not path.exists():
        raise ValueError(f"{path}: missing, so its network was not trained to the end (submit again to train it)")
    model = network(cell)
    try:
        state = load_network(path, cell.id, model.state_dict())
    except DamagedError as error:
        raise ValueError(
            f"{error} (restore the file from a copy, or remove its folder and submit again, and it is trained again)"
        ) from None
    for name, current in model.normalize.named_buffers():
        stored = state[f"normalize.{name}"]
        if not torch.equal(stored, current):
            raise ValueError(
                f"{path}: trained on pixels normalized with {name} {stored.flatten().tolist()}, not with pipeline"
                f" {cell.pipeline}'s {current.flatten().tolist()} (remove the folder, and it is trained again)"
            )
    model.load_state_dict(state)
    return model.to(distributed.device())


def initial(cell: Cell, runs: Path) -> Classifier:
    """The cell's network before its training: drawn from its seed or, with `init`, another's final weights.

    Its normalization is its own. Its head is drawn where the other tells apart another number of classes. ValueError
    where the other's weights are missing, or belong to another normalization of the same images.
    """
    model = network(cell)
    if cell.init is None:
        return model
    state, own = trained(cell.init, runs).state_dict(), model.state_dict()
    for name in [name for name in own if name.startswith("normalize.")]:
        if cell.init.dataset == cell.dataset and not torch.equal(state[name].cpu(), own[name]):
            raise ValueError(
                f"{cell.init.id}: takes pixels normalized with {name.partition('.')[2]}"
                f" {state[name].flatten().tolist()}, pipeline {cell.pipeline}'s is {own[name].flatten().tolist()}"
                " (allowed for init: equal ones)"
            )
        state[name] = own[name]
    if state["head.bias"].shape != own["head.bias"].shape:
        state |= {name: own[name] for name in own if name.startswith("head.")}
    model.load_state_dict(state)
    return model


def batches(
    cell: Cell, data: Path, images: int | None, dataset: Dataset | None = None, held_out: Collection[int] = ()
) -> Loader:
    """Loader of this rank's share of the training images: the first `images` of the dataset's file in `data`.

    Those whose numbers are in `held_out` are left out.
    """
    return loader(
        cell.loader,
        dataset or cell.data,
        "train",
        data=data,
        pipeline=cell.pipeline,
        batch_size=cell.recipe.batch_size // distributed.world_size(),
        device=distributed.device(),
        seed=cell.seed,
        images=images,
        rank=distributed.rank(),
        world=distributed.world_size(),
        held_out=held_out,
    )


def evaluation(cell: Cell, spec: Spec, runs: Path | None = None) -> Evaluation:
    """One of the cell's evaluations, with its threat and, if it needs one and `runs` is given, the trained teacher."""
    judge = find("crt.evals", spec.name)(threat=cell.threat, **spec.args)
    if runs is not None and judge.needs_teacher:
        judge.teacher = trained(cell.required_teacher, runs).eval()
    return judge


def restatement(cell: Cell, method: Method, model: Classifier, optimizer: torch.optim.Optimizer) -> Restatement:
    """The plain restatement of the cell's method, with the settings and the teacher of `method`."""
    settings = {field.name: getattr(method, field.name) for field in fields(method) if field.init}
    teacher, threat = settings.pop("teacher"), settings.pop("threat")
    kind = find("bench.plain_eager", cell.method.name)
    return kind(model, optimizer, cell.recipe.set, threat, SimpleNamespace(**settings), teacher)
