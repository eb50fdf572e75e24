"""Certify a checkpoint: `python -m bench.certify model.pt --arch resnet20 --sigma 0.25`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench.command import application, told
from crt.data import DATASETS


class Precision(StrEnum):
    """Of the network that is certified."""

    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"


class Compile(StrEnum):
    """By a mode of torch.compile."""

    off = "off"
    default = "default"
    reduce_overhead = "reduce-overhead"


app = application()


@app.command()
def main(
    checkpoint: Annotated[Path, typer.Argument(help="The weights: a cell's model.pt, or what others trained.")],
    arch: Annotated[str, typer.Option(help="The architecture, by its name in manifests.")],
    sigma: Annotated[float, typer.Option(help="The noise, for pixels in [0, 1].")],
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")] = "cifar10",
    pipeline: Annotated[str, typer.Option(help="Whose constants the network normalizes with.")] = "crt",
    normalize: Annotated[
        bool | None, typer.Option(help="Whether the network takes normalized pixels, where the file does not tell.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Which of the file's state dicts, where it holds several.")] = None,
    n: Annotated[int, typer.Option(help="Draws that estimate a class's probability.")] = 100_000,
    n0: Annotated[int, typer.Option(help="Draws that select the class.")] = 100,
    alpha: Annotated[float, typer.Option(help="How often a certificate may be wrong.")] = 0.001,
    skip_wrong: Annotated[bool, typer.Option(help="Estimate nothing where the selected class is wrong.")] = True,
    precision: Annotated[Precision, typer.Option(help="What the network computes in.")] = Precision.fp32,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Its weights' order in memory.")] = False,
    compile: Annotated[Compile, typer.Option(help="A mode of torch.compile; pays where images are many.")] = (
        Compile.off
    ),
    batch: Annotated[
        int | None, typer.Option(help="Draws in one forward pass (default: 1000 on a GPU, 100 without).")
    ] = None,
    every: Annotated[int, typer.Option(help="Certify test images 0, EVERY, 2 EVERY, ...")] = 1,
    images: Annotated[int | None, typer.Option(help="... and at most this many of them.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="The table to begin or go on with (default: in RUNS/certify).")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where tables are kept.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Where the .beton files are.")] = Path("data"),
) -> None:
    """Certify test images by randomized smoothing; those that the table holds are not certified again."""
    asked = dict(n=n, n0=n0, alpha=alpha, skip_wrong=skip_wrong, precision=precision.value)
    asked |= dict(channels_last=channels_last, compile=compile != Compile.off and compile.value)
    asked |= dict(batch=batch, every=every, images=images)
    with told():
        from bench.certificate_table import report
        from bench.checkpoint import Checkpoint

        network = Checkpoint(
            file=checkpoint, arch=arch, dataset=dataset, pipeline=pipeline, normalize=normalize, key=key
        )
        report(network, asked, sigma, seed, out, runs, data)


if __name__ == "__main__":
    app()
