"""What a recipe says of how its arithmetic is done: number formats, memory order, compilation, folding."""

import inspect
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from crt.classifier import Classifier
from crt.fold import fold, twin
from crt.method import Method
from crt.recipe import Recipe


def prepare(method: Method, model: Classifier, recipe: Recipe) -> None:
    """Set up the network and the method's teacher in place, on their device, before anything holds their weights.

    Compiled are the bodies alone, as often as they are met in another mode or size, and each as one graph or not at
    all; normalization, head, losses and what walks from layer to layer run as they are.
    ValueError for what this device or installation cannot do.
    """
    check(recipe, next(model.parameters()).device)
    networks = [network for network in (model, method.teacher) if network is not None]
    if recipe.channels_last:
        for network in networks:
            # Convolutions hand it on. Images keep their order, in which noise is drawn.
            network.to(memory_format=torch.channels_last)
    if recipe.fold:
        if method.teacher is not None:
            method.teacher = networks[1] = fold(method.teacher).network
        if found := twin(model):
            model.twin = found
            networks.append(found.network)
    if recipe.compile:
        for network in networks:
            _compile(network.body, recipe.compile)


@contextmanager
def arithmetic(recipe: Recipe) -> Iterator[None]:
    """Within: float32 products with all their bits or, by the recipe, as TF32; and cuDNN's fastest kernels by trial."""
    parts = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before, trial = [part.fp32_precision for part in parts], torch.backends.cudnn.benchmark
    for part in parts:
        part.fp32_precision = "tf32" if recipe.precision == "tf32" else "ieee"
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision
        torch.backends.cudnn.benchmark = trial


def begin(recipe: Recipe) -> None:
    """Say that other images come: what CUDA graphs gave for the last may be overwritten."""
    if recipe.compile == "reduce-overhead":
        torch.compiler.cudagraph_mark_step_begin()


def _compile(body: nn.Module, mode: str) -> None:
    # Arms of one process share code, and with it a cache that every call searches, unless they are isolated.
    # A last, smaller batch is a graph of its own: graphs for any size would be slower.
    body.compile(fullgraph=True, dynamic=False, mode=mode, recompile_limit=64, isolate_recompiles=True)


def check(recipe: Recipe, device: torch.device) -> None:
    """ValueError for what this device or installation cannot do."""
    gpu = device.type == "cuda"
    if recipe.precision == "tf32" and not (gpu and torch.cuda.get_device_capability(device) >= (8, 0)):
        raise ValueError("recipe.precision: 'tf32' needs a GPU that has it (allowed here: fp32, bf16, fp16)")
    if recipe.compile == "reduce-overhead" and not gpu:
        raise ValueError("recipe.compile: 'reduce-overhead' needs a GPU (allowed here: off, default)")
    if not recipe.compile:
        return
    if "isolate_recompiles" not in inspect.signature(torch.compile).parameters:
        raise ValueError(
            f"recipe.compile: {recipe.compile!r} needs a newer torch than {torch.__version__} (allowed: off)"
        )
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ValueError(
            f"recipe.compile: {recipe.compile!r} needs a C++ compiler, and {compiler!r} is not on the PATH"
            " (install g++, or name yours in CXX; allowed without: off)"
        )
