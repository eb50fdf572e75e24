"""Ids and losses are those that were written before the project was redesigned (`python tests/golden/write.py`).

The writer's files of two versions of the code, written on one machine, are the finer test: they agree in every bit.
"""

import json
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from golden.identities import PATHS, READINGS, identities
from golden.losses import DTYPES, SETTINGS, batches, losses
from test_data import KINDS
from test_methods import METHODS

from crt.data import LOADERS

GOLDEN = Path(__file__).parent / "golden"
IDS = json.loads((GOLDEN / "cell_ids.json").read_text(encoding="utf-8"))
LOSSES = json.loads((GOLDEN / "losses.json").read_text(encoding="utf-8"))

# CPUs differ in the order of sums and in the last bits of exp, log and cos. A number passes 2 (forward, backward) x 5
# layers in each of at most 8 gradients (an attack's 7 and the update's) of 3 batches, thus 240 layers, whose sums have
# at most 128 terms. Losses and the networks' numbers are of the order of 1.
LAYERS = 2 * 5 * 8 * 3
TERMS = 128
BOUNDS = {
    # All errors of one sign would be 7e-12. The rest is room for layers that stretch them.
    "float64": 1e-9,
    # All errors of one sign: 4e-3.
    "float32": LAYERS * TERMS * torch.finfo(torch.float32).eps,
    # Sums are of float32 and what a layer gives is rounded, up as often as down, by at most half of eps: errors grow as
    # the root of their number, to 6e-2 and 8e-3.
    "bf16": LAYERS**0.5 * torch.finfo(torch.bfloat16).eps / 2,
    "fp16": LAYERS**0.5 * torch.finfo(torch.float16).eps / 2,
}
NORMED = {"BCP", "Duet", "EMMA", "GloRo", "LMT", "LocalBCP"}
"""Methods whose power iterations begin with float32 normal numbers also where the network is of float64."""

WRITTEN = [name for name in IDS if not name.endswith(" --quick")]
"""Manifests that there were; later ones are added when the golden files are written again."""
LABELLED = ("cells", "evals")
"""Kinds of which the golden file holds a label beside each id."""


def bound(method: str, dtype: str, setting: str) -> float:
    """Largest error of a loss on another CPU, relative to the larger of 1 and the loss."""
    if dtype == "float64":  # which autocast leaves alone
        # A start that is off by a rounding of float32 moves a norm by about as much, and a loss by some norms.
        return 100 * torch.finfo(torch.float32).eps if method in NORMED else BOUNDS["float64"]
    return BOUNDS.get(setting, BOUNDS["float32"])


@cache
def read(name: str, reading: str) -> dict[str, list]:
    # A quick reading counts operations, which takes a second a manifest.
    return identities(PATHS[name], READINGS[reading])


def entry(name: str, reading: str) -> dict[str, list]:
    return IDS[f"{name} --quick" if READINGS[reading] else name]


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", WRITTEN)
def test_cell_ids_are_kept(name, reading):
    for kind, expected in entry(name, reading).items():
        actual = read(name, reading)[kind]
        if kind in LABELLED:
            actual, expected = ([ident for ident, _ in pairs] for pairs in (actual, expected))
        assert actual == expected, kind


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", WRITTEN)
def test_labels_are_kept(name, reading):
    for kind in LABELLED:
        assert dict(read(name, reading)[kind]) == dict(entry(name, reading)[kind])


def test_no_manifest_loader_method_or_precision_that_there_was_is_gone():
    assert IDS.keys() <= {f"{name}{end}" for name in PATHS for end in ("", " --quick")}
    assert LOSSES.keys() <= {"/".join(case) for case in product(LOADERS, METHODS, DTYPES, SETTINGS)}


@pytest.fixture(scope="module")
def loaded(digits):
    """Batches of a loader, made once."""
    return cache(lambda kind: batches(kind, digits))


@pytest.mark.parametrize("method", sorted({case.split("/")[1] for case in LOSSES}))
@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_kept(kind, method, loaded):
    for dtype, setting in product(DTYPES, SETTINGS):
        expected = torch.tensor(LOSSES[f"{kind}/{method}/{dtype}/{setting}"], dtype=torch.float64)
        actual = torch.tensor(losses(method, loaded(kind), dtype, setting), dtype=torch.float64)
        off = ((actual - expected).abs() / expected.abs().clamp_min(1)).max().item()
        assert off <= bound(method, dtype, setting), (dtype, setting, actual.tolist(), expected.tolist())
