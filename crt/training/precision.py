"""Arithmetic switches of a recipe: number formats, memory order, compilation, folding."""

import inspect
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from crt import distributed
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import fold, twin
from crt.training.method import Method
from crt.training.recipe import Recipe

_SIZES = 64
"""Largest number of input sizes that a network is compiled for."""


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
    if recipe.teacher_stream and method.teacher is not None:
        method.stream = torch.cuda.Stream()
    if recipe.compile:
        for network in networks:
            compile_body(network.body, recipe.compile)


def arithmetic(recipe: Recipe) -> AbstractContextManager[None]:
    """Within: products as the recipe has them, and cuDNN's fastest kernels by trial."""
    return products(recipe.precision, trial=True)


@contextmanager
def products(precision: str, trial: bool) -> Iterator[None]:
    """Within: float32 products with all their bits or, for `tf32`, as TF32; cuDNN's kernels by trial or as it guesses.

    Trials pay where few sizes come often.
    """
    # torch makes the first when it is imported.
    parts = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before, tried = [part.fp32_precision for part in parts], torch.backends.cudnn.benchmark
    for part in parts:
        part.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cudnn.benchmark = trial
    try:
        yield
    finally:
        for part, kept in zip(parts, before, strict=True):
            part.fp32_precision = kept
        torch.backends.cudnn.benchmark = tried


def begin(recipe: Recipe) -> None:
    """Say that other images come: what CUDA graphs gave for the last may be overwritten."""
    if recipe.compile == "reduce-overhead":
        torch.compiler.cudagraph_mark_step_begin()


def compile_body(body: nn.Module, mode: str) -> None:
    """Compile in place, each size as one graph or not at all."""
    _separate_caches()
    # A last, smaller batch is a graph of its own: graphs for any size would be slower.
    # Arms of one process share code, and with it a cache that every call searches, unless they are isolated.
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        body.compile(fullgraph=True, dynamic=False, mode=mode, recompile_limit=_SIZES, isolate_recompiles=True)
    else:
        # torch 2.11 has one limit for all, and compiles its own modules, such as Sequential, within others' code alone.
        torch._dynamo.config.recompile_limit = _SIZES
        body._compiled_call_impl = torch.compile(partial(_forward, body), fullgraph=True, dynamic=False, mode=mode)


def _forward(body: nn.Module, x: Tensor) -> Tensor:
    return body.forward(x)


def _separate_caches() -> None:
    """Keep torch's compiled code apart by the CPU's vector instructions and by the number of threads.

    The code's loops are written for both, and torch keeps it on disk under a key that names neither in every release:
    code that was written for AVX-512 and is built again for AVX2 leaves half of its output unwritten.
    """
    mark = f" {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} threads"
    config = torch.compiler.config
    if not config.cache_key_tag.endswith(mark):
        config.cache_key_tag += mark


def check(recipe: Recipe, device: torch.device) -> None:
    """ValueError for what this device or installation cannot do."""
    able("recipe.", recipe.precision, recipe.compile, device, "fp32, bf16, fp16")
    gpu = device.type == "cuda"
    for key in ("cuda_graph", "teacher_stream"):
        if getattr(recipe, key) and not gpu:
            raise ValueError(f"recipe.{key}: true needs a GPU (allowed here: false)")
    if recipe.cuda_graph and distributed.world_size() > 1:
        raise ValueError(
            f"recipe.cuda_graph: true on {distributed.world_size()} ranks (allowed: on one; on more: false)"
        )


def able(where: str, precision: str, mode: str | bool, device: torch.device, others: str) -> None:
    """ValueError, of `where`, for a precision (allowed: `others`) or a mode of compilation that there is not here."""
    gpu = device.type == "cuda"
    if precision == "tf32" and not (gpu and torch.cuda.get_device_capability(device) >= (8, 0)):
        raise ValueError(f"{where}precision: 'tf32' needs a GPU that has it (allowed here: {others})")
    if mode == "reduce-overhead" and not gpu:
        raise ValueError(f"{where}compile: 'reduce-overhead' needs a GPU (allowed here: off, default)")
    if not mode:
        return
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ValueError(
            f"{where}compile: {mode!r} needs a C++ compiler, and {compiler!r} is not on the PATH"
            " (install g++, or name yours in CXX; allowed without: off)"
        )
