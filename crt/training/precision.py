"""Arithmetic of a recipe: number formats, memory order, compilation, folding."""

import inspect
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from crt import distributed
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import bare_twin, fold, twin
from crt.models.frozen_chain import fastest_kernel, straight
from crt.models.low_weights import LowWeights
from crt.training.method import Method
from crt.training.recipe import Recipe

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Number formats under autocast; weights, losses and updates remain float32."""
_SIZES = 64
"""Largest number of input sizes for which a network is compiled."""


def prepare(method: Method, model: Classifier, recipe: Recipe) -> None:
    """Set up the network and the method's teacher in place, on their device, before anything refers to their weights.

    Only the bodies are compiled, once for each mode and size, each as one graph or not at all; normalization, head,
    losses and code that iterates over layers are not compiled. ValueError for anything that this device or installation
    does not support.
    """
    check(recipe, next(model.parameters()).device)
    networks = [network for network in (model, method.teacher) if network is not None]
    if recipe.channels_last:
        for network in networks:
            # Convolutions propagate it. Images keep their order, in which noise is drawn.
            network.to(memory_format=torch.channels_last)
    if recipe.fold:
        if method.teacher is not None:
            method.teacher = networks[1] = fold(method.teacher).network
        # A compiler joins more layers than a straight program does.
        if copy := twin(model) or (None if recipe.compile else bare_twin(model)):
            model.twin = copy
            if not recipe.compile:
                first = next(copy.network.parameters())
                with arithmetic(recipe):
                    kernel = fastest_kernel(first.device, LOW.get(recipe.precision, first.dtype))
                copy.network.body = straight(copy.network.body, kernel)
            networks.append(copy.network)
    if low := LOW.get(recipe.precision):
        for network in networks:
            network.low = LowWeights(network, low)
    if recipe.teacher_stream and method.teacher is not None:
        method.stream = torch.cuda.Stream()
    if recipe.compile:
        for network in networks:
            compile_body(network.body, recipe.compile)


def arithmetic(recipe: Recipe) -> AbstractContextManager[None]:
    """Context of the recipe's product precision, in which cuDNN chooses the fastest kernels by trial."""
    return products(recipe.precision, trial=True)


@contextmanager
def products(precision: str, trial: bool) -> Iterator[None]:
    """Context in which float32 products keep all bits or, for `tf32`, use TF32; cuDNN picks kernels by `trial` or not.

    Trials pay where few sizes occur often.
    """
    tried = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = trial
    try:
        with rounding("tf32" if precision == "tf32" else "ieee"):
            yield
    finally:
        torch.backends.cudnn.benchmark = tried


@contextmanager
def rounding(inputs: Literal["ieee", "tf32"]) -> Iterator[None]:
    """Context in which a GPU's float32 products keep all bits of their inputs or round them to TF32.

    torch has an older setting for each of these, which its compiler reads, and whose readers raise RuntimeError where
    it contradicts the newer one (https://github.com/pytorch/pytorch/issues/166387).
    """
    # torch creates these attributes on import.
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    parts = (cudnn.conv, cudnn.rnn, matmul)  # type: ignore[attr-defined]
    before = [part.fp32_precision for part in parts]
    _round([inputs] * 3)
    try:
        yield
    finally:
        _round(before)


def _round(precisions: Sequence[str]) -> None:
    """Set the precisions of convolutions, recurrent layers and matrix products under their older names, and the newer.

    The newer ones come last, since the older ones overwrite them with defaults.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    cudnn.allow_tf32, matmul.allow_tf32 = precisions[0] == "tf32", precisions[-1] == "tf32"
    parts = (cudnn.conv, cudnn.rnn, matmul)  # type: ignore[attr-defined]
    for part, precision in zip(parts, precisions, strict=True):
        part.fp32_precision = precision


def begin(recipe: Recipe) -> None:
    """Mark the start of new images: CUDA graphs may overwrite the results for the previous ones."""
    if recipe.compile == "reduce-overhead":
        torch.compiler.cudagraph_mark_step_begin()


def compile_body(body: nn.Module, mode: str) -> None:
    """Compile in place, each size as one graph or not at all."""
    _separate_caches()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiler_cache()))
    # A smaller last batch has its own graph, since a graph for all sizes would be slower.
    # Arms of one process share code, and thus a cache that every call searches, unless they are isolated.
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        body.compile(fullgraph=True, dynamic=False, mode=mode, recompile_limit=_SIZES, isolate_recompiles=True)
    else:
        # torch 2.11 has one limit for all, and compiles its own modules, such as Sequential, only inside others' code.
        torch._dynamo.config.recompile_limit = _SIZES
        body._compiled_call_impl = torch.compile(partial(_forward, body), fullgraph=True, dynamic=False, mode=mode)


def compiler_cache() -> Path:
    """Folder of compiled code, torch's default for this process's user.

    torch asks the environment for the user's name, where another's, as after su, leads to a folder of the other's.
    """
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = f"uid_{os.getuid()}"
    return Path(tempfile.gettempdir()) / f"torchinductor_{user}"


def _forward(body: nn.Module, x: Tensor) -> Tensor:
    return body.forward(x)


def _separate_caches() -> None:
    """Separate torch's compiled code by the CPU's vector instructions and by the number of threads.

    The code's loops depend on both, and torch stores it on disk under a key that, in some releases, contains neither:
    code written for AVX-512 and built again for AVX2 leaves half of its output unwritten.
    """
    mark = f" {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} threads"
    config = torch.compiler.config
    if not config.cache_key_tag.endswith(mark):
        config.cache_key_tag += mark


def check(recipe: Recipe, device: torch.device) -> None:
    """Raise ValueError for anything in the recipe that this device or installation does not support."""
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
    """Raise ValueError, with the place `where`, for an unsupported precision (allowed: `others`) or compile mode."""
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
