"""Reading of weights trained elsewhere into a Classifier, for any project's names of layers."""

import warnings
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from crt.models.classifier import Classifier
from crt.models.import_weights.checkpoint import read
from crt.models.import_weights.checkpoint_file import sha256_of
from crt.models.import_weights.inert_pickle import Stored
from crt.models.import_weights.layer_names import named
from crt.models.import_weights.state_dict import choose
from crt.models.import_weights.wrappers import Unwrapped, some, unwrap
from crt.sealed import check_seal

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = ("int64", "int32", "int16", "int8", "uint8")


def load_weights(
    model: Classifier, path: Path, sha256: str | None, *, normalize: bool | None = None, key: str | None = None
) -> str:
    """Fill a network with a file's weights; returns the file's SHA-256.

    The file is one of torch.save or safetensors. It holds a state dict at the top or in nested dictionaries (`key`
    chooses one of several): of a Classifier, of a network alone, or of an nn.Sequential of normalization and network
    (`1.`), with any wrappers' prefixes (`module.`, `_orig_mod.`, …). Nothing in the file is run. Half and double
    precision become float32, and BatchNorm's counts of batches may be missing. `normalize` is True if the network takes
    normalized pixels; it is required if the file does not show it. If False (MACER's own code), the model's constants
    become 0 and 1. The model keeps its own constants where the file has none.

    Warns about other contents of the file: other state dicts, an average, tensors that are no layers. ValueError, with
    an unchanged model, for a file that is missing, has another SHA-256, differs from the digest in it or is no
    checkpoint; for other constants than the model's; for other layers or shapes; and for tensors with missing or
    non-finite numbers.
    """
    digest = sha256_of(path)
    if sha256 is not None and digest != sha256.lower():
        raise ValueError(f"{path}: its SHA-256 is {digest}, not {sha256}")
    check_seal(path)
    try:
        chosen = choose(read(path), key)
        unwrapped = unwrap(chosen.state)
        wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("normalize.")}
        _check_kinds(dict(unwrapped.constants), _FLOATS)
        _check_kinds(unwrapped.network, (*_FLOATS, *_INTEGERS))
        network = _with_counts(named(unwrapped.network, model.body), wanted)
        _compare(network, wanted)
        _check_kinds({name: network[name] for name in wanted if wanted[name].is_floating_point()}, _FLOATS)
        state = _constants(model, unwrapped, normalize) | {name: _numbers(network[name], name) for name in wanted}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: is damaged: containers in containers without end") from error
    model.load_state_dict(state)
    ignored = [f"ignores {some([*unwrapped.ignored])} (not part of the network)"] if unwrapped.ignored else []
    if remarks := [*chosen.remarks, *ignored]:
        warnings.warn(f"{path}: {'; '.join(remarks)}", stacklevel=2)
    return digest


def _check_kinds(tensors: Mapping[str, Stored], allowed: Collection[str]) -> None:
    """Raise ValueError that names tensors of other kinds than the allowed: complex, sparse, quantized, …"""
    wrong: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.kind not in allowed:
            wrong.setdefault(tensor.kind, []).append(name)
    if wrong:
        kinds = "; ".join(
            f"{len(names)} {kind} tensor{'s' if len(names) > 1 else ''} ({some(names)})"
            for kind, names in wrong.items()
        )
        raise ValueError(f"{kinds} (allowed for weights: dense tensors of {', '.join(_FLOATS)})")


def _numbers(tensor: Stored, name: str) -> Tensor:
    """Read a tensor, floating-point ones as float32; ValueError where it is damaged or has non-finite numbers."""
    try:
        values = tensor.load()
    except Exception as error:  # a tensor's constructor may raise any error on damaged sizes
        raise ValueError(f"is truncated or damaged at {name} ({type(error).__name__}: {error})") from error
    if tensor.kind in _INTEGERS:
        return values
    values = values.float()
    # The extremes are NaN if any value is, and need no copy of the values.
    if not torch.stack(values.aminmax()).isfinite().all():
        bad = values.numel() - int(values.isfinite().sum())
        raise ValueError(
            f"{name}: {bad:,} of {values.numel():,} values are NaN or infinite in float32 (allowed: finite numbers)"
        )
    return values


def _with_counts(network: dict[str, Stored], wanted: dict[str, Tensor]) -> dict[str, Stored]:
    """Add BatchNorm's counts of batches, which do not affect the output, where a file has none."""
    absent = [name for name in wanted if name.endswith(".num_batches_tracked") and name not in network]
    for name in absent:
        if f"{name.removesuffix('num_batches_tracked')}running_mean" in network:
            network[name] = Stored("int64", (), partial(wanted.__getitem__, name))
    return network


def _constants(model: Classifier, unwrapped: Unwrapped, normalize: bool | None) -> dict[str, Tensor]:
    """Normalization that the network was trained with, under the model's names."""
    if not unwrapped.normalized and normalize is None:
        raise ValueError("does not tell whether its network takes normalized pixels (say so by normalize)")
    if unwrapped.normalized and not unwrapped.constants and normalize is False:
        raise ValueError("its network stands behind another layer, and normalize says that there is none")
    wanted = {"mean": model.normalize.mean, "std": model.normalize.std}
    if normalize is False:
        wanted = {"mean": torch.zeros_like(wanted["mean"]), "std": torch.ones_like(wanted["std"])}
    for kind, tensor in unwrapped.constants:
        theirs, ours = _numbers(tensor, kind).flatten(), wanted[kind].flatten().cpu()
        # Half precision also rounds the constants.
        if not torch.equal(theirs, ours.to(getattr(torch, tensor.kind)).float()):
            why = "it goes by pipeline and dataset: choose the file's"
            raise ValueError(
                f"its pixels were normalized with {kind} {theirs.tolist()}, the model's is {ours.tolist()}"
                f" ({'normalize says that there is none' if normalize is False else why})"
            )
    return {f"normalize.{name}": tensor for name, tensor in wanted.items()}


def _compare(network: Mapping[str, Stored], wanted: Mapping[str, Tensor]) -> None:
    """Raise ValueError with a list of the layers in which the network differs from the wanted one."""
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    differences = {
        "missing": [name for name in shapes if name not in network],
        "unexpected": [name for name in network if name not in shapes],
        "of another shape": [name for name in network if network[name].shape != shapes.get(name, network[name].shape)],
    }
    if any(differences.values()):
        raise ValueError(
            "; ".join(f"{len(names)} {kind} ({some(names)})" for kind, names in differences.items() if names)
        )
