"""Profiles in `slurm/`: resources to request from a cluster."""

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from launchers.sbatch_options import check, option, unfit


def _word(value: object) -> object:
    # A number may be a name in Slurm (an account); True and lists may not.
    return str(value) if type(value) is int else value


def _minutes(value: object) -> object:
    if isinstance(value, str) and ":" in value:
        raise ValueError("whole minutes (1440 is a day)")
    return value


def _memory(value: object) -> object:
    if not (isinstance(value, str) and re.fullmatch("[0-9]{1,9}[KMGT]B?", value)):
        raise ValueError("a whole number and its unit, K, M, G or T (64G)")
    return value


def _fit(value: str) -> str:
    if problem := unfit(value):
        raise ValueError(problem)
    return value


def _path(value: object) -> object:
    for word in value if isinstance(value, list) else [value]:
        if isinstance(word, str) and (problem := unfit(word)):
            raise ValueError(problem)
    if isinstance(value, str) and re.search(r"\s", value) and not value.startswith("/"):
        raise ValueError(f"(allowed: one path, or a list of words: [{', '.join(value.split())}])")
    return value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("an absolute path, for jobs do not run where they were submitted")
    return value


def _one_line(value: Path) -> Path:
    if problem := unfit(str(value)):
        raise ValueError(problem)
    return value


Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Word = Annotated[str, BeforeValidator(_word), AfterValidator(_fit), Field(strict=True, min_length=1)]
Option = Annotated[str | Literal[True], BeforeValidator(option)]
Memory = Annotated[str, BeforeValidator(_memory)]
Folder = Annotated[Path, AfterValidator(_one_line)]
Absolute = Annotated[Folder, AfterValidator(_absolute)]


class Profile(BaseModel):
    """A cluster, or one kind of its nodes. Fields have the names of sbatch's options where there is one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    reservation: Word | None = None
    nodelist: Word | None = None
    exclude: Word | None = None
    time: Annotated[Count, BeforeValidator(_minutes)] = 1440
    """Time limit of a job in minutes; after it the job is requeued and resumes from its last epoch."""
    signal_delay_s: Count = 90
    """Seconds before the time limit at which a job is signalled."""
    cpus_per_task: Count = 4
    """Cores, and so threads, of a rank."""
    gpus_per_rank: Annotated[int, Field(strict=True, ge=0, le=1)] = 0
    """0 for ranks on CPUs (gloo), 1 for ranks on GPUs (NCCL)."""
    gres: Word | None = None
    """Generic resources of a node. GPUs among them replace the request that follows from `gpus_per_rank`."""
    mem: Memory | None = None
    """Memory of a node, such as `64G`."""
    exclusive: bool = True
    """Run jobs whose times are results alone on their nodes."""
    array_parallelism: Count = 64
    """Number of jobs of an array that may run at once."""
    max_array: Count = 1000
    """Largest number of jobs in an array; a smaller limit of the site applies."""
    max_timeouts: Count = 100
    """Number of times that a job may be requeued after a timeout."""
    shards: Count = 8
    """Number of jobs that a cell's evaluation is split into."""
    setup: tuple[str, ...] = ()
    """Shell lines to run before the job, such as loading modules."""
    srun_args: tuple[Word, ...] = ()
    """Options of srun, such as those for a container."""
    sbatch: dict[str, Option] = {}
    """Further options of sbatch by long name."""
    python: Annotated[Word | tuple[Word, ...] | None, BeforeValidator(_path)] = None
    """Python interpreter on the nodes (default: the current one): a path, or the words of a command."""
    stage: Absolute | None = None
    """Node-local storage to copy .beton files to."""
    sources: dict[str, Folder] = {}
    """Folder of images by dataset, for datasets without .beton files."""
    device: Word | None = None
    """Device of the nodes to estimate times for, named as in `bench/plan/devices.py` or in torch."""
    tflops: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Speed of a rank in 10^12 operations per second, instead of that device's; used only to estimate times."""

    @property
    def interpreter(self) -> str:
        """The interpreter's command, quoted for a shell."""
        words = (self.python or sys.executable,) if isinstance(self.python, str | None) else self.python
        return shlex.join(words)

    @property
    def gpus(self) -> int:
        """Number of GPUs per node in `gres`."""
        parts = [re.split("[:=]", re.sub("^gres[:/]", "", part)) for part in (self.gres or "").split(",")]
        return sum(int(part[-1]) if re.fullmatch("[0-9]{1,9}", part[-1]) else 1 for part in parts if part[0] == "gpu")

    @model_validator(mode="after")
    def _ranks_use_the_gpus_asked_for(self) -> "Profile":
        if self.gpus and not self.gpus_per_rank:
            raise ValueError(f"gres: {self.gres:.60}: ranks on CPUs need no GPU (allowed with it: gpus_per_rank: 1)")
        return self

    @model_validator(mode="after")
    def _no_option_twice(self) -> "Profile":
        check(self.sbatch)
        return self

    @model_validator(mode="after")
    def _signal_after_start(self) -> "Profile":
        if self.signal_delay_s >= 60 * self.time:
            most = f"below {60 * self.time}, the seconds of time"
            raise ValueError(f"signal_delay_s: {self.signal_delay_s} (allowed: {most})")
        return self
