"""Profiles in `slurm/`: the resources that a cluster is asked for."""

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from launchers.sbatch_options import check, option, unfit


def _word(value: object) -> object:
    # A number that names something (an account) is a word to Slurm; True and lists are not.
    return str(value) if type(value) is int else value


def _minutes(value: object) -> object:
    if isinstance(value, str) and ":" in value:
        raise ValueError("whole minutes (1440 is a day)")
    return value


def _memory(value: object) -> object:
    if not (isinstance(value, str) and re.fullmatch("[0-9]+[KMGT]B?", value)):
        raise ValueError("a whole number and its unit, K, M, G or T (64G)")
    return value


def _fit(value: str) -> str:
    if wrong := unfit(value):
        raise ValueError(wrong)
    return value


def _path(value: object) -> object:
    if isinstance(value, str) and re.search(r"\s", value) and not value.startswith("/"):
        raise ValueError(f"(allowed: one path, or a list of words: [{', '.join(value.split())}])")
    return value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("an absolute path, for jobs do not run where they were submitted")
    return value


Count = Annotated[int, Field(strict=True, ge=1)]
Word = Annotated[str, BeforeValidator(_word), AfterValidator(_fit), Field(strict=True, min_length=1)]
Option = Annotated[str | Literal[True], BeforeValidator(option)]
Memory = Annotated[str, BeforeValidator(_memory)]
Absolute = Annotated[Path, AfterValidator(_absolute)]


class Profile(BaseModel):
    """One cluster, or one kind of its nodes; the names are sbatch's where it has one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    reservation: Word | None = None
    nodelist: Word | None = None
    exclude: Word | None = None
    time: Annotated[Count, BeforeValidator(_minutes)] = 1440
    """Minutes that a job may take; it is requeued when they are over, and goes on from its last epoch."""
    signal_delay_s: Count = 90
    """Seconds before the end at which a job is told."""
    cpus_per_task: Count = 4
    """Cores of a rank: its threads."""
    gpus_per_rank: Annotated[int, Field(strict=True, ge=0, le=1)] = 0
    """0 for ranks on CPUs (gloo), 1 for ranks on GPUs (NCCL)."""
    gres: Word | None = None
    """Generic resources of a node; where GPUs are among them, these take the place of what `gpus_per_rank` asks for."""
    mem: Memory | None = None
    """Memory of a node, as `64G`."""
    exclusive: bool = True
    """Give jobs whose seconds are results their nodes to themselves."""
    array_parallelism: Count = 64
    """Jobs of an array that may run at once."""
    max_array: Count = 1000
    """Jobs in an array; the site's own limit holds where it is smaller."""
    max_timeouts: Count = 100
    """Times that a job may be requeued for want of time."""
    shards: Count = 8
    """Jobs that judging a cell's images is spread over."""
    setup: tuple[str, ...] = ()
    """Lines of shell before the job: modules, environments."""
    srun_args: tuple[Word, ...] = ()
    """Options of srun, as a container's."""
    sbatch: dict[str, Option] = {}
    """Further options of sbatch, by their long names."""
    python: Annotated[Word | tuple[Word, ...] | None, BeforeValidator(_path)] = None
    """The interpreter on the nodes, where it is another than here: a path, or the words of a command."""
    stage: Absolute | None = None
    """Storage of each node's own that .beton files are copied to."""
    sources: dict[str, Path] = {}
    """Folder of a dataset's images, for datasets that have no .beton files yet."""
    device: Word | None = None
    """The nodes' device, as a row of `bench/plan/devices.py` or torch names it: times are estimated for it."""
    tflops: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """10^12 operations that a rank computes in a second, instead of that row's: for estimates of times alone."""

    @property
    def interpreter(self) -> str:
        """The interpreter as a shell reads it."""
        words = (self.python or sys.executable,) if isinstance(self.python, str | None) else self.python
        return shlex.join(words)

    @property
    def gpus(self) -> int:
        """GPUs of a node that `gres` names."""
        parts = [re.split("[:=]", re.sub("^gres[:/]", "", part)) for part in (self.gres or "").split(",")]
        return sum(int(part[-1]) if part[-1].isdecimal() else 1 for part in parts if part[0] == "gpu")

    @model_validator(mode="after")
    def _ranks_use_the_gpus_asked_for(self) -> "Profile":
        if self.gpus and not self.gpus_per_rank:
            raise ValueError(f"gres: {self.gres}: ranks on CPUs need no GPU (allowed with it: gpus_per_rank: 1)")
        return self

    @model_validator(mode="after")
    def _settled_once(self) -> "Profile":
        check(self.sbatch)
        return self

    @model_validator(mode="after")
    def _told_after_it_begins(self) -> "Profile":
        if self.signal_delay_s >= 60 * self.time:
            most = f"below {60 * self.time}, the seconds of time"
            raise ValueError(f"signal_delay_s: {self.signal_delay_s} (allowed: {most})")
        return self
