"""Certify a checkpoint: `python -m bench.certify model.pt --arch resnet20 --sigma 0.25`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.command import application, report_errors
from bench.commands import options

app = application()


class Rule(StrEnum):
    """Rules that keep a bound valid at every look."""

    spending = "spending"
    mixture = "mixture"


@app.command()
def main(
    checkpoint: options.CheckpointFile,
    arch: options.Arch,
    sigma: Annotated[float, typer.Option(help="Standard deviation of the noise, for pixels in [0, 1].")],
    dataset: options.Dataset = "cifar10",
    pipeline: options.Pipeline = "crt",
    normalize: options.Normalize = None,
    key: options.Key = None,
    n: Annotated[
        int, typer.Option(help="Noise samples to estimate the class's probability; at most, with --radii.")
    ] = 100_000,
    n0: Annotated[int, typer.Option(help="Noise samples to select the class.")] = 100,
    alpha: Annotated[float, typer.Option(help="Probability that a certificate may be wrong.")] = 0.001,
    skip_wrong: Annotated[bool, typer.Option(help="Skip the estimate if the selected class is wrong.")] = True,
    precision: options.InPrecision = options.Precision.fp32,
    channels_last: options.ChannelsLast = False,
    compile: options.Compiled = options.Compile.off,
    radii: Annotated[
        str | None,
        typer.Option(
            help="Certify at these radii alone, such as 0.25,0.5, and end the draws of an image once they are decided."
        ),
    ] = None,
    rule: Annotated[
        Rule | None, typer.Option(help="How the bound stays valid at every look, with --radii (default: spending).")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Noise samples in one forward pass (default: 1000 on a GPU, 100 without).")
    ] = None,
    every: Annotated[int, typer.Option(help="Certify test images 0, EVERY, 2 EVERY, ...")] = 1,
    images: options.Images = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    out: options.Out = None,
    runs: options.Runs = Path("runs"),
    data: options.Data = Path("data"),
    json: options.Json = None,
    html: options.Html = None,
) -> None:
    """Certify test images by randomized smoothing; images already in the table are not certified again."""
    arguments: dict[str, Any] = dict(n=n, n0=n0, alpha=alpha, skip_wrong=skip_wrong)
    if radii is not None:
        arguments |= dict(radii=[radius.strip() for radius in radii.split(",")], until="decided")
    if rule is not None:
        arguments["rule"] = rule.value
    arguments |= options.switches(precision, channels_last, compile) | dict(batch=batch, every=every, images=images)
    with report_errors():
        from bench.commands.certificate_table import certification
        from bench.commands.checkpoint import Checkpoint
        from bench.commands.judge_checkpoint import Request, report

        network = Checkpoint(
            file=checkpoint, arch=arch, dataset=dataset, pipeline=pipeline, normalize=normalize, key=key
        )
        request = Request(checkpoint=network, seed=seed, out=out, runs=runs, data=data, json=json, html=html)
        report(request, certification(arguments, sigma))


if __name__ == "__main__":
    app()
