"""Restatements against the methods: equal losses and weights in float64 after steps on equal batches and draws."""

import ast
import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_methods import CHAINS, chain, classifier, toy
from torch import nn

from bench.build.networks import restatement
from bench.plain_eager import restates
from bench.plain_eager.chains import has_weights, layers
from bench.plain_eager.duet import flow
from crt.lipschitz import chain as chains
from crt.lipschitz.leading import follow_blocks
from crt.lipschitz.norms import first_vectors
from crt.lipschitz.training import Normed
from crt.methods.duet import Duet
from crt.models.activations import MaxMin, ReLUTheta
from crt.models.classifier import Classifier
from crt.plugins import find, plugins
from crt.threat import Threat
from crt.training.loop import Training
from crt.training.recipe import Recipe

METHODS = sorted(plugins("crt.methods"))
FOLDER = Path(__file__).parents[1] / "bench" / "plain_eager"
RECIPE = Recipe(epochs=8, batch_size=12, lr=0.05, schedule="cosine", weight_decay=1e-3)
NOISE, CUBE, BALL = Threat(sigma=0.25), Threat(norm="linf", eps=0.1), Threat(norm="l2", eps=0.2)
SHORT = {"warmup": 2, "ramp": 4}
L2_ATTACKS = {"SAT", "PGD7Fast", "FreeAT", "RSLAD", "ARD", "AdaAD"}
CASES: list[tuple[str, Threat, dict[str, Any]]] = [
    ("Standard", NOISE, {}),
    ("Gaussian", NOISE, {}),
    ("SmoothAdv", NOISE, {"T": 3, "m": 2}),
    ("SmoothAdv", NOISE, {"T": 2, "m": 3, "eps": 0.3, "update": "single-noise"}),
    ("SmoothAdv", NOISE, {"T": 2, "m": 1}),
    ("MACER", NOISE, {"k": 4}),
    ("MACER", NOISE, {"k": 3, "gamma": 0.5, "beta": 4.0}),
    ("SmoothMix", NOISE, {"T": 2}),
    ("SmoothMix", NOISE, {"T": 3, "mix_step": 1}),
    ("Consistency", NOISE, {}),
    ("Consistency", NOISE, {"m": 3, "lbd": 5.0}),
    ("CRT", NOISE, {}),
    ("CRT", NOISE, {"alpha": 0.5, "target": "softmax"}),
    ("SAT", CUBE, {"K": 3}),
    ("SAT", CUBE, {"K": 2, "best_of": False, "alpha": 0.04}),
    ("SAT", BALL, {"K": 3}),
    ("SAT", CUBE, {"K": 2, "awp": 0.05}),
    ("PGD7Fast", CUBE, {"K": 3}),
    ("PGD7Fast", BALL, {"K": 2}),
    ("FGSMRS", CUBE, {}),
    ("FGSMRS", CUBE, {"init": "zero"}),
    ("FGSMRS", CUBE, {"init": "previous"}),
    ("NFGSM", CUBE, {}),
    ("NFGSM", CUBE, {"k": 1.0, "alpha": 0.15}),
    ("NFGSM", BALL, {}),
    ("GradAlign", CUBE, {"lbd": 2.0}),
    ("GradAlign", BALL, {"lbd": 0.5}),
    ("TRADES", CUBE, {"K": 3}),
    ("TRADES", CUBE, {"K": 2, "beta": 2.0, "alpha": 0.04, "awp": 0.05}),
    ("TRADES", BALL, {"K": 2}),
    ("MART", CUBE, {"K": 3}),
    ("MART", BALL, {"K": 2, "beta": 2.0}),
    ("FreeAT", CUBE, {"m": 3}),
    ("FreeAT", CUBE, {"m": 2, "reset": True}),
    ("FreeAT", BALL, {"m": 2}),
    ("RRM", NOISE, {}),
    ("RRM", NOISE, {"distance": "l2", "lbd": 0.3}),
    ("RRM", NOISE, {"distance": "relative", "replays": 2}),
    ("RDT", NOISE, {}),
    ("KD", NOISE, {"t": 3.0}),
    ("KD", NOISE, {"t": 3.0, "alpha": 0.5}),
    ("KD", NOISE, {"t": 2.0, "alpha": 0.5, "form": "paper"}),
    ("RSLAD", CUBE, {"K": 3}),
    ("RSLAD", BALL, {"K": 2, "alpha": 0.5, "step_size": 0.15}),
    ("ARD", CUBE, {"K": 3, "t": 3.0}),
    ("ARD", CUBE, {"K": 2, "t": 3.0, "alpha": 0.6, "step_size": 0.04}),
    ("ARD", BALL, {"K": 2}),
    ("AdaAD", CUBE, {"K": 3}),
    ("AdaAD", BALL, {"K": 2, "alpha": 0.6}),
    ("LMT", BALL, SHORT),
    ("LMT", BALL, {**SHORT, "margin": "original"}),
    ("BCP", BALL, SHORT),
    ("BCP", BALL, {**SHORT, "kappa_final": 0.3, "power_iterations": 3}),
    ("LocalBCP", BALL, SHORT),
    ("LocalBCP", BALL, {**SHORT, "stored": 30}),
    ("GloRo", BALL, SHORT),
    ("GloRo", BALL, {**SHORT, "objective": "trades"}),
    ("EMMA", BALL, SHORT),
    ("EMMA", BALL, {**SHORT, "widening": 1.5, "power_iterations": 2}),
    ("CROWNIBP", BALL, SHORT),
    ("CROWNIBP", BALL, {**SHORT, "beta_final": 0.4, "kappa_final": 0.5}),
    ("CROWNIBP", CUBE, {**SHORT, "beta_final": 0.0, "kappa_final": 0.5}),
    ("CROWNIBP", CUBE, {**SHORT, "regularize": 0.5}),
    ("Duet", BALL, SHORT),
    ("Duet", BALL, {**SHORT, "similarity": "relative", "rotation": "polar", "rank": 1.0, "project": False}),
    ("Duet", BALL, {**SHORT, "similarity": "cosine", "inputs": "shared", "layers": "convs", "scaled": False}),
    ("Duet", BALL, {**SHORT, "rotation": "polar", "scaled": False, "through_norms": True}),
    ("Duet", BALL, {**SHORT, "rotation": "rank_one", "similarity": "cosine"}),
    ("Duet", BALL, {**SHORT, "rotation": "block", "directions": 3, "similarity": "cosine"}),
    ("Duet", BALL, {**SHORT, "directions": 2, "layers": "body"}),
    ("Duet", BALL, {**SHORT, "start": "teacher"}),
    ("Duet", BALL, {**SHORT, "similarity": "logits", "lbd": 1.0}),
    ("IBP", CUBE, SHORT),
    ("IBP", BALL, {**SHORT, "kappa_final": None}),
    ("IBP", CUBE, {**SHORT, "regularize": 0.5}),
    ("CCIBP", CUBE, {**SHORT, "K": 3, "alpha": 0.3}),
    ("CCIBP", BALL, {**SHORT, "K": 1, "step_size": 10.0, "alpha": 0.5}),
    ("ExpIBP", CUBE, {**SHORT, "K": 3, "alpha": 0.3, "regularize": 0.5}),
    ("MTLIBP", CUBE, {**SHORT, "K": 3, "alpha": 0.3, "l1": 1e-3}),
    ("MTLIBP", CUBE, {**SHORT, "K": 1, "step_size": 10.0, "widening": 2.1}),
    ("SABR", CUBE, {**SHORT, "K": 3, "regularize": 0.5}),
    ("SABR", BALL, {**SHORT, "K": 3, "lbd": 0.4, "widening": 1.5, "l1": 1e-3}),
]
ATTACKS = {"SAT", "PGD7Fast", "FreeAT", "NFGSM", "GradAlign", "TRADES", "MART", "RSLAD", "ARD", "AdaAD"}


def label(case: Any) -> str:
    return case if isinstance(case, str) else "-".join(f"{key}={value}" for key, value in dict(case).items())


def batches(count: int = 2) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Batches of 12 toy images in float64; the second has some images of the first in other places."""
    x, y = toy(12 * count)
    return [(x[12 * k :][:12].double(), y[12 * k :][:12], torch.arange(12) + 9 * k) for k in range(count)]


def seeded(function: Callable) -> Callable:
    """The function with its own random numbers in each call: some draw numbers that others do not."""
    calls = iter(range(1000))

    def call(*arguments):
        torch.manual_seed(next(calls))
        return function(*arguments)

    return call


def trained(
    name: str, threat: Threat, arguments: dict[str, Any], model: Classifier, epoch: int
) -> tuple[tuple[torch.Tensor, Classifier], tuple[torch.Tensor, Classifier]]:
    """Mean loss and network after an epoch of the method, and of its restatement."""
    kind = find("crt.methods", name)
    teacher = (chain if name in CHAINS else classifier)(5).double().eval().requires_grad_(False)
    method = kind(threat=threat, teacher=teacher if kind.needs_teacher else None, **arguments)
    model, other = model.double(), copy.deepcopy(model).double()
    cell = SimpleNamespace(recipe=RECIPE, method=SimpleNamespace(name=name))
    plain = restatement(cell, method, other, torch.optim.SGD(other.parameters(), RECIPE.lr, 0.9, weight_decay=1e-3))
    if isinstance(method, Normed):
        converge(method, model, plain)
    training = Training(method, model, RECIPE, ranks=1)
    training.objective.forward = seeded(training.objective.forward)
    plain.loss = seeded(plain.loss)
    return (training.epoch(batches(), epoch), model), (plain.epoch(batches(), epoch), other)


def converge(method: Normed, model: Classifier, plain: Any) -> None:
    """Give both the vectors of many power iterations.

    While a norm is underestimated, the authors' boxes of activations may be smaller than those of the methods.
    """
    if isinstance(method, Duet):
        method.begin(model, (3, 8, 8))
        plain.begin(flow(plain.plain_teacher, torch.zeros(1, 3, 8, 8, dtype=torch.float64)))
    every = chains.chain(model, (3, 8, 8))
    with torch.no_grad():
        for _ in range(30):
            method.norms(every)
    positions = [k for k, layer in enumerate([*layers(model.body), model.head]) if has_weights(layer)]
    plain.norms.vectors = {k: v.clone() for k, v in zip(positions, method.vectors.values(), strict=True)}
    if isinstance(method, Duet):
        method.pairs = first_vectors(chains.chain(method.folded, (3, 8, 8)))
        plain.pairs.vectors = {k: v.clone() for k, v in zip(positions, method.pairs.values(), strict=True)}
        if method.rotation == "block":
            method.pairs.clear()
            for blocks, of, mine in zip(
                plain.blocks, (method.folded, model), (method.pairs, method.blocks), strict=True
            ):
                follow_blocks(chains.chain(of, (3, 8, 8)), mine, method.directions, 1)
                blocks.vectors = {k: v.clone() for k, v in zip(positions, mine.values(), strict=True)}


def assert_equal(product: tuple[torch.Tensor, Classifier], plain: tuple[torch.Tensor, Classifier], rtol: float) -> None:
    assert float(plain[0]) == pytest.approx(float(product[0]), rel=rtol)
    expected = product[1].state_dict()
    for name, value in plain[1].state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=rtol, atol=rtol * 0.1, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("name", "threat", "arguments"), CASES, ids=label)
def test_a_restatement_trains_as_its_method_does(name, threat, arguments):
    model = (chain if name in CHAINS else classifier)(0).train()
    product, plain = trained(name, threat, arguments, model, epoch=4)
    # The attacks divide the gradient of the mean, or of the sum, by its length plus 1e-10.
    assert_equal(product, plain, 1e-6 if threat is BALL and name in ATTACKS else 1e-9)


@pytest.mark.parametrize("name", sorted(CHAINS))
@pytest.mark.parametrize("epoch", [0, 7])
def test_they_agree_in_the_warm_up_and_after_the_ramp(name, epoch):
    assert_equal(*trained(name, BALL, SHORT, chain(0).train(), epoch), 1e-9)


@pytest.mark.parametrize("name", ["BCP", "LMT", "LocalBCP"])
@pytest.mark.parametrize("activation", ["relutheta", "maxmin"])
def test_they_agree_on_other_activations(name, activation):
    model = chain(0)
    for place, shape in ((1, (8, 8, 8)), (3, (8, 4, 4)), (6, (16,))):
        made = ReLUTheta(shape, 0.3) if activation == "relutheta" else MaxMin(shape, 0.2, -0.2)
        model.body[place] = made
    assert_equal(*trained(name, BALL, SHORT, model.train(), 4), 1e-9)


def test_every_method_has_a_restatement_in_a_file_of_the_same_name():
    assert sorted(plugins("bench.plain_eager")) == METHODS == sorted({name for name, *_ in CASES})
    for name in METHODS:
        kind = find("crt.methods", name)
        assert restates(kind)
        assert find("bench.plain_eager", name).__module__.rpartition(".")[2] == kind.__module__.rpartition(".")[2]


def test_restatements_share_the_networks_alone_with_the_methods():
    for file in FOLDER.glob("*.py"):
        imported = {node.module for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)}
        ours = {name for name in imported if name and name.partition(".")[0] in {"bench", "crt"}}
        assert all(name.startswith(("bench.plain_eager.", "crt.models.", "crt.threat")) for name in ours), file


def test_a_restatement_without_its_teacher_is_refused():
    kind = find("bench.plain_eager", "CRT")
    model = nn.Linear(2, 2)
    plain = kind(model, torch.optim.SGD(model.parameters(), 0.1), RECIPE.set, NOISE, SimpleNamespace())
    with pytest.raises(ValueError, match="restatement of CRT has no teacher"):
        _ = plain.teacher
