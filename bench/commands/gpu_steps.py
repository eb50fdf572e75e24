"""Steps of `bench.gpu_check`, each in a process of its own: `python -m bench.commands.gpu_steps STEP`."""

import hashlib
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from bench.command import application, report_errors
from bench.jobs.evaluate import image
from bench.measure.bare_loop import bare_certify
from bench.measure.gpu_telemetry import Watch, facts
from bench.measure.provenance import provenance
from bench.measure.timer import Timer
from crt.archs.convnet import cnn2c2f
from crt.archs.resnet import resnet20
from crt.data import DATASETS
from crt.data.beton_file import Beton, ensure
from crt.evals.base import judge_each
from crt.evals.smoothing import Smoothing
from crt.models.classifier import Classifier
from crt.plugins import find, modules
from crt.threat import Threat
from crt.training.loop import Training
from crt.training.method import Method
from crt.training.precision import products
from crt.training.recipe import Recipe

THREAT = Threat(norm="l2", eps=0.25, sigma=0.25)
Arch = Callable[[], tuple[nn.Module, int]]
ARCHS: tuple[Arch, ...] = (resnet20, cnn2c2f)
SETTINGS: dict[str, dict] = {
    **{precision: {"precision": precision} for precision in ("fp32", "tf32", "bf16")},
    "compile": {"compile": "default"},
    "cuda_graph": {"cuda_graph": True},
}
BOUNDS = {"fp32": 0.01, "compile": 0.01, "cuda_graph": 1e-4}
"""Largest difference of a loss, relative to the larger of 1 and the loss; others round inputs to 8 or 11 bits."""
IMAGES = 16
"""Batch size."""
RECORDED = 4
"""Steps with CUDA graphs, of which the last two are a recording and a repetition."""
_DRAWS = ((torch, "randn"), (torch, "randn_like"), (torch, "rand"), (Tensor, "normal_"), (Tensor, "uniform_"))

app = application()
Rehearse = Annotated[bool, typer.Option("--rehearse", help="On the CPU, reduced.")]


@app.command()
def versions(rehearse: Rehearse = False) -> None:
    """Print the software, the source and the hardware, the same lines at each call."""
    at, root, digest = provenance(), Path(__file__).parents[2], hashlib.sha256()
    for folder in ("bench", "crt", "launchers", "reports", "tests", "manifests"):
        for file in sorted((root / folder).rglob("*.[py]*")):
            if file.suffix in (".py", ".yaml"):
                digest.update(file.read_bytes())
    print(f"source {digest.hexdigest()[:16]}, commit {at.commit}")
    print(f"Python {platform.python_version()}, torch {at.torch}, CUDA {at.cuda}")
    print(f"torchvision {at.torchvision}, FFCV {at.ffcv}")
    print(f"{at.device}, driver {at.driver}, {at.watts} W, {at.max_sm} MHz, memory {at.max_memory} MHz")
    print(f"{at.cpu}, {at.cpus} cores")
    if not rehearse and not torch.cuda.is_available():
        raise SystemExit("no GPU is found (on a machine without one: --rehearse)")


@app.command()
def first(setting: str, rehearse: Rehearse = False) -> None:
    """Print the loss of the first step of every method in a setting on this device beside the CPU's loss."""
    device, failed = _device(rehearse), 0
    for name in modules("crt.methods"):
        try:
            expected, found = _losses(name, setting, device)
        except Exception as error:  # one method must not keep the others from being tried
            failed += 1
            print(f"{name:12} {type(error).__name__}: {str(error).splitlines()[0]}")
            continue
        near = math.isfinite(found) and abs(found - expected) <= BOUNDS.get(setting, 0.1) * max(1, abs(expected))
        failed += not near
        print(f"{name:12} {found:.6f}, expected {expected:.6f}{'' if near else '  DIFFERS'}")
    raise SystemExit(min(failed, 1))


def _losses(name: str, setting: str, device: torch.device) -> tuple[float, float]:
    """The expected loss and that of this device: with CUDA graphs against the same steps there without them."""
    if setting == "cuda_graph":
        return _loss(name, {"fused": True}, device, RECORDED), _loss(name, SETTINGS[setting], device, RECORDED)
    # The compiler needs seconds for each layer.
    archs = (cnn2c2f,) if setting == "compile" else ARCHS
    with _drawn_on_the_cpu():
        expected = _loss(name, {}, torch.device("cpu"), 1, archs)
        return expected, _loss(name, SETTINGS[setting], device, 1, archs)


def _loss(name: str, switches: dict, device: torch.device, steps: int, archs: Sequence[Arch] = ARCHS) -> float:
    method, model = _bound(name, device, archs)
    training = Training(method, model, Recipe(epochs=1000, batch_size=IMAGES, lr=0.01, **switches))
    torch.manual_seed(1)
    x = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    y = torch.arange(IMAGES) % 10
    batch = (x.to(device), y.to(device), torch.arange(IMAGES, device=device))
    batches = [batch] * math.ceil(steps / (method.chunks * method.replays))
    return training.epoch(batches, math.ceil(method.steady_from_epoch)).item()


def _bound(name: str, device: torch.device, archs: Sequence[Arch] = ARCHS) -> tuple[Method, Classifier]:
    """The method and the first network that it can train; some methods train chains of layers alone."""
    kind = find("crt.methods", name)
    for arch in archs:
        torch.manual_seed(0)
        model, teacher = (Classifier(*arch(), 10, (0.5,) * 3, (0.25,) * 3) for _ in range(2))
        teacher = teacher.eval().requires_grad_(False).to(device)
        method = kind(threat=THREAT, teacher=teacher if kind.needs_teacher else None)
        try:
            method.fits(model)
        except ValueError:
            continue
        return method, model.to(device)
    raise ValueError(f"{name} trains neither resnet20 nor cnn2c2f")


@contextmanager
def _drawn_on_the_cpu() -> Iterator[None]:
    """Context in which random numbers are the CPU's on every device, so that losses can be compared."""
    kept = [(owner, name, getattr(owner, name)) for owner, name in _DRAWS]

    def fresh(draw: Callable) -> Callable:
        def drawn(*args, device=None, **kwargs):
            places = [a.device for a in args if isinstance(a, Tensor)]
            args = tuple(a.cpu() if isinstance(a, Tensor) else a for a in args)
            return draw(*args, **kwargs).to(device or (places or ["cpu"])[0])

        return drawn

    def in_place(draw: Callable) -> Callable:
        def drawn(tensor, *args, **kwargs):
            return tensor.copy_(draw(torch.empty_like(tensor, device="cpu"), *args, **kwargs))

        return drawn

    try:
        for owner, name, draw in kept:
            setattr(owner, name, in_place(draw) if owner is Tensor else fresh(draw))
        yield
    finally:
        for owner, name, draw in kept:
            setattr(owner, name, draw)


@app.command()
def rank(rehearse: Rehearse = False) -> None:
    """Train a step as the only rank, over NCCL or, on the CPU, gloo."""
    import torch.distributed as dist

    device, backend = _device(rehearse), "gloo" if rehearse else "nccl"
    store = dist.HashStore()
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    method, model = _bound("Standard", device)
    # Two ranks are claimed, so that the loss is wrapped for several.
    training = Training(method, model, Recipe(epochs=1, batch_size=IMAGES, lr=0.01), ranks=2)
    index = torch.arange(IMAGES, device=device)
    batch = (torch.rand(IMAGES, 3, 32, 32, device=device), index % 10, index)
    print(f"{backend}: loss {training.epoch([batch], 0).item():.6f}")
    dist.destroy_process_group()


@app.command()
def energy() -> None:
    """Print energy and clocks of two seconds of matrix products."""
    left = torch.randn(8192, 8192, device="cuda")
    with Watch() as watch, Timer(alone=True) as timer:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            left @ left
            torch.cuda.synchronize()
    print(f"{timer.seconds:.2f} s; constants {facts()}; readings {watch.gpu}")
    if watch.gpu is None or watch.gpu.joules is None or watch.gpu.sm_after is None:
        raise SystemExit("energy or clocks are unknown")


@app.command()
def certify(data: Path = Path("data"), rehearse: Rehearse = False) -> None:
    """Certify images by the plain procedure and by this project's, and print the seconds an image."""
    device = _device(rehearse)
    count, draws = (1, 500) if rehearse else (20, 10_000)
    test = Beton(ensure(DATASETS["digits"], "test", data))
    questions = [(image(test, i), int(test.labels[i]), (0, i)) for i in range(count)]
    torch.manual_seed(0)
    model = Classifier(*resnet20(), 10, (0.5,) * 3, (0.25,) * 3).eval().to(device)
    base: dict[str, Any] = {"threat": THREAT, "n": draws, "skip_wrong": False}
    with Timer(alone=True) as timer, products("fp32", trial=False):
        plain = [bare_certify(Smoothing(**base), model, x, seed) for x, _, seed in questions]
    print(f"{'plain':28} {timer.seconds / count:.3f} s an image")
    engines: tuple[dict[str, Any], ...] = ({}, {"precision": "bf16", "channels_last": True})
    for switches in engines:
        with Timer(alone=True) as timer:
            found = list(judge_each(Smoothing(**base, **switches), model, questions))
        same = sum(a.prediction == b.prediction for a, b in zip(plain, found, strict=True))
        label = "engine" + "".join(f", {key} {value}" for key, value in switches.items())
        print(f"{label:28} {timer.seconds / count:.3f} s an image, {same} of {count} classes the same")


def _device(rehearse: bool) -> torch.device:
    return torch.device("cpu" if rehearse else "cuda")


if __name__ == "__main__":
    with report_errors():
        app(sys.argv[1:])
