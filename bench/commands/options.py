"""Options shared by the commands on a checkpoint."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from crt.data import DATASETS


class Precision(StrEnum):
    """Number formats to evaluate a network in."""

    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"


class Compile(StrEnum):
    """Modes of torch.compile."""

    off = "off"
    default = "default"
    reduce_overhead = "reduce-overhead"


CheckpointFile = Annotated[Path, typer.Argument(help="Weights: the model.pt of a cell, or a file trained elsewhere.")]
Arch = Annotated[str, typer.Option(help="Name of the architecture in manifests.")]
Dataset = Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")]
Pipeline = Annotated[str, typer.Option(help="Pipeline whose constants normalize the pixels.")]
Normalize = Annotated[
    bool | None, typer.Option(help="State whether the network expects normalized pixels (default: read from the file).")
]
Key = Annotated[str | None, typer.Option(help="Key of the state dict to use in a file that holds several.")]
InPrecision = Annotated[Precision, typer.Option(help="Number format of the network's arithmetic.")]
ChannelsLast = Annotated[bool, typer.Option("--channels-last", help="Use the channels-last memory format.")]
Compiled = Annotated[Compile, typer.Option(help="Mode of torch.compile; worthwhile for many images.")]
Images = Annotated[int | None, typer.Option(help="Judge at most this many images.")]
Out = Annotated[Path | None, typer.Option(help="Table to create or resume (default: one in RUNS).")]
Runs = Annotated[Path, typer.Option(help="Folder of the tables.")]
Json = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the summary as JSON.")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the summary as a self-contained page.")]
Data = Annotated[Path, typer.Option(help="Folder of the .beton files.")]


def switches(precision: Precision, channels_last: bool, compile: Compile) -> dict[str, str | bool]:
    """Compute settings as arguments of an evaluation, without those at their defaults."""
    settings = {"precision": precision.value, "channels_last": channels_last, "compile": compile.value}
    return {key: value for key, value in settings.items() if value not in ("fp32", False, "off")}
