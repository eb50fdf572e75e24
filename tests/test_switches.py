"""Each switch of a recipe against the plain path, what is asked to switch on what is not there, and no waiting."""

import math
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_duet import with_norms
from test_methods import CHAINS, METHODS, THREAT, chain, classifier, toy
from torch import nn
from torch._subclasses import FakeTensorMode

from bench.cell import Cell
from bench.manifest import read_manifest
from bench.results.measured import Measured
from bench.results.ratios import mismatched_fields
from crt.attacks.common import frozen
from crt.lipschitz.chain import exact
from crt.models.classifier import Classifier
from crt.models.fold_batchnorm import bare_twin, fold, twin
from crt.models.frozen_chain import Chain
from crt.plugins import find
from crt.training.loop import Training, optimizer
from crt.training.method import Method
from crt.training.precision import arithmetic, prepare
from crt.training.recipe import ARITHMETIC, Recipe

ATTACKS = {"AdaAD", "MART", "RSLAD", "SAT", "SmoothAdv", "SmoothMix", "TRADES"}
"""Methods that attack in eval mode, where BatchNorm can be folded."""
TAUGHT = {"ARD", "CRT", "KD", "RRM"}
SHORT = {
    "SmoothAdv": {"m": 2, "T": 2},
    "SmoothMix": {"T": 2},
    "SAT": {"K": 2},
    "TRADES": {"K": 2, "awp": 0.01},
    "MART": {"K": 2},
    "PGD7Fast": {"K": 2},
    "FreeAT": {"m": 2},
    "MACER": {"k": 4},
    "RSLAD": {"K": 2},
    "ARD": {"K": 2},
    "AdaAD": {"K": 2},
}
SETTLED = {name: {"warmup": 0, "ramp": 0.1} for name in CHAINS}
ON = {"precision": "bf16", "compile": "default", "compute": "fastest"} | dict.fromkeys(
    ("channels_last", "fused", "fold", "cuda_graph", "teacher_stream"), True
)
"""Of each switch a value that is not its default."""
ROOT = Path(__file__).parents[1]
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
COMPILED = pytest.mark.skipif(
    platform.machine() == "x86_64" and torch.backends.cpu.get_cpu_capability() == "DEFAULT",
    reason="what torch compiles needs AVX2",
)


def recipe(**changes) -> Recipe:
    return Recipe(epochs=4, batch_size=12, lr=0.02, weight_decay=1e-3, **changes)


def moved(model: Classifier, seed: int) -> Classifier:
    """The network with statistics and scales as training leaves them."""
    draw = torch.Generator().manual_seed(seed)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.3, generator=draw)
        norm.running_var.uniform_(0.3, 2, generator=draw)
        nn.init.uniform_(norm.weight, 0.5, 1.5, generator=draw)
        nn.init.normal_(norm.bias, 0, 0.3, generator=draw)
    return model


def network(arch: str) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return moved(Classifier(*find("crt.archs", arch)(), 10, (0.5,) * 3, (0.2,) * 3), 1)


def bound(name: str, device: str = "cpu", **arguments) -> tuple[Method, Classifier]:
    """A method, with a teacher where it needs one, and a network that it can train."""
    kind, make = find("crt.methods", name), chain if name in CHAINS else classifier
    teacher = moved(make(5), 2).eval().requires_grad_(False).to(device) if kind.needs_teacher else None
    arguments = SHORT.get(name, {}) | SETTLED.get(name, {}) | arguments
    return kind(threat=THREAT, teacher=teacher, **arguments), moved(make(0), 1).to(device)


def trained(
    name: str, of: Recipe, epochs: int = 1, device: str = "cpu", dtype: torch.dtype = torch.float64
) -> tuple[dict[str, torch.Tensor], float]:
    """A network after some steps, the last of a smaller batch, and the mean loss.

    In float64, since a step can make rounding larger by any factor: the sign of a small gradient moves an attack by its
    whole step, and the gradient of a distance has length 1 however small the distance is. In float32 the results of two
    exact paths then differ by amounts that depend on the processor's instructions.
    """
    method, model = bound(name, device)
    for each in (model, method.teacher) if method.teacher else (model,):
        each.to(dtype)
    names, training = list(model.state_dict()), Training(method, model, of)
    batches = [(*toy(n), torch.arange(n)) for n in (12, 12, 6)]
    batches = [(x.to(device, dtype), y.to(device), index.to(device)) for x, y, index in batches]
    torch.manual_seed(7)
    for epoch in range(epochs):
        loss = training.epoch(batches, epoch)
    assert list(model.state_dict()) == names
    return model.state_dict(), float(loss)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("name", METHODS)
def test_exact_switches_train_the_same_network(name):
    plain, loss = trained(name, recipe())
    assert apart(plain, bound(name)[1].state_dict()) > 1e-3
    for switch in ({"channels_last": True}, {"fused": True}, {"fold": True}):
        found, other = trained(name, recipe(**switch))
        assert apart(plain, found) <= 1e-9 and other == pytest.approx(loss, rel=1e-9), switch


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", METHODS)
def test_together_they_are_exact_but_for_rounding(name, optimizer):
    of = recipe(optimizer=optimizer)
    plain, loss = trained(name, of)
    found, other = trained(name, recipe(optimizer=optimizer, channels_last=True, fused=True, fold=True))
    assert apart(plain, found) <= 1e-9 and other == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize("name", ["Standard", "SAT", "CRT"])
def test_exact_switches_train_the_same_cnn2c2f(name):
    results = []
    for of in (recipe(), recipe(channels_last=True, fused=True, fold=True)):
        model, teacher = network("cnn2c2f").double(), network("cnn2c2f").double().eval().requires_grad_(False)
        method = find("crt.methods", name)(threat=THREAT, teacher=teacher, **SHORT.get(name, {}))
        training = Training(method, model, of)
        torch.manual_seed(0)
        images = torch.rand(3, 4, 3, 32, 32, dtype=torch.float64)
        training.epoch([(x, torch.arange(4), torch.arange(4)) for x in images], 0)
        results.append(model.state_dict())
    assert apart(*results) <= 1e-9


@pytest.mark.parametrize("name", METHODS)
def test_bf16_stays_near_and_fp16_finite(name):
    # Autocast leaves float64 as it is.
    single = {"epochs": 2, "dtype": torch.float32}
    _, loss = trained(name, recipe(), **single)
    rest = {"channels_last": True, "fold": True, "fused": True}
    _, low = trained(name, recipe(precision="bf16", **rest), **single)
    # bf16 keeps 8 bits; margins and radii are differences of what it rounds.
    assert low == pytest.approx(loss, rel=0.05, abs=0.05)
    # Some methods compute by bounds alone, which are exact.
    assert low != loss or name in {"BCP", "CROWNIBP", "Duet", "LocalBCP"}
    # The first steps of fp16 may overflow, and are not taken.
    weights, low = trained(name, recipe(precision="fp16", **rest), **single)
    assert math.isfinite(low) and all(torch.isfinite(value).all() for value in weights.values())


@pytest.fixture
def nan_memory():
    """New memory holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("nan_memory")
def test_momentum_starts_at_nothing_where_the_first_step_overflows():
    of, model = recipe(precision="fp16"), nn.Linear(8, 8)
    steps, scaler, before = optimizer(model, of), torch.amp.GradScaler("cpu"), model.weight.detach().clone()
    for scale in (torch.inf, 1.0):
        steps.zero_grad()
        scaler.scale(scale * model.weight.sum()).backward()
        scaler.step(steps)
        scaler.update()
    torch.testing.assert_close(model.weight.detach(), before - of.lr * (1 + of.weight_decay * before))


def norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", sorted(ATTACKS | TAUGHT))
def test_where_batchnorm_is_folded_it_is_not_computed(name):
    calls = {}
    for switch in (False, True):
        of, (method, model) = recipe(fold=switch), bound(name)
        networks = [model, method.teacher] if method.teacher else [model]
        training = Training(method, model, of)
        calls[switch] = 0

        def count(*_, switch=switch):
            calls[switch] += 1

        for norm in (norm for each in networks for norm in norms(each)):
            norm.register_forward_hook(count)
        batches = [(*toy(12), torch.arange(12))]
        training.epoch(batches, 0)
        assert len(norms(model)) == 2 and not (switch and method.teacher and norms(method.teacher))
    steps = method.chunks
    kept = {"SmoothAdv": steps, "SmoothMix": 2 * steps, "RSLAD": 2, "ARD": 3, "TRADES": 4, "MART": 2}.get(name, 1)
    folded = {
        "SAT": 3,
        "SmoothAdv": 2 * steps,
        "SmoothMix": 2 * steps,
        "RSLAD": 3,
        "AdaAD": 5,
        "TRADES": 3,
        "MART": 2,
    }.get(name, 1)
    assert calls == {False: 2 * (kept + folded), True: 2 * kept}


@pytest.mark.parametrize(("arch", "kept"), [("resnet20", 0), ("dla", 0), ("preact_resnet18", 9)])
def test_a_twin_follows_its_model(arch, kept):
    model = network(arch).double().to(memory_format=torch.channels_last)
    before, names = len(list(model.parameters())), list(model.state_dict())
    model.twin = twin(model)
    # Where BatchNorm follows a sum of blocks, no convolution is there to fold it into.
    assert len(norms(model.twin.network)) == kept and len(norms(model)) == len(model.twin.folded) + kept
    assert len(list(model.parameters())) == before and list(model.state_dict()) == names
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    places = {p.data_ptr() for p in model.twin.network.parameters()}
    for _ in range(2):
        model.train()(torch.rand(4, 3, 32, 32, dtype=torch.float64))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
        outputs = []
        for plain in (True, False):
            leaf = x.clone().requires_grad_()
            with frozen(model) as given:
                logits = (model if plain else given)(leaf)
                assert (given is model) is False and not any(p.requires_grad for p in given.parameters())
                outputs.append((logits.detach(), *torch.autograd.grad(logits.square().sum(), leaf)))
        for one, other in zip(*outputs, strict=True):
            assert float((one - other).abs().max() / one.abs().max()) <= 1e-10
        assert model.training and all(p.grad is None and p.requires_grad for p in model.parameters())
    assert {p.data_ptr() for p in model.twin.network.parameters()} == places


@pytest.mark.parametrize("arch", ["cnn6c2f", "cnn2c2f"])
def test_a_network_without_batchnorm_is_attacked_as_a_straight_program(arch):
    torch.manual_seed(0)
    model = network(arch).double()
    x, names = torch.rand(3, 3, 32, 32, dtype=torch.float64), list(model.state_dict())
    prepare(find("crt.methods", "SAT")(threat=THREAT), model, recipe(fold=True))
    assert list(model.state_dict()) == names
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        outputs = []
        with frozen(model) as given:
            assert [len(module.steps) for module in given.modules() if isinstance(module, Chain)]
            for each in (model, given):
                leaf = x.clone().requires_grad_()
                logits = each(leaf)
                outputs.append((logits.detach(), *torch.autograd.grad(logits.square().sum(), leaf)))
        for one, other in zip(*outputs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("arch", ["cnn4c3f", "vit", "resnet20"])
def test_networks_with_nothing_to_join_have_no_bare_copy(arch):
    model = network(arch)
    if arch == "cnn4c3f":
        assert bare_twin(model)
        model.body.register_forward_hook(lambda *_: None)
    assert bare_twin(model) is None


class Positive(nn.Module):
    """A layer that asks for values, which tracing does not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if (x >= 0).all() else -x


def test_a_chain_that_cannot_be_traced_is_attacked_itself():
    body = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), Positive(), nn.Flatten())
    model = Classifier(body, 2 * 30 * 30, 10, (0.5,) * 3, (0.2,) * 3)
    prepare(find("crt.methods", "SAT")(threat=THREAT), model, recipe(fold=True))
    with frozen(model) as given:
        assert given is model


def test_a_folded_teacher_is_the_same_chain():
    weights = []
    for of in (recipe(), recipe(fold=True)):
        model, teacher = chain(0).double(), with_norms().double()
        method = find("crt.methods", "Duet")(threat=THREAT, teacher=teacher, **SETTLED["Duet"])
        training = Training(method, model, of)
        method.fits(model)
        x, y = toy(12)
        training.epoch([(x.double(), y, torch.arange(12))] * 2, 0)
        weights.append(model.state_dict())
    assert apart(*weights) <= 1e-9


def test_a_model_without_a_twin_is_attacked_itself():
    for model in (classifier(0), nn.Linear(2, 2)):
        with frozen(model) as given:
            assert given is model
    assert twin(chain(0)) is None and fold(chain(0)).gone == 0


COMPILES = """
import sys, torch
from torch import nn
from torch._dynamo.utils import counters
from crt.training.precision import compile_body
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
body, x = nn.Sequential(nn.Linear(3, 40), nn.ReLU(), nn.Hardswish()).double(), torch.randn(50, 3, dtype=torch.float64)
plain = body(x)
compile_body(body, "default")
apart = (body(x) - plain).abs().max().item()
sys.exit(f"{apart}") if not apart < 1e-12 else print(counters["inductor"]["fxgraph_cache_hit"])
"""


@COMPILED
@pytest.mark.slow
def test_code_compiled_for_other_instructions_or_threads_is_not_taken_from_the_cache(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    shared = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    settings = [(1, shared), (1, {**shared, "ATEN_CPU_CAPABILITY": "avx2"}), (2, shared), (1, shared)]
    hits = [
        int(subprocess.check_output([sys.executable, "-c", COMPILES, str(threads)], cwd=ROOT, env=given, text=True))
        for threads, given in settings
    ]
    same = torch.backends.cpu.get_cpu_capability() != "AVX512"
    assert hits == [0, int(same), 0, 1]


@COMPILED
@pytest.mark.slow
@pytest.mark.parametrize("name", ["SAT"])
def test_a_compiled_body_trains_the_same_network(name, monkeypatch):
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    monkeypatch.setitem(SHORT, "SAT", {"K": 2, "best_of": False})
    plain, _ = trained(name, recipe())
    counters = torch._dynamo.utils.counters
    torch._dynamo.reset()
    counters.clear()
    found, _ = trained(name, recipe(compile="default", fold=True))
    assert apart(plain, found) <= 1e-9
    # Of the network in training and of its twin under attack, each with the batch and with the last, smaller one.
    assert counters["stats"]["unique_graphs"] == 4 and not counters["graph_break"]


class _Breaks(nn.Module):
    def forward(self, x):
        torch._dynamo.graph_break()
        return x.mean((2, 3))


def test_a_body_that_is_no_single_graph_is_refused():
    model = Classifier(_Breaks(), 3, 3, (0.5,) * 3, (0.2,) * 3)
    prepare(find("crt.methods", "Standard")(threat=THREAT), model, recipe(compile="default"))
    with pytest.raises(torch._dynamo.exc.Unsupported):
        model(toy(2)[0])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"precision": "tf32"},
            r"recipe\.precision: 'tf32' needs a GPU that has it \(allowed here: fp32, bf16, fp16\)",
        ),
        (
            {"compile": "reduce-overhead"},
            r"recipe\.compile: 'reduce-overhead' needs a GPU \(allowed here: off, default",
        ),
    ],
)
def test_what_a_cpu_cannot_do_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        prepare(*bound("Standard"), recipe(**wrong))


def test_compilation_without_a_compiler_is_refused_before_training(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"recipe\.compile: 'default' needs a C\+\+ compiler, and 'no-such-compiler'"):
        prepare(*bound("Standard"), recipe(compile="default"))


def flags() -> tuple:
    torch_backends = torch.backends
    parts = torch_backends.cudnn.conv, torch_backends.cuda.matmul
    return *(part.fp32_precision for part in parts), torch_backends.cudnn.benchmark


@pytest.mark.parametrize(("precision", "products"), [("fp32", "ieee"), ("bf16", "ieee"), ("tf32", "tf32")])
def test_arithmetic_is_set_for_its_time_and_bounds_stay_exact(precision, products):
    before = flags()
    with pytest.raises(KeyError), arithmetic(recipe(precision=precision)):
        assert flags() == (products, products, True)
        with exact(torch.device("cpu")):
            assert flags() == ("ieee", "ieee", True)
        assert flags() == (products, products, True)
        raise KeyError
    assert flags() == before


OLDER = (
    lambda: torch.backends.cuda.matmul.allow_tf32,
    lambda: torch.get_float32_matmul_precision() != "highest",
    lambda: torch.backends.cudnn.allow_tf32,
)
"""torch's older settings, each True for TF32; a reader raises where one contradicts the newer setting."""


@pytest.mark.parametrize("precision", ["fp32", "bf16", "tf32"])
def test_the_compiler_can_read_the_older_settings(precision):
    before = [read() for read in OLDER]
    with arithmetic(recipe(precision=precision)):
        assert [read() for read in OLDER] == [precision == "tf32"] * 3
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=precision == "tf32"):
            pass
        with exact(torch.device("cpu")):
            assert [read() for read in OLDER] == [False] * 3
        assert [read() for read in OLDER] == [precision == "tf32"] * 3
    assert [read() for read in OLDER] == before


@pytest.mark.parametrize("name", METHODS)
def test_no_step_asks_the_device_for_a_number(name):
    of = recipe()
    with FakeTensorMode():
        method, model = _fake(name)
        batches = [(torch.rand(n, 3, 8, 8), torch.zeros(n, dtype=torch.long), torch.arange(n)) for n in (12, 12, 6)]
        Training(method, model, of).epoch(batches, 100)


def _fake(name: str) -> tuple[Method, Classifier]:
    kind, make = find("crt.methods", name), chain if name in CHAINS else classifier
    teacher = make(5).eval().requires_grad_(False) if kind.needs_teacher else None
    return kind(threat=THREAT, teacher=teacher, **SHORT.get(name, {}) | SETTLED.get(name, {})), make(0)


@pytest.mark.parametrize(
    "asks",
    [
        lambda loss, x: loss * loss.detach().item(),
        lambda loss, x: loss if loss > 0 else -loss,
        lambda loss, x: loss + x[x > 0.5].mean(),
    ],
)
def test_a_step_that_asks_is_found(asks):
    class Asks(find("crt.methods", "Standard")):
        def loss(self, model, x, y, step):
            return asks(super().loss(model, x, y, step), x)

    with FakeTensorMode(), pytest.raises(Exception, match=r"local_scalar|nonzero"):
        method, model = Asks(threat=THREAT), classifier(0)
        batches = [(torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.long), torch.arange(4))]
        Training(method, model, recipe()).epoch(batches, 0)


@GPU
@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
def test_no_step_waits_for_the_gpu(name):
    of = recipe(precision="fp16", channels_last=True, fold=True, fused=True)
    method, model = bound(name, "cuda")
    training = Training(method, model, of)
    batches = [tuple(part.cuda() for part in (*toy(12), torch.arange(12)))] * 2
    # First steps set up what methods remember.
    training.epoch(batches, 0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.epoch(batches, 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@GPU
@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
def test_tf32_stays_near_on_a_gpu(name):
    exact, low = (
        trained(name, recipe(precision=precision), device="cuda", dtype=torch.float32)[1]
        for precision in ("fp32", "tf32")
    )
    assert low == pytest.approx(exact, rel=0.02, abs=0.02)


@pytest.fixture
def cell(tiny) -> Cell:
    return tiny(compute="plain").cells[0]


def test_switches_are_part_of_a_cell_and_their_defaults_are_not(cell):
    of, kinds = cell.recipe, {cell.id}
    assert set(ON) == set(ARITHMETIC)
    for key, value in ON.items():
        written = Recipe(**of.model_dump(exclude_defaults=True), **{key: type(of).model_fields[key].default})
        assert cell.model_copy(update={"recipe": written}).id == cell.id
        kinds.add(cell.model_copy(update={"recipe": of.model_copy(update={key: value})}).id)
    assert len(kinds) == 1 + len(ON)


@pytest.mark.parametrize("key", ARITHMETIC)
def test_times_of_unlike_switches_are_not_compared(cell, key):
    other = cell.model_copy(update={"recipe": cell.recipe.model_copy(update={key: ON[key]})})
    one, two = (Measured(each, Path()) for each in (cell, other))
    assert mismatched_fields(one, one) == ()
    with pytest.raises(ValueError, match=f"differ in {key}: .*--allow {key}"):
        mismatched_fields(one, two)
    assert mismatched_fields(one, two, [key]) == (key,)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("compile: fast", r"cells\[0\]\.recipe\.compile: 'fast': .*False, 'default' or 'reduce-overhead'"),
        ("compile: on", r"cells\[0\]\.recipe\.compile: True: "),
        ("precision: fp8", r"cells\[0\]\.recipe\.precision: 'fp8': .*'tf32'"),
        ("fold: 2", r"cells\[0\]\.recipe\.fold: 2: "),
    ],
)
def test_switches_in_a_manifest(tmp_path, written, said):
    text = """
title: t
dataset: digits
threat: {sigma: 0.25}
cells: [{method: Standard, arch: cnn2c2f, recipe: {epochs: 1, batch_size: 8, lr: 0.1, WRITTEN}}]
"""
    file = tmp_path / "m.yaml"
    file.write_text(text.replace("WRITTEN", written))
    with pytest.raises(ValueError, match=said):
        read_manifest(file)
    file.write_text(text.replace("WRITTEN", "compile: off, fold: true, channels_last: yes"))
    (found,) = read_manifest(file).cells
    assert (found.recipe.compile, found.recipe.fold, found.recipe.channels_last) == (False, True, True)
