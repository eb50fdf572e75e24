"""Schema of the records that a run writes: one JSON line for each event."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

SCHEMA = 10
"""Version of the schema that is written, which grew as follows.

1: Start, Epoch, Verdict, Fail, End. 2: Phases; Start.diff, passes, gpu; Epoch.gpu.
3: MonitorPoint, RobustChunk; Epoch.host_memory. 4: CertificationTiming; Start.traffic, ceilings.
5: Epoch.other_gpus, Phases.other_ranks. 6: Start.other_ranks; Epoch.load, other_ranks; GPU.processes.
7: Start.early_flops; Replaced. 8: StepMemory; Start.switches. 9: MonitorPoint.seconds.
10: Start.tuned.
"""

READABLE = (2, 3, 4, 5, 6, 7, 8, 9, 10)
"""Versions that hold all that this one needs."""


_MOST = 10**15
"""Largest count; a larger one is damage."""


def _not_negative(value: float) -> float:
    if value < 0:
        raise ValueError("Input should be greater than or equal to 0, or NaN")
    return value


def _has_phases(seconds: dict[str, float]) -> dict[str, float]:
    if not {"loader", "transfer"} <= seconds.keys() or not sum(seconds.values()) > 0:
        raise ValueError("Input should have the seconds of loader and transfer, and a sum above 0")
    return seconds


Line = Annotated[str, Field(pattern=r"^[^\p{Cc}\u{2028}-\u{202e}\u{2066}-\u{2069}]*$")]
"""Text without line breaks and other characters that control a terminal, as `crt.text.one_line` has it."""
Count = Annotated[int, Field(ge=1, le=_MOST)]
Index = Annotated[int, Field(ge=0, le=_MOST)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=1e30)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Phase = Annotated[float, Field(ge=-0.1, le=1e9)]
"""Seconds of a phase, a difference that may be slightly negative where the phase took no time."""
Duration = Annotated[float, Field(ge=1e-9, le=1e9)]
"""Seconds that work took: at least the nanosecond that a clock resolves, so that a rate is finite."""
Date = Annotated[float, Field(ge=0, le=253_402_300_799)]
"""Seconds since 1970, at most to the year 9999, the last that dates have."""
Radius = Annotated[float, AfterValidator(_not_negative)]
"""A radius of [0, inf], or the NaN of a network that collapsed."""


Switches = dict[Line, bool | Line]
"""Switches of a recipe that are on, by field."""
Settings = dict[Line, Finite]
"""Values of a recipe's fields, by field."""


class _Record(BaseModel):
    # Validators are built on first use: a plan of work that has not begun reads no record.
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="constants", defer_build=True
    )


class _Line(_Record):
    kind: str
    """Name of the record's type, the first field of its line."""


class Machine(_Record):
    """The host and device of one rank."""

    host: Line
    device: Line
    driver: Line | None
    cpu: Line
    cpus: Count
    threads: Count
    load: Amount
    """Load average of the host over the minute before."""
    watts: Amount | None = None
    """The GPU's power limit in W."""
    max_sm: Index | None = None
    """The GPU's highest SM clock in MHz."""
    max_memory: Index | None = None
    """The GPU's highest memory clock in MHz."""


class Provenance(Machine):
    """Machine and software of an attempt, as rank 0 sees them."""

    time: Date
    commit: Line | None
    dirty: bool | None
    python: Line
    torch: Line
    torchvision: Line
    cuda: Line | None
    ffcv: Line | None
    allocator: Line
    world_size: Count
    job: Line | None
    diff: Line | None = None
    """Digest of the difference between the files and the commit."""
    other_ranks: tuple[Machine, ...] = ()
    """Machines of ranks 1, 2, …; empty with one rank, before schema 6, and where each rank writes its own records."""

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The machines of all ranks that are known."""
        return (self, *self.other_ranks)


class Cost(_Record):
    """Counted cost of training by cell id, and the device's measured highest rates."""

    flops: dict[Line, Amount] = {}
    """Floating-point operations of training on one loaded image."""
    early_flops: dict[Line, dict[Line, Amount]] = {}
    """The same in each phase of training before the steady one, by the phase's first epoch; empty before schema 7."""
    passes: dict[Line, dict[Line, Amount]] = {}
    """Passes of one loaded batch through the student and through the teacher."""
    traffic: dict[Line, Amount] = {}
    """Bytes that the operations of training on one loaded image read and write."""
    ceilings: dict[Line, Amount] = {}
    """Measured rates: operations a second by precision, and bytes a second under the key `copy`."""


class Start(Cost, Provenance, _Line):
    """First record of an attempt, written by the process that does the work."""

    kind: Literal["start"] = "start"
    schema_: Annotated[int, Field(alias="schema")] = SCHEMA
    loader: Line
    precision: Line
    nodes: Count
    process: Literal["fresh", "shared"]
    seed: Index
    """Seed of the weights and the images' order; in a timing study, seed of the arms' order."""
    switches: dict[Line, Switches] = {}
    """Switches that a trial chose, by id of each cell with `compute: fastest`; empty before schema 8."""
    tuned: dict[Line, Settings] = {}
    """Settings of the best candidate, by id of each cell with `tune`; empty before schema 10."""


class GPU(_Record):
    """GPU clocks in MHz and temperatures in °C before and after an epoch; None where the device gives no value."""

    sm_before: Index | None = None
    sm_after: Index | None = None
    memory_before: Index | None = None
    memory_after: Index | None = None
    celsius_before: int | None = None
    celsius_after: int | None = None
    throttle: tuple[Line, ...] | None = None
    """Reasons for reduced clocks at either end, sorted; idleness does not count."""
    joules: Finite | None = None
    """Energy of the whole board from the first reading to the second, in J."""
    processes: Index | None = None
    """Number of processes that compute on the GPU, this one included; the larger of both ends."""


class RankUse(_Record):
    """Memory in MB that one rank uses in an epoch, and the load of its host."""

    memory: Amount | None
    """Peak of the GPU's memory; None without a GPU and with CUDA graphs, which hide it from torch."""
    host_memory: Amount | None
    """Peak of the process's memory since its start."""
    load: Amount | None
    """Load average of the host over the minute before the end of the epoch."""


class Epoch(_Line):
    """One pass over the training images; `seconds` of the slowest rank, memory and load of rank 0 as in `RankUse`."""

    kind: Literal["epoch"] = "epoch"
    arm: Line
    round: Index | None = None
    epoch: Index
    seconds: Duration
    warmup: bool
    images: Count
    lr: Finite
    loss: float
    """Mean loss; NaN or infinite where training collapsed."""
    memory: Amount | None
    host_memory: Amount | None = None
    load: Amount | None = None
    other_ranks: tuple[RankUse, ...] = ()
    """Memory and load of ranks 1, 2, …; empty with one rank and before schema 6."""
    gpu: GPU | None = None
    """The GPU of rank 0."""
    other_gpus: tuple[GPU | None, ...] = ()
    """The GPUs of ranks 1, 2, …; empty with one rank and before schema 5."""

    @property
    def peak_memory(self) -> float | None:
        """Peak memory in MB of the GPU of the rank that uses most; None where no rank knows it."""
        return max(
            (use for use in (self.memory, *(r.memory for r in self.other_ranks)) if use is not None), default=None
        )

    @property
    def gpus(self) -> list[GPU]:
        """Readings of the GPUs of all ranks that have one."""
        return [gpu for gpu in (self.gpu, *self.other_gpus) if gpu]


class MonitorPoint(_Line):
    """Result of one evaluation of some test or held-out images after an epoch, outside the clock."""

    kind: Literal["curve"] = "curve"
    arm: Line
    epoch: Index
    eval: Line
    images: Count
    right: Share
    """Clean accuracy: share of images whose prediction is the label."""
    standing: Share
    """Robust accuracy: share of images that are predicted correctly and robust at the evaluation's radius."""
    seconds: Seconds | None = None
    """Time of the evaluation on all ranks; None before schema 9."""
    details: dict[Line, float] = {}
    """Means over the images of the evaluation's further values."""


class RankPhases(_Record):
    """Seconds of one rank by phase, on the host's clock and on the GPU's."""

    host: Annotated[dict[Line, Phase], AfterValidator(_has_phases)]
    device: dict[Line, Phase] | None


class Phases(RankPhases, _Line):
    """Seconds of rank 0 by phase, in an epoch that is not timed, since measuring phases costs time."""

    kind: Literal["phases"] = "phases"
    arm: Line
    images: Count
    other_ranks: tuple[RankPhases, ...] = ()
    """Seconds of ranks 1, 2, …; empty with one rank and before schema 5."""


class RobustChunk(_Line):
    """One chunk of a robust dataset: number of its first image and its mean remaining distance to the features."""

    kind: Literal["made"] = "made"
    first: Index
    images: Count
    seconds: Duration
    distance: float


class Verdict(_Line):
    """Evaluation of one image; prediction -1 is an abstention, `radius` is in pixel units of [0, 1]."""

    kind: Literal["verdict"] = "verdict"
    eval: Line
    index: Index
    label: Index
    prediction: Annotated[int, Field(ge=-1, le=_MOST)]
    radius: Radius
    skipped: bool = False
    """True if certification was skipped because the prediction is wrong; this is no abstention."""
    seconds: Seconds
    """Evaluation time; when several images are evaluated at once, the first has the time of all of them."""
    details: dict[Line, float] = {}


PLAIN = "plain procedure"
"""Arm of a `CertificationTiming` that others are compared with."""


class CertificationTiming(_Line):
    """Time of all draws in certifying some images with one setting."""

    kind: Literal["drawn"] = "drawn"
    arm: Line
    """Name of the setting, or PLAIN."""
    round: Index
    images: Count
    draws: Count
    """Number of draws of all the images together."""
    seconds: Duration


class StepMemory(_Line):
    """Peak memory of an arm's training steps, in a process of its own."""

    kind: Literal["memory"] = "memory"
    arm: Line
    memory: Amount
    """MB: of the GPU's tensors; on the CPU, of the process beyond its libraries."""


class Replaced(_Line):
    """A damaged file that an attempt found, and what it used or did instead."""

    kind: Literal["replaced"] = "replaced"
    time: Date
    text: Line


class Fail(_Line):
    """Failure of an attempt, with its error message as the reason."""

    kind: Literal["fail"] = "fail"
    time: Date
    reason: Line
    host: Line
    job: Line | None


class End(_Line):
    """Mark of an attempt that wrote all its records."""

    kind: Literal["end"] = "end"
    time: Date


Record = (
    Start
    | Epoch
    | MonitorPoint
    | Phases
    | RobustChunk
    | Verdict
    | CertificationTiming
    | StepMemory
    | Replaced
    | Fail
    | End
)
