"""Options that the commands on a checkpoint share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from crt.data import DATASETS


class Precision(StrEnum):
    """Number formats that a network is evaluated in."""

    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"


class Compile(StrEnum):
    """Modes of torch.compile."""

    off = "off"
    default = "default"
    reduce_overhead = "reduce-overhead"


CheckpointFile = Annotated[Path, typer.Argument(help="The weights: a cell's model.pt, or what others trained.")]
Arch = Annotated[str, typer.Option(help="The architecture, by its name in manifests.")]
Dataset = Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")]
Pipeline = Annotated[str, typer.Option(help="Whose constants the network normalizes with.")]
Normalize = Annotated[
    bool | None, typer.Option(help="Whether the network takes normalized pixels, where the file does not tell.")
]
Key = Annotated[str | None, typer.Option(help="Which of the file's state dicts, where it holds several.")]
InPrecision = Annotated[Precision, typer.Option(help="What the network computes in.")]
ChannelsLast = Annotated[bool, typer.Option("--channels-last", help="Its weights' order in memory.")]
Compiled = Annotated[Compile, typer.Option(help="A mode of torch.compile; pays where images are many.")]
Images = Annotated[int | None, typer.Option(help="... and at most this many of them.")]
Out = Annotated[Path | None, typer.Option(help="The table to begin or go on with (default: one in RUNS).")]
Runs = Annotated[Path, typer.Option(help="Where tables are kept.")]
Data = Annotated[Path, typer.Option(help="Where the .beton files are.")]


def switches(precision: Precision, channels_last: bool, compile: Compile) -> dict[str, str | bool]:
    """How the network is run, as arguments of an evaluation; those at their defaults are left out."""
    given = {"precision": precision.value, "channels_last": channels_last, "compile": compile.value}
    return {key: value for key, value in given.items() if value not in ("fp32", False, "off")}
