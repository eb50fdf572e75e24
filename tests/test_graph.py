"""Steps that are recorded and repeated, against the same steps done anew each time.

Without a GPU a trace of their operations stands for the graph. It holds what a graph holds, the numbers that Python had
and the tensors that it met, and does nothing else when it is repeated.
"""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import field
from types import SimpleNamespace

import pytest
import torch
from pydantic.dataclasses import dataclass
from test_methods import CHAINS, METHODS, THREAT, classifier, toy
from test_switches import GPU, apart, bound
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from crt.methods.standard import Standard
from crt.models.classifier import Classifier
from crt.training import cuda_graph, loop, precision
from crt.training.loop import Training
from crt.training.method import STRICT, Method
from crt.training.recipe import Recipe

CLOCKED = {name: {"warmup": 1.0, "ramp": 4.0} for name in CHAINS} | {
    "SmoothAdv": {"warmup": 5},
    "SmoothMix": {"warmup": 5, "mix_step": 1},
    "FGSMRS": {"init": "previous"},
    "RRM": {"replays": 2},
    "TRADES": {"awp": 0.01},
    "LocalBCP": {"warmup": 1.0, "ramp": 4.0, "stored": 12},
}
"""Arguments by which something changes in each epoch, or is remembered."""
FULL, EPOCHS = 3, 3
"""Full batches of an epoch, before a smaller one."""


class Traced:
    """Records on a CPU, where tracing does the work once; that is undone."""

    changed: Callable[[], list[Tensor]]

    def __init__(self, device: torch.device):
        self.records = 0

    def eager(self, work: Callable[[], Tensor]) -> Tensor:
        return work()

    def record(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.records += 1
        draws, tensors = torch.get_rng_state(), self.changed()
        before = [tensor.detach().clone() for tensor in tensors]
        again = make_fx(work, _error_on_data_dependent_ops=True)()
        with torch.no_grad():
            for tensor, was in zip(tensors, before, strict=True):
                tensor.copy_(was)
        torch.set_rng_state(draws)
        return torch.no_grad()(again)  # gradients are among the operations


def held(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from held(each)


@pytest.fixture
def traced(monkeypatch):
    monkeypatch.setattr(loop, "Recorder", Traced)
    monkeypatch.setattr(precision, "check", lambda *_: None)


def recipe(**changes) -> Recipe:
    return Recipe(epochs=EPOCHS, batch_size=12, lr=0.05, schedule="cosine", weight_decay=1e-3, **changes)


def trained(method: Method, model: Classifier, of: Recipe, device: str = "cpu") -> tuple[dict, list[float], object]:
    """The network after some epochs, their mean losses, and what did its steps."""
    for each in (model, method.teacher) if method.teacher else (model,):
        each.double()
    training = Training(method, model, of)
    if isinstance(training.update, cuda_graph.Graphs):
        training.update.recorder.changed = lambda: [
            *model.state_dict().values(),
            *held(dict(training.optimizer.state)),
            *held(vars(method)),
        ]
    batches = []
    for seed, n in enumerate((12,) * FULL + (6,)):
        x, y = toy(n)
        mixed = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        batches.append((x[mixed].double().to(device), y[mixed].to(device), mixed.to(device)))
    torch.manual_seed(7)
    losses = [float(training.epoch(batches, epoch)) for epoch in range(EPOCHS)]
    return model.state_dict(), losses, training.update


@pytest.mark.parametrize(
    ("name", "optimizer"), [(name, "sgd") for name in METHODS] + [("Standard", "adam"), ("FreeAT", "adam")]
)
def test_recorded_steps_train_the_same_network(traced, name, optimizer):
    plain, losses, _ = trained(*bound(name, **CLOCKED.get(name, {})), recipe(optimizer=optimizer, fused=True))
    of = recipe(optimizer=optimizer, cuda_graph=True)
    method, model = bound(name, **CLOCKED.get(name, {}))
    found, others, steps = trained(method, model, of)
    # Step sizes and epochs are float32 there, right to 6e-8 of themselves; all else is float64 on either side.
    assert apart(plain, found) <= 1e-5 and others == pytest.approx(losses, rel=1e-5)
    stages = 2 if name in CHAINS else 1
    assert steps.recorder.records == len(steps.recorded) == stages * method.replays
    assert apart(plain, bound(name)[1].double().state_dict()) > 1e-3


@dataclass(kw_only=True, config=STRICT)
class Ramp(Standard):
    """Takes an amount from where it is only said for decisions."""

    def loss(self, model, x, y, step):
        return (1 + step.epoch) * super().loss(model, x, y, step)


@dataclass(kw_only=True, config=STRICT)
class Forgetful(Standard):
    """Remembers in another tensor each time."""

    mean: Tensor | None = field(default=None, init=False, repr=False)

    def loss(self, model, x, y, step):
        self.mean = x.mean(0) if self.mean is None else self.mean / 2 + x.mean(0)
        return super().loss(model, x + self.mean, y, step)


@pytest.mark.parametrize("kind", [Ramp, Forgetful])
def test_what_cannot_be_recorded_is_found(traced, kind):
    plain, *_ = trained(kind(threat=THREAT), classifier(0), recipe(fused=True))
    found, *_ = trained(kind(threat=THREAT), classifier(0), recipe(cuda_graph=True))
    assert apart(plain, found) > 1e-4


def test_a_step_that_asks_cannot_be_recorded(traced):
    class Asks(Standard):
        def loss(self, model, x, y, step):
            loss = super().loss(model, x, y, step)
            return loss * loss.item()

    with pytest.raises(RuntimeError, match=r"It appears that you.re trying to get value out of a tracing tensor"):
        trained(Asks(threat=THREAT), classifier(0), recipe(cuda_graph=True))


def test_nothing_is_collected_while_a_step_is_recorded(monkeypatch):
    stubs = {
        "Stream": lambda _: None,
        "graph_pool_handle": lambda: None,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
        "graph": lambda *_, **__: nullcontext(),
    }
    for name, stub in stubs.items():
        monkeypatch.setattr(torch.cuda, name, stub)
    recorder, dead = cuda_graph.Recorder(torch.device("cuda")), [torch.zeros(1)]
    dead.append(dead)
    gone = weakref.ref(dead[0])
    del dead
    assert recorder.record(lambda: (gc.isenabled(), gone()))() == (False, None) and gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        recorder.record(lambda: 1 / 0)
    assert gc.isenabled()


@GPU
@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
def test_graphs_train_the_same_network(name):
    arguments = CLOCKED.get(name, {})
    plain, losses, _ = trained(*bound(name, "cuda", **arguments), recipe(fused=True), "cuda")
    method, model = bound(name, "cuda", **arguments)
    found, others, steps = trained(method, model, recipe(cuda_graph=True, teacher_stream=True), "cuda")
    assert apart(plain, found) <= 1e-5 and others == pytest.approx(losses, rel=1e-5)
    assert len(steps.recorded) == (2 if name in CHAINS else 1) * method.replays


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"precision": "fp16"}, "cuda_graph: true cannot record precision: fp16"),
        ({"compile": "reduce-overhead"}, "cuda_graph: true cannot record compile: reduce-overhead"),
        ({"schedule": "cyclic", "cycle_momentum": True}, "cuda_graph: true cannot record cycle_momentum: true"),
    ],
)
def test_a_recipe_that_cannot_be_recorded(written, said):
    with pytest.raises(ValueError, match=said):
        Recipe(epochs=1, batch_size=8, lr=0.1, cuda_graph=True, **written)


@pytest.mark.parametrize("key", ["cuda_graph", "teacher_stream"])
def test_they_need_a_gpu(key):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match=rf"recipe\.{key}: true needs a GPU \(allowed here: false\)"):
        Training(Standard(threat=THREAT), classifier(0), recipe(**{key: True}))


def test_one_rank_alone_is_recorded(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"recipe\.cuda_graph: true on 2 ranks \(allowed: on one"):
        precision.check(recipe(cuda_graph=True), torch.device("cuda"))
