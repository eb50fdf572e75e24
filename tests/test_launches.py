"""Launches of a training step: the rule, what saves launches, and what CUDA graphs and compilation cover."""

import functools
import math

import pytest
import torch
from stand_in_gpu import gpu
from test_methods import METHODS, toy
from test_switches import GPU, bound
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

from bench import speed
from bench.build.launches import chunks, count_bodies, count_launches, count_recorded
from bench.cell import Cell, Spec
from crt.archs.resnet import resnet20
from crt.lipschitz import lines
from crt.lipschitz.affine import Affine
from crt.lipschitz.balls import balls
from crt.lipschitz.boxes import Region
from crt.lipschitz.chain import Layer
from crt.lipschitz.local import Part, iterated, local_product
from crt.lipschitz.translation import over_both
from crt.models.batch_counters import BatchCounters
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import twin
from crt.models.frozen_chain import Chain, fastest_kernel, straight
from crt.plugins import find
from crt.threat import Threat
from crt.training import precision
from crt.training.loop import Training
from crt.training.recipe import Recipe

LAYERWISE = {"BCP", "LocalBCP", "Duet", "CROWNIBP"}
"""Methods that pass layer by layer through networks, whose bodies they never call in a step with bounds."""


def cell(name: str, arch: str = "cnn2c2f", **recipe) -> Cell:
    needs = find("crt.methods", name).needs_teacher
    values = {
        "dataset": "digits", "pipeline": "plain", "loader": "torch", "arch": arch, "seed": 0,
        "method": Spec(name=name, label=name, id=name), "threat": Threat(norm="l2", eps=0.25, sigma=0.25),
        "recipe": Recipe(epochs=2, batch_size=2, lr=0.1, **recipe),
    }  # fmt: skip
    return Cell(**values, teacher=cell("Standard", arch) if needs else None)


@pytest.mark.parametrize(
    ("sizes", "lists", "expected"),
    [
        ([], 1, 0),
        ([10] * 110, 1, 1),
        ([10] * 111, 1, 2),
        ([10] * 111, 2, 2),
        ([10] * 129, 2, 3),
        ([65536 * 320], 1, 1),
        ([65536 * 320 + 1], 1, 2),
        ([65536 * 319, 65537, 1], 1, 2),
        ([0, 0], 1, 0),
    ],
)
def test_lists_of_tensors_are_launched_in_chunks(sizes, lists, expected):
    assert chunks(sizes, lists) == expected


def test_a_standard_step_launches_its_operations():
    found = count_launches(cell("Standard"))
    # 4 layers, 3 ReLUs, normalization by a subtraction and a division, log-softmax and its loss, and the tensor of ones
    # with which the way back begins.
    assert found["forward"] == 4 + 3 + 2 + 2 + 1
    assert found["attack"] == 0
    # One for each convolution, two products and a sum for each linear layer, 3 ReLUs, and the loss and log-softmax.
    assert found["backward"] == 2 + 2 * 3 + 3 + 2
    assert found["update"] == 3  # a product and two sums over lists
    assert count_launches(cell("Standard", fused=True))["update"] == 1


@pytest.mark.parametrize("name", METHODS)
def test_each_method_is_recorded_as_one_graph(name):
    # Beside the graph: copies of images, labels and indices, the epoch and the step size, and of the loss.
    assert count_recorded(cell(name)) <= 1 + 3 + 2 + 2


def test_a_step_that_asks_is_not_recorded(monkeypatch):
    loss = find("crt.methods", "Standard").loss
    monkeypatch.setattr(
        find("crt.methods", "Standard"), "loss", lambda *given: loss(*given) * float(loss(*given).detach())
    )
    assert count_recorded(cell("Standard")) is None


@pytest.mark.parametrize("name", METHODS)
def test_each_method_that_calls_bodies_compiles_each_as_one_graph(name, monkeypatch):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    def compile_body(body: nn.Module, _: str) -> None:
        body._compiled_call_impl = torch.compile(
            functools.partial(type(body).forward, body), backend=backend, fullgraph=True
        )

    monkeypatch.setattr(precision, "compile_body", compile_body)
    monkeypatch.setattr(precision, "check", lambda *_: None)
    torch._dynamo.reset()
    method, model = bound(name)
    training = Training(method, model, Recipe(epochs=1000, batch_size=4, lr=0.1, compile="default"))
    n = 2 * method.chunks
    x, y = torch.rand(n, *toy(1)[0].shape[1:]), torch.zeros(n, dtype=torch.long)
    training.epoch([(x, y, y)], math.ceil(method.steady_from_epoch))
    calls = count_bodies(cell(name))
    assert (calls > 0) == (name not in LAYERWISE)
    # Compiled code has no second derivatives.
    assert (len(graphs) > 0) == (calls > 0 and name != "GradAlign")


def test_bounds_are_counted_with_all_images_at_once(monkeypatch):
    counts = []
    for in_cache in (lines.IN_CACHE, 1):  # a CPU takes both images at once, or one by one
        monkeypatch.setattr(lines, "IN_CACHE", in_cache)
        counts.append(count_launches(cell("CROWNIBP")))
        assert in_cache == lines.IN_CACHE
    assert counts[0] == counts[1]


def test_counters_of_batches_rise_as_if_each_counted():
    torch.manual_seed(0)
    model = Classifier(*resnet20(), 10, (0.5,) * 3, (0.25,) * 3).train()
    counters, x = BatchCounters(model), torch.rand(2, 3, 32, 32)
    with counters.together():
        model(x)
        model(x)
        model.eval()(x)
    model.train()(x)
    found = {k: int(v) for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    assert len(found) == 21 and set(found.values()) == {3}


def attacked(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_()
    logits = network(x)
    loss = F.cross_entropy(logits, torch.zeros(len(x), dtype=torch.long, device=x.device), reduction="sum")
    return logits, torch.autograd.grad(loss, x)[0]


def folded(device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """A network without BatchNorm, and the same as straight programs."""
    torch.manual_seed(0)
    model = Classifier(*resnet20(), 10, (0.5,) * 3, (0.25,) * 3).to(device, dtype)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    plain, other = twin(model.eval()), twin(model)
    other.network.body = straight(other.network.body, device)
    return plain.now(), other.now()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_straight_program_is_the_network(dtype):
    plain, program = folded(dtype=dtype)
    x = torch.rand(4, 3, 32, 32, dtype=dtype)
    for found, expected in zip(attacked(program, x), attacked(plain, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4 if dtype == torch.float32 else 1e-12, atol=1e-6)
    (chain,) = (module for module in program.modules() if isinstance(module, Chain))
    assert len(chain.steps) == 21 and sum(step.relu for step in chain.steps) == 19


def test_kernels_that_fail_or_differ_are_not_used(monkeypatch):
    with gpu(), precision.products("fp32", trial=False):
        device, dtype = torch.device("cuda"), torch.float32
        assert fastest_kernel(device, dtype) == "cuda"
        known = torch.cudnn_convolution_add_relu
        for wrong in (lambda *given: known(*given) + 0.01, lambda *given: torch.linalg.cholesky(torch.zeros(2, 2))):
            monkeypatch.setattr(torch, "cudnn_convolution_add_relu", wrong)
            assert fastest_kernel(device, dtype) == "cpu"
    assert fastest_kernel(torch.device("cpu"), dtype) == "cpu"


@GPU
@pytest.mark.gpu
def test_a_straight_program_with_cudnns_kernels_is_the_network():
    plain, program = folded("cuda")
    x = torch.rand(4, 3, 32, 32, device="cuda")
    with precision.products("fp32", trial=False):
        for found, expected in zip(attacked(program, x), attacked(plain, x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("images", [(), (2,)])
@pytest.mark.parametrize("module", [nn.Conv2d(2, 3, 3, 2, 1), nn.Linear(4, 3), nn.Linear(4, 3, bias=False)])
def test_a_layer_on_a_ball_and_a_box_has_its_gradients(module, images):
    torch.manual_seed(0)
    module = module.double()
    mu = torch.rand((2, 2, 4, 4) if isinstance(module, nn.Conv2d) else (2, 4), dtype=torch.double)
    points = torch.cat([mu - torch.rand_like(mu), mu, mu + torch.rand_like(mu)]).requires_grad_()
    halves = (module.weight.detach().abs() / 2).requires_grad_()
    reach = torch.rand((2, *images, 3), dtype=torch.double) * torch.tensor([-1.0, 1.0]).view(2, *[1] * len(images), 1)
    scale = torch.linspace(-1, 1, 5, dtype=torch.double)
    given = (points, module.weight, module.bias, halves, reach.requires_grad_(), scale, module)
    assert torch.autograd.gradcheck(Affine.apply, given)


@pytest.mark.parametrize("images", [(), (2,)])
def test_balls_of_all_layers_have_their_gradients(images):
    torch.manual_seed(0)
    layers = tuple(
        Layer(name, module.double(), ())
        for name, module in (
            ("a", nn.Conv2d(2, 3, 3)),
            ("b", nn.ReLU()),
            ("c", nn.Linear(4, 5)),
            ("d", nn.Linear(5, 2)),
        )
    )
    rho, norms = torch.rand(images, dtype=torch.double), torch.rand(3, dtype=torch.double, requires_grad=True)
    # A radius behind a layer whose norm is zero still depends on this norm.
    norms.data[1] = 0
    weights = [layer.affine.weight for layer in layers if layer.name != "b"]

    def found(*_):
        of = balls(layers, rho, dict(zip("acd", norms, strict=True)))
        return torch.cat([part.flatten() for name in "acd" for part in of[name][:4]])

    assert torch.autograd.gradcheck(found, (norms, *weights), check_undefined_grad=False)
    of, radius, length = (
        balls(layers, rho, dict(zip("acd", norms, strict=True))),
        rho * norms[0],
        weights[1].norm(dim=1),
    )
    torch.testing.assert_close(of["a"].rho, radius)
    torch.testing.assert_close(of["c"].reach, torch.stack([-radius[..., None] * length, radius[..., None] * length]))
    torch.testing.assert_close(of["c"].halves, weights[1].abs() / 2)


def test_products_of_local_norms_have_their_gradients():
    torch.manual_seed(0)
    conv, linear = (layer.double() for layer in (nn.Conv2d(2, 3, 3, 2, 1), nn.Linear(4, 5)))
    mask = torch.bernoulli(torch.full((3, 2, 4, 4), 0.7)).double()
    # Nothing varies behind the last image's second layer.
    behind = torch.tensor([[1.0, 1, 0, 1, 1], [1, 0, 1, 1, 1], [0, 0, 0, 0, 0]]).double()
    varying = (
        Part(Layer("a", conv, (2, 4, 4)), mask, None),
        Part(Layer("b", linear, (4,)), torch.ones(3, 4).double(), behind),
    )
    vectors = iterated(varying, [torch.randn(3, 2, 4, 4).double(), torch.randn(3, 4).double()], 3)

    def found(*_):
        return local_product(varying, vectors)

    assert torch.autograd.gradcheck(lambda a, b: found()[:2], (conv.weight, linear.weight))
    g = torch.autograd.grad(found()[2], (conv.weight, linear.weight))
    assert found()[2] == 0 and all((part == 0).all() for part in g)


@pytest.mark.parametrize("rounds", [0, 1, 2])
@pytest.mark.parametrize("rho", [torch.tensor(0.9), torch.tensor([0.6, 1.2, 0.0])])
def test_translations_have_their_gradients(rho, rounds):
    torch.manual_seed(0)
    mu, y = torch.rand(3, 6, dtype=torch.double), torch.tensor([0, 3, 0])
    points = torch.cat([mu - torch.rand_like(mu), mu, mu + torch.rand_like(mu)]).requires_grad_()
    weight, rho = torch.randn(4, 6, dtype=torch.double, requires_grad=True), rho.double().requires_grad_()

    def found(weight, points, rho):
        return over_both(weight, y, Region(points, rho), rounds)[:2]

    assert torch.autograd.gradcheck(found, (weight, points, rho))


def test_the_command_prints_and_writes_its_table(tmp_path):
    (tmp_path / "m.yaml").write_text(
        "dataset: digits\nloader: torch\narch: cnn2c2f\nthreat: {eps: 0.1}\nbaseline: Standard\ntiming: {runs: 1}\n"
        "recipe: [&plain {epochs: 1, batch_size: 8, lr: 0.1, compute: plain}, {<<: *plain, fused: true}]\n"
        "cells: [{method: [Standard, SAT]}]\n"
    )
    page = tmp_path / "page.md"
    result = CliRunner().invoke(speed.app, [str(tmp_path / "m.yaml"), "--count", "--page", str(page)])
    assert result.exit_code == 0 and "Launches of a training step" in result.output
    assert "| cnn2c2f | Standard | fused | 26 |" in page.read_text()
    assert page.with_suffix(".csv").read_text().startswith("network,method,settings,launches")
    assert CliRunner().invoke(speed.app, ["--page", str(page)]).exit_code == 2
