"""Losses of three batches of every method, loader and precision that a CPU runs, as `golden/losses.json` holds them."""

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import torch
from test_methods import METHODS, make, student
from torch import nn

from crt.data import DATASETS, LOADERS
from crt.data.loader import loader
from crt.threat import Threat
from crt.training.loop import Training
from crt.training.recipe import Recipe

DTYPES = {"float64": torch.float64, "float32": torch.float32}
"""Data types of the network's weights."""
SETTINGS = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "fp32 folded, channels last, fused": {"fold": True, "channels_last": True, "fused": True},
}
"""Compute settings that need neither a GPU nor a compiler: every precision, and the other settings together."""
PIPELINE = {"ffcv": "plain", "torch": "crt", "device": "crt"}
"""Crops of FFCV cannot be seeded."""
RECIPE = {"epochs": 3, "batch_size": 16, "lr": 0.05, "schedule": "cosine", "weight_decay": 5e-4}
IMAGES = 44
"""Images of an epoch: two batches of 16 and one of 12."""
L2 = Threat(norm="l2", sigma=0.25, eps=0.25)
LINF = Threat(norm="linf", sigma=0.25, eps=8 / 255)
_CERTIFIED = ("CCIBP", "ExpIBP", "IBP", "MTLIBP", "SABR")
_ATTACKED = ("ARD", "AdaAD", "FGSMRS", "FreeAT", "GradAlign", "MART", "NFGSM", "PGD7Fast", "RSLAD", "TRADES")
THREATS = dict.fromkeys(_CERTIFIED + _ATTACKED, LINF)
"""Threats other than `L2`."""
_RAMP = {"warmup": 0.5, "ramp": 2.0}
ARGUMENTS = {
    **dict.fromkeys(("BCP", "CROWNIBP", "Duet", "EMMA", "GloRo", "IBP", "LMT", "LocalBCP"), _RAMP),
    **{name: {**_RAMP, "K": 2} for name in ("CCIBP", "ExpIBP", "MTLIBP", "SABR")},
    "AdaAD": {"K": 3},
    "ARD": {"K": 3},
    "FreeAT": {"m": 2},
    "MACER": {"k": 4},
    "MART": {"K": 3},
    "RRM": {"lbd": 0.1, "replays": 2},
    "RSLAD": {"K": 3},
    "SmoothAdv": {"T": 2, "m": 2, "warmup": 2},
    "SmoothMix": {"T": 2, "mix_step": 1, "warmup": 2},
    "TRADES": {"K": 3, "awp": 0.01},
}
"""Arguments other than the papers': small numbers of draws and steps, and short ramps.

Methods with a ramp take the first batch in their warm-up, the others at a quarter and three quarters of the radius.
"""

Batches = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def loaders() -> list[str]:
    """The loaders that are installed."""
    return [kind for kind in LOADERS if kind != "ffcv" or find_spec("ffcv")]


def batches(kind: str, data: Path) -> Batches:
    """One epoch of digits as (x, y, index); x has shape (B, 3, 8, 8), y one of 3 classes.

    Every fourth pixel is taken, which is exact; a mean of pixels is not the same on every CPU.
    """
    made = loader(
        kind,
        DATASETS["digits"],
        "train",
        data=data,
        pipeline=PIPELINE[kind],
        batch_size=RECIPE["batch_size"],
        device="cpu",
        seed=3,
        images=IMAGES,
    )
    taken = [(x[:, :, ::4, ::4].contiguous(), y % 3, index) for x, y, index in made]
    made.close()
    return taken


def losses(method: str, batches: Batches, dtype: str, setting: str) -> list[float]:
    """Loss of each batch, the mean of its optimizer steps; each batch is an epoch of its own."""
    model = drawn(student(method), 0, DTYPES[dtype]).train()
    bound = make(method, THREATS.get(method, L2), **ARGUMENTS.get(method, {}))
    if bound.teacher is not None:
        drawn(bound.teacher, 1, DTYPES[dtype])
    training = Training(bound, model, Recipe(**RECIPE, **SETTINGS[setting]))
    torch.manual_seed(0)
    steps = enumerate((x.to(DTYPES[dtype]), y, index) for x, y, index in batches)
    return [training.epoch([batch], epoch).item() for epoch, batch in steps]


def drawn(model: nn.Module, seed: int, dtype: torch.dtype) -> nn.Module:
    """The network with weights, biases and BatchNorm's statistics that are the same on every CPU.

    torch's own initial weights are float32 numbers whose last bits depend on the vector instructions.
    """
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in model.to(dtype).state_dict().items():
            if not tensor.is_floating_point() or name.startswith("normalize."):
                continue
            values = random.uniform(-1, 1, tensor.shape)
            if tensor.dim() > 1:
                values *= (6 / tensor[0].numel()) ** 0.5
            elif name.endswith(("running_mean", "bias")):
                values *= 0.1
            else:
                values = 1 + values / 2
            tensor.copy_(torch.from_numpy(values))
    return model


def cases() -> Iterator[tuple[str, str, str]]:
    """Every method, data type of the weights and compute setting."""
    return product(METHODS, DTYPES, SETTINGS)
