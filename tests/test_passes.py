"""Passes counted in the training loop against the cost model of the papers, and against counted operations."""

import inspect
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from bench.build import passes
from bench.build.cost import forward_flops, step_flops
from bench.build.passes import Passes, count
from bench.cell import Cell, Spec
from bench.manifest import read_manifest
from crt.attacks.common import frozen
from crt.plugins import find, plugins
from crt.threat import Threat
from crt.training.method import Method

MANIFEST = Path(__file__).parents[1] / "manifests" / "table4.yaml"
STANDARD = next(cell for cell in read_manifest(MANIFEST).cells if cell.method.name == "Standard")
STANDARD = STANDARD.model_copy(update={"threat": Threat(sigma=0.25, eps=0.25)})

ROWS = {
    "Standard": lambda: Passes(1, 0, 0, 1),
    "Gaussian": lambda: Passes(1, 0, 0, 1),
    "SmoothAdv": lambda m=8, T=10, update="multi-noise": (
        Passes(m * T + m, 0, m * T, m) if update == "multi-noise" else Passes(m * T + 1, 0, m * T, 1)
    ),
    "MACER": lambda k=16: Passes(k, 0, 0, k),
    "SmoothMix": lambda m=2, T=4, mix_step=0: Passes(m * (T + 2), 0, m * T, 2 * m),
    "Consistency": lambda m=2: Passes(m, 0, 0, m),
    "CRT": lambda alpha=1.0: Passes(1, 1, 0, 1),
    "LMT": lambda power_iterations=1: Passes(1, 0, 0, 1),
    "GloRo": lambda power_iterations=5: Passes(1, 0, 0, 1),
    "EMMA": lambda power_iterations=10: Passes(1, 0, 0, 1),
    # Three streams go layer by layer, one of them with other weights, and the network is never called.
    "BCP": lambda: Passes(0, 0, 0, 0),
    "LocalBCP": lambda stored=0: Passes(0, 0, 0, 0),
    "Duet": lambda inputs="own": Passes(0, 0, 0, 0),
    "CROWNIBP": lambda kappa_final=None: Passes(*(0, 0, 0, 0) if kappa_final is None else (1, 0, 0, 1)),
    "IBP": lambda kappa_final=0.5: Passes(*(0, 0, 0, 0) if kappa_final is None else (1, 0, 0, 1)),
    **dict.fromkeys(("MTLIBP", "CCIBP", "ExpIBP"), lambda K=8: Passes(K + (K > 1) + 1, 0, K, 1)),
    # Its intervals lie near the adversarial image, whose logits it does not take.
    "SABR": lambda K=8: Passes(K + (K > 1), 0, K, 0),
    "SAT": lambda K=7, best_of=True, awp=None: Passes(K + 1 + best_of + bool(awp), 0, K, 1 + bool(awp)),
    "PGD7Fast": lambda K=7: Passes(K + 1, 0, K, 1),
    "FGSMRS": lambda init="random": Passes(2, 0, 1, 1),
    "NFGSM": lambda k=2.0: Passes(2, 0, 1, 1),
    # A backward pass through gradients counts as one more.
    "GradAlign": lambda lbd=0.2: Passes(3, 0, 2, 5),
    "TRADES": lambda K=10, awp=None: Passes(K + 3 + 2 * bool(awp), 0, K, 2 + 2 * bool(awp)),
    "MART": lambda K=10: Passes(K + 2, 0, K, 2),
    "FreeAT": lambda m=8: Passes(m, 0, 0, m),
    "RRM": lambda distance="cosine", replays=1: Passes(replays, 1, 0, replays),
    "KD": lambda alpha=1.0, form="textbook": Passes(1, 1, 0, 1),
    "RDT": lambda: Passes(1, 0, 0, 1),
    "RSLAD": lambda K=10: Passes(K + 2, 1, K, 2),
    "ARD": lambda alpha=1.0, K=10: Passes(K + 1 + (alpha < 1), 1, K, 1 + (alpha < 1)),
    "AdaAD": lambda alpha=1.0, K=10: Passes(K + 1 + (alpha < 1), K + 1 + (alpha < 1), K, 1 + (alpha < 1), K),
}
"""Each method's row as a function of those of its arguments that could bear on it."""

CASES = [
    *((name, {}) for name in ROWS),
    ("SmoothAdv", {"m": 1, "T": 1}),
    ("SmoothAdv", {"m": 3, "T": 2}),
    ("SmoothAdv", {"m": 3, "T": 2, "update": "single-noise"}),
    ("MACER", {"k": 1}),
    ("MACER", {"k": 2}),
    ("Consistency", {"m": 3}),
    ("SmoothMix", {"mix_step": 1}),
    ("SmoothMix", {"m": 1, "T": 1}),
    ("SmoothMix", {"m": 3, "T": 2}),
    ("CRT", {"alpha": 0.5}),
    ("SAT", {"K": 3, "best_of": False}),
    ("SAT", {"K": 2, "awp": 0.005}),
    ("TRADES", {"K": 3}),
    ("TRADES", {"K": 2, "awp": 0.005}),
    ("MART", {"K": 3}),
    ("PGD7Fast", {"K": 1}),
    ("FGSMRS", {"init": "previous"}),
    ("FGSMRS", {"init": "zero"}),
    ("FreeAT", {"m": 3}),
    ("RRM", {"distance": "relative", "replays": 3}),
    ("KD", {"alpha": 0.5, "form": "paper"}),
    ("RSLAD", {"K": 3}),
    ("ARD", {"K": 2, "alpha": 0.5}),
    ("AdaAD", {"K": 2, "alpha": 0.5}),
    ("LocalBCP", {"stored": 4}),
    ("Duet", {"inputs": "shared"}),
    ("CROWNIBP", {"kappa_final": 0.5}),
    ("IBP", {"kappa_final": None}),
    *((name, {"K": 1}) for name in ("MTLIBP", "CCIBP", "ExpIBP", "SABR")),
]

INTERVALS = {"CROWNIBP", "IBP", "MTLIBP", "CCIBP", "ExpIBP", "SABR"}
CHAINS = {"LMT", "GloRo", "EMMA", "BCP", "LocalBCP", "Duet", *INTERVALS}
"""Methods of chains of layers, which compute beside passes: tests/test_lipschitz_methods.py counts their operations."""

SHORT = {
    "SmoothAdv": {"m": 2, "T": 2},
    "SmoothMix": {"T": 2},
    "SAT": {"K": 2},
    "TRADES": {"K": 2},
    "MART": {"K": 2},
    "FreeAT": {"m": 2},
    **{name: {"K": 2} for name in ("AdaAD", "ARD", "RSLAD")},
}
"""Fewer steps of the attacks, where only the kinds of passes matter."""


def cell(name: str, arch: str = "cnn2c2f", precision: str = "fp32", **arguments) -> Cell:
    kind = plugins("crt.methods").get(name)
    body = {
        "arch": arch,
        "method": Spec(name=name, args=arguments, label=name, id=name),
        "recipe": STANDARD.recipe.model_copy(update={"precision": precision}),
        "teacher": STANDARD.model_copy(update={"arch": arch}) if kind and kind.needs_teacher else None,
    }
    return STANDARD.model_copy(update=body)


def test_every_method_has_its_row():
    assert set(ROWS) == set(plugins("crt.methods"))


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_rows_have_the_methods_own_defaults(name, arguments):
    bound = find("crt.methods", name)(threat=STANDARD.threat)
    defaults = {key: value.default for key, value in inspect.signature(ROWS[name]).parameters.items()}
    assert defaults == {key: getattr(bound, key) for key in defaults} and set(arguments) <= set(defaults)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_passes_of_a_loaded_batch(name, arguments):
    assert count(cell(name, **arguments)) == ROWS[name](**arguments)


@pytest.mark.parametrize("arch", sorted(plugins("crt.archs")))
def test_the_architecture_does_not_bear_on_it(arch):
    dataset = "imagenet" if arch.startswith("imagenet_") else "cifar10"
    of = cell("SmoothMix", arch, m=1, T=1).model_copy(update={"dataset": dataset})
    assert count(of) == ROWS["SmoothMix"](m=1, T=1)


@pytest.mark.parametrize("name", ROWS)
def test_precision_does_not_bear_on_it(name):
    arguments = SHORT.get(name, {})
    assert count(cell(name, precision="bf16", **arguments)) == ROWS[name](**arguments)


@pytest.mark.parametrize("name", sorted(set(ROWS) - CHAINS))
def test_operations_agree(name):
    arch = "regnetx_200mf"
    arguments = SHORT.get(name, {})
    found, forward = count(cell(name, arch, **arguments)), forward_flops(cell("Standard", arch))
    assert found == ROWS[name](**arguments)
    # The teacher has the same architecture; the first convolution of a full backward gives its input no gradient.
    units = 3 * found.steps + found.teacher_forwards + found.teacher_input_backwards
    assert step_flops(cell(name, arch, **arguments)) == pytest.approx(units * forward, rel=0.03)


@pytest.mark.parametrize(
    ("name", "arguments", "steps"),
    [
        ("SmoothAdv", {}, 61.33),
        ("SmoothAdv", {"update": "single-noise"}, 54.33),
        ("SmoothAdv", {"m": 1, "T": 1}, 1.67),
        ("MACER", {}, 16),
        ("MACER", {"k": 2}, 2),
        ("SmoothMix", {}, 9.33),
        ("SmoothMix", {"m": 1, "T": 1}, 2.67),
        ("Consistency", {}, 2),
        ("CRT", {}, 1),
        ("SAT", {}, 6),
        ("SAT", {"best_of": False}, 5.67),
        ("PGD7Fast", {}, 5.67),
        ("FGSMRS", {}, 1.67),
        ("SAT", {"awp": 0.005}, 7),
        ("NFGSM", {}, 1.67),
        ("GradAlign", {}, 5),
        ("TRADES", {}, 9),
        ("TRADES", {"awp": 0.005}, 11),
        ("MART", {}, 8.67),
        ("FreeAT", {}, 8),
        ("RRM", {}, 1),
        ("KD", {}, 1),
        ("RDT", {}, 1),
        ("RSLAD", {}, 8.67),
        ("ARD", {}, 7.67),
        ("AdaAD", {}, 7.67),
    ],
)
def test_steps_are_those_of_the_cost_model(name, arguments, steps):
    assert ROWS[name](**arguments).steps == pytest.approx(steps, abs=0.005)


def attack(model: nn.Module, x: torch.Tensor, y: torch.Tensor, how: str) -> torch.Tensor:
    x = x.clone().requires_grad_()
    if how == "frozen":
        with frozen(model):
            F.cross_entropy(model(x), y).backward()
    elif how == "grad":
        torch.autograd.grad(F.cross_entropy(model(x), y), x)
    else:
        F.cross_entropy(model(x), y).backward()
    return x.detach()


class Attacked(Method):
    """One attack step on the images and two calls of the network in one backward pass, half of it from features."""

    how = "frozen"

    def loss(self, model, x, y, step):
        x = attack(model, x, y, self.how)
        with torch.no_grad():
            model(x)
        return F.cross_entropy(model(x), y) + model.features(x[: len(x) // 2]).square().mean()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("frozen", Passes(3.5, 0, 1, 1.5)),
        ("grad", Passes(3.5, 0, 1, 1.5)),
        ("forgotten", Passes(3.5, 0, 0, 2.5)),
    ],
)
def test_a_backward_is_what_it_computes(monkeypatch, how, expected):
    method = Attacked(threat=STANDARD.threat)
    method.how = how
    monkeypatch.setattr(passes, "method", lambda *_: method)
    assert count(cell("Standard")) == expected


@pytest.mark.parametrize(("chunks", "replays"), [(3, 1), (1, 4), (2, 3)])
def test_chunks_share_a_batch_and_replays_multiply_it(monkeypatch, chunks, replays):
    class Split(find("crt.methods", "Standard")):
        pass

    Split.chunks, Split.replays = chunks, replays
    monkeypatch.setattr(passes, "method", lambda *_: Split(threat=STANDARD.threat))
    assert count(cell("Standard")) == Passes(replays, 0, 0, replays)


def test_weights_that_are_computed_from_others(monkeypatch):
    real = passes.network

    def network(of: Cell) -> nn.Module:
        model = real(of)
        layer = next(module for module in model.body.modules() if isinstance(module, nn.Conv2d))
        layer.bias = None
        parametrizations.weight_norm(layer)
        return model

    monkeypatch.setattr(passes, "network", network)
    assert count(cell("SmoothMix")) == ROWS["SmoothMix"]()


def test_it_is_written_with_names():
    row, kind = ROWS["SmoothMix"](), TypeAdapter(Passes)
    text = (
        b'{"forwards":12.0,"teacher_forwards":0.0,"input_backwards":8.0,"backwards":4.0,"teacher_input_backwards":0.0}'
    )
    assert kind.dump_json(row) == text and kind.validate_json(text) == row


def test_counting_draws_no_random_numbers():
    before = torch.get_rng_state()
    count(cell("SmoothMix"))
    assert torch.equal(before, torch.get_rng_state())
