"""Two gloo ranks train what one process trains."""

import gc
import json
import os
from pathlib import Path

import torch
import torch.multiprocessing as mp

from crt import distributed
from crt.archs.convnet import cnn2c2f
from crt.data import DATASETS
from crt.data.loader import loader
from crt.methods import gradalign, nfgsm
from crt.models.classifier import Classifier
from crt.plugins import find, plugins
from crt.threat import Threat
from crt.training.loop import Training
from crt.training.recipe import Recipe

RECIPE = Recipe(epochs=1, batch_size=64, lr=0.05, weight_decay=1e-4)
STEPS = {"Standard": 20}
L2 = Threat(eps=0.1)
CHAINS = ("LMT", "BCP", "GloRo", "LocalBCP", "Duet", "EMMA", "CROWNIBP", "IBP")
ATTACKED = ("MTLIBP", "CCIBP", "ExpIBP", "SABR")
ARGUMENTS = {
    "SmoothAdv": {"m": 2, "T": 2},
    "MACER": {"k": 2},
    "SmoothMix": {"eta": 0},
    "SAT": {"K": 2},
    "PGD7Fast": {"K": 2},
    "MART": {"threat": L2, "K": 2},
    "TRADES": {"threat": L2, "K": 2},
    "GradAlign": {"threat": L2},
    "NFGSM": {"threat": L2},
    "FGSMRS": {"threat": L2, "init": "zero"},
    "FreeAT": {"threat": L2, "m": 2, "reset": True},
    "RRM": {"lbd": 1},
    "KD": {"alpha": 0.5},
    "ARD": {"K": 2},
    "AdaAD": {"K": 2},
    "RSLAD": {"K": 2},
    **{name: {"threat": L2, "warmup": 0, "ramp": 0.1} for name in CHAINS},
    # A tiny attack: its random start differs between ranks.
    **{name: {"threat": L2, "warmup": 0, "ramp": 0.1, "widening": 1e-12} for name in ATTACKED},
}
"""Small, and without what each rank draws or carries over for itself."""
CASES = {name: (name, ARGUMENTS.get(name, {})) for name in plugins("crt.methods")} | {
    f"{name} with AWP": (name, ARGUMENTS[name] | {"awp": 0.05}) for name in ("SAT", "TRADES")
}


def run(function, world: int, *args) -> None:
    """`function(rank, *args)` on so many ranks, which meet where this process listens: at any port that is free."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    mp.spawn(_join, args=(world, store.port, function, args), nprocs=world)


def _join(rank: int, world: int, port: int, function, args: tuple) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # as under torchrun: no rank listens itself
    torch.set_num_threads(1)
    function(rank, *args)


def train(rank: int, data: Path, out: Path) -> None:
    world = distributed.world_size()
    draw_from_images()
    with distributed.process_group():
        for case, (name, arguments) in CASES.items():
            kind, model = find("crt.methods", name), network()
            method = kind(**({"threat": Threat()} | arguments))
            method.teacher = network(1).eval().requires_grad_(False) if kind.needs_teacher else None
            batches = loader(
                "torch", DATASETS["digits"], "train", data=data, pipeline="plain", batch_size=64 // world,
                device=torch.device("cpu"), seed=0, images=64 * STEPS.get(name, 3), rank=rank, world=world,
            )  # fmt: skip
            # In float64: where a student is near its teacher, gradients of length 1 come of rounding.
            doubled = [(x.double(), y, index) for x, y, index in batches]
            Training(method, model, RECIPE).epoch(doubled, 0)
            torch.save(model.state_dict(), out / f"{case}-{world}-{rank}.pt")


def draw_from_images() -> None:
    """Let attacks draw their noise from the image, so that it is the same on one rank and on two."""
    torch.randn_like = lambda x: torch.cos(1e4 * x)
    for module in (gradalign, nfgsm):
        module.start = lambda x, eps, norm: (x + eps * torch.cos(1e4 * x)).clamp(0, 1)


def network(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    dataset = DATASETS["digits"]
    return Classifier(*cnn2c2f(), 10, dataset.mean, dataset.std).double()


def test_two_ranks_equal_one_process_and_each_other(digits, tmp_path):
    run(train, 1, digits, tmp_path)
    run(train, 2, digits, tmp_path)
    start = network().state_dict()
    for method in CASES:
        one, first, second = (torch.load(tmp_path / f"{method}-{name}.pt") for name in ("1-0", "2-0", "2-1"))
        assert max((one[name] - value).abs().max() for name, value in start.items()) > 1e-4, method
        for name in one:
            assert torch.equal(first[name], second[name]), (method, name)
            assert (one[name] - first[name]).abs().max() <= 1e-9, (method, name)


def _leave(rank: int, out: Path) -> None:
    with distributed.process_group():
        method = plugins("crt.methods")["Standard"](threat=Threat())
        training = Training(method, network(), RECIPE)
        batch = torch.rand(8, 3, 32, 32).double(), torch.arange(8), torch.arange(8)
        training.epoch([batch], 0)
    del training, method
    gc.collect()
    names = [Path(thread, "comm").read_text().strip() for thread in Path("/proc/self/task").iterdir()]
    Path(out, str(rank)).write_text(json.dumps(names))


def test_no_thread_of_a_group_lives_until_python_exits(tmp_path):
    """A thread of gloo that frees an object while Python exits aborts the process, whose work is done."""
    run(_leave, 2, tmp_path)
    for rank in range(2):
        assert not [name for name in json.loads((tmp_path / f"{rank}").read_text()) if "gloo" in name]


def test_slowest_and_mean_over_ranks(tmp_path):
    run(_reduce, 2, tmp_path)
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text() == "2.5 1.5"


def _reduce(rank: int, out: Path) -> None:
    with distributed.process_group():
        (out / str(rank)).write_text(f"{distributed.slowest(rank + 1.5)} {distributed.mean(torch.tensor(rank + 1.0))}")
