"""Provenance of a measurement: machine and software, as seen by the process that measures."""

import hashlib
import os
import platform
import socket
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch

from bench.cell import Cell
from bench.measure.gpu_telemetry import facts
from bench.records import Cost, Machine, Provenance, Settings, Start, Switches
from crt import distributed
from launchers.states import job_id

NOTHING_COUNTED = Cost()
_LARGE = 10 * 2**20
"""Bytes above which an untracked file is not read, so that it does not delay a job's start."""


def start(
    arms: Sequence[Cell],
    process: Literal["fresh", "shared"],
    seed: int,
    cost: Cost = NOTHING_COUNTED,
    ranks: Sequence[Machine] = (),
    switches: Mapping[str, Switches | None] = MappingProxyType({}),
    tuned: Mapping[str, Settings | None] = MappingProxyType({}),
) -> Start:
    """The first record of an attempt at the arms: this process's provenance, and the arms' counted cost.

    `ranks` are the `machines` of all ranks of the attempt, where they work together; `switches` are those that a trial
    chose, by id of the arm, None for an arm without a trial; `tuned` are the settings of the arms' best candidates.
    """
    fields, first = provenance(ranks[1:]).model_dump() | cost.model_dump(), arms[0]
    return Start(
        loader=first.loader,
        precision=first.recipe.precision,
        nodes=first.nodes,
        process=process,
        seed=seed,
        switches={arm: chosen for arm, chosen in switches.items() if chosen is not None},
        tuned={arm: chosen for arm, chosen in tuned.items() if chosen is not None},
        **fields,
    )


def machines() -> list[Machine]:
    """The machine of each rank, on every rank; every rank must call this."""
    return distributed.gather(_machine())


def _machine() -> Machine:
    return Machine(
        host=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        cpu=_cpu(),
        cpus=len(os.sched_getaffinity(0)),
        threads=torch.get_num_threads(),
        load=os.getloadavg()[0],
        **facts(),
    )


def provenance(others: Sequence[Machine] = ()) -> Provenance:
    """Current provenance of this process; `others` are the machines of the other ranks."""
    commit, dirty, diff = _source()
    return Provenance(
        time=time.time(),
        commit=commit,
        dirty=dirty,
        diff=diff,
        python=platform.python_version(),
        torch=torch.__version__,
        torchvision=_version("torchvision"),
        cuda=torch.version.cuda if torch.cuda.is_available() else None,
        ffcv=_version("ffcv"),
        allocator=_allocator(),
        world_size=distributed.world_size(),
        job=job_id(),
        other_ranks=tuple(others),
        **_machine().model_dump(),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _source(folder: Path = Path(__file__).parent) -> tuple[str | None, bool | None, str | None]:
    """The commit, True if files differ from it, and a digest of the difference; None for each outside a checkout."""
    try:
        if not _git(folder, "ls-files", "--", "."):
            # Installed packages may lie in an environment inside another project's repository.
            return None, None, None
        places = os.fsdecode(_git(folder, "rev-parse", "HEAD", "--show-toplevel"))
        commit, top = places.removesuffix("\n").split("\n", 1)
        dirty = bool(_git(folder, "status", "--porcelain"))
        return commit, dirty, _difference(Path(top)) if dirty else None
    except (OSError, subprocess.CalledProcessError):
        return None, None, None


def _git(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True).stdout


def _difference(top: Path) -> str:
    """First 16 hex digits of the SHA-256 of the tracked files' diff and of untracked files that are not ignored."""
    # These options override a user's configuration of diff.
    form = "--full-index --unified=3 --diff-algorithm=myers --src-prefix=a/ --dst-prefix=b/ --submodule=short"
    plain = "--no-color --no-ext-diff --no-textconv --no-renames --no-indent-heuristic"
    digest = hashlib.sha256(_git(top, "diff", *form.split(), *plain.split(), "HEAD"))
    for name in sorted(_git(top, "ls-files", "--others", "--exclude-standard", "-z").split(b"\0")[:-1]):
        digest.update(b"\0" + name + b"\0" + _content(top / os.fsdecode(name)))
    return digest.hexdigest()[:16]


def _content(path: Path) -> bytes:
    """A file's digest, a large file's size and modification time, or a link's target; empty for anything else."""
    try:
        facts = path.lstat()
        if stat.S_ISLNK(facts.st_mode):
            return os.fsencode(path.readlink())
        if not stat.S_ISREG(facts.st_mode):
            return b""
        if facts.st_size > _LARGE:
            return f"{facts.st_size} {facts.st_mtime_ns}".encode()
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""


def _cpu() -> str:
    facts = Path("/proc/cpuinfo")
    for line in facts.read_text(encoding="utf-8").splitlines() if facts.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _allocator() -> str:
    """Settings of the C library's allocator, whose thresholds change CPU times by factors; `default` for none."""
    names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")
    return " ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name)) or "default"


def check_install() -> None:
    """Raise ValueError, with the remedy, where the builds of torch and torchvision do not fit together."""
    try:
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"torch {torch.__version__} and torchvision {_version('torchvision')} do not fit together"
            f" ({str(error).splitlines()[0]}); install both anew from requirements.lock: make install"
        ) from None
