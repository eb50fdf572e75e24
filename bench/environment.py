"""What is written of the machine that does the work, by the process that does it."""

import os
import platform
import socket
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch

from bench.attempt import job_id
from bench.cells import Cell
from bench.records import Start
from crt import dist


def start(cell: Cell, process: Literal["fresh", "shared"], flops: dict[str, float]) -> Start:
    """A Start record of this process, here and now."""
    commit, dirty = _source()
    gpu = torch.cuda.is_available()
    return Start(
        time=time.time(),
        commit=commit,
        dirty=dirty,
        python=platform.python_version(),
        torch=torch.__version__,
        torchvision=_version("torchvision"),
        cuda=torch.version.cuda if gpu else None,
        ffcv=_version("ffcv"),
        loader=cell.loader,
        precision=cell.recipe.precision,
        device=torch.cuda.get_device_name() if gpu else "cpu",
        driver=_driver() if gpu else None,
        host=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        cpu=_cpu(),
        cpus=len(os.sched_getaffinity(0)),
        threads=torch.get_num_threads(),
        load=os.getloadavg()[0],
        allocator=_allocator(),
        world_size=dist.world_size(),
        nodes=cell.nodes,
        process=process,
        job=job_id(),
        flops=flops,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _source() -> tuple[str | None, bool | None]:
    """The commit that runs and whether files differ from it; nothing where this is no checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit.stdout.strip(), bool(dirty.stdout.strip())


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _driver() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _allocator() -> str:
    """What was set of the C library's allocator: its thresholds move CPU times by factors."""
    names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")
    return " ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name)) or "default"


def check_install() -> None:
    """ValueError where torch and torchvision are builds that do not belong together, with the mend."""
    try:
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"torch {torch.__version__} and torchvision {_version('torchvision')} do not fit together"
            f" ({str(error).splitlines()[0]}); install both anew from requirements.lock: make install"
        ) from None
