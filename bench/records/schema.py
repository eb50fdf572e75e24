"""Schema of the records that a run writes: one JSON line an event."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 4
"""1: Start, Epoch, Verdict, Fail, End. 2: Phases; Start.diff, passes, gpu; Epoch.gpu.

3: MonitorPoint, RobustChunk; Epoch.host_memory. 4: CertificationTiming; Start.traffic, ceilings.
"""


READABLE = (2, 3, 4)
"""What lacks nothing that this version needs."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="constants")


class _Line(_Record):
    kind: str
    """The record's name in a file, first on its line."""


class Provenance(_Record):
    """The machine and the software that an attempt runs on."""

    time: float
    commit: str | None
    dirty: bool | None
    python: str
    torch: str
    torchvision: str
    cuda: str | None
    ffcv: str | None
    device: str
    driver: str | None
    host: str
    cpu: str
    cpus: int
    threads: int
    load: float
    allocator: str
    world_size: int
    job: str | None
    diff: str | None = None
    """A digest of how the files differ from the commit."""
    watts: float | None = None
    """The GPU's power limit; its highest clocks in MHz."""
    max_sm: int | None = None
    max_memory: int | None = None


class Cost(_Record):
    """Counted cost of training, by cell id, and what the device reaches at best."""

    flops: dict[str, float] = {}
    """Floating-point operations of training on one loaded image."""
    passes: dict[str, dict[str, float]] = {}
    """Passes of one loaded batch through student and teacher."""
    traffic: dict[str, float] = {}
    """Bytes that the operations of training on one loaded image read and write."""
    ceilings: dict[str, float] = {}
    """Measured, not counted: operations a second by precision, bytes a second by `copy`."""


class Start(Cost, Provenance, _Line):
    """The first record of an attempt, written by the process that does the work."""

    kind: Literal["start"] = "start"
    schema_: Annotated[int, Field(alias="schema")] = SCHEMA
    loader: str
    precision: str
    nodes: int
    process: Literal["fresh", "shared"]
    seed: int
    """Of the weights and the order; of a timing study, of the arms' order."""


class GPU(_Record):
    """Before and after an epoch: clocks in MHz, temperatures in °C; None is what the device does not say."""

    sm_before: int | None = None
    sm_after: int | None = None
    memory_before: int | None = None
    memory_after: int | None = None
    celsius_before: int | None = None
    celsius_after: int | None = None
    throttle: tuple[str, ...] | None = None
    """What held the clocks down at either end, sorted; an idle device is not held down."""
    joules: float | None = None
    """Energy of the whole board in between."""


class Epoch(_Line):
    """One pass over the training images; seconds are of the slowest rank, memory in MB.

    What CUDA graphs hold counts as free, so that their `memory` is unknown.
    """

    kind: Literal["epoch"] = "epoch"
    arm: str
    round: int | None = None
    epoch: int
    seconds: Annotated[float, Field(gt=0)]
    warmup: bool
    images: int
    lr: float
    loss: float
    memory: float | None
    """Peak of the GPU's; None where there is none."""
    host_memory: float | None = None
    """The process's peak since it began."""
    gpu: GPU | None = None


class MonitorPoint(_Line):
    """What a network was worth after an epoch, by one evaluation of some test images, outside the clock."""

    kind: Literal["curve"] = "curve"
    arm: str
    epoch: int
    eval: str
    images: int
    right: float
    """Share whose prediction is the label; of them, those that stand at the evaluation's radius."""
    standing: float
    details: dict[str, float] = {}
    """Means over the images of what the evaluation says beside its verdicts."""


class Phases(_Line):
    """Seconds of this rank by phase in an epoch that was looked into, which costs time: never a timed one."""

    kind: Literal["phases"] = "phases"
    arm: str
    images: int
    host: dict[str, float]
    device: dict[str, float] | None


class RobustChunk(_Line):
    """A chunk of a robust dataset: its first image's number, and the mean distance that is left to the features."""

    kind: Literal["made"] = "made"
    first: int
    images: int
    seconds: float
    distance: float


class Verdict(_Line):
    """What one image was judged to be; prediction -1 is an abstention, radius in pixel units of [0, 1]."""

    kind: Literal["verdict"] = "verdict"
    eval: str
    index: int
    label: int
    prediction: int
    radius: float
    skipped: bool = False
    """Not certified, because the prediction was seen to be wrong: no abstention."""
    seconds: float
    """Where classes are selected for several images at once, the first of them has the time of all."""
    details: dict[str, float] = {}


class CertificationTiming(_Line):
    """Certification on the clock: every draw of some images, by one way of doing it."""

    kind: Literal["drawn"] = "drawn"
    arm: str
    round: int
    images: int
    draws: int
    """Of all of them."""
    seconds: Annotated[float, Field(gt=0)]


class Fail(_Line):
    """Why an attempt stopped, in its own words."""

    kind: Literal["fail"] = "fail"
    time: float
    reason: str
    host: str
    job: str | None


class End(_Line):
    """All that was asked for is written."""

    kind: Literal["end"] = "end"
    time: float


Record = Start | Epoch | MonitorPoint | Phases | RobustChunk | Verdict | CertificationTiming | Fail | End
