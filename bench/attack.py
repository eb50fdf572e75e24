"""Attack a checkpoint: `python -m bench.attack model.pt --arch resnet18 --norm linf --eps 8/255`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.command import application, report_errors
from bench.commands import options


class Norm(StrEnum):
    """Norms of a perturbation."""

    linf = "linf"
    l2 = "l2"


app = application()


@app.command()
def main(
    checkpoint: options.CheckpointFile,
    arch: options.Arch,
    eps: Annotated[str, typer.Option(help="Radius of the ball, for pixels in [0, 1]: 8/255, 0.5.")],
    norm: Annotated[Norm, typer.Option(help="Norm of the ball.")] = Norm.linf,
    attack: Annotated[
        str,
        typer.Option(
            help="Name of the attack in manifests: PGD, AutoPGD, MultiTargeted, Square, or AutoAttack (pip install"
            " pyautoattack)."
        ),
    ] = "AutoPGD",
    steps: Annotated[int | None, typer.Option(help="Steps per restart (default: the attack's).")] = None,
    restarts: Annotated[
        int | None, typer.Option(help="Restarts on the images not broken yet (default: the attack's).")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="Loss that AutoPGD maximizes: ce (default) or dlr.")] = None,
    dataset: options.Dataset = "cifar10",
    pipeline: options.Pipeline = "crt",
    normalize: options.Normalize = None,
    key: options.Key = None,
    precision: options.InPrecision = options.Precision.fp32,
    channels_last: options.ChannelsLast = False,
    compile: options.Compiled = options.Compile.off,
    batch: Annotated[int | None, typer.Option(help="Images attacked in one batch (default: the attack's).")] = None,
    every: Annotated[int, typer.Option(help="Attack test images 0, EVERY, 2 EVERY, ...")] = 1,
    images: options.Images = None,
    seed: Annotated[int, typer.Option(help="Seed of the random starts.")] = 0,
    out: options.Out = None,
    runs: options.Runs = Path("runs"),
    data: options.Data = Path("data"),
    json: options.Json = None,
    html: options.Html = None,
) -> None:
    """Attack test images within a ball; images already in the table are not attacked again."""
    options_given = dict(steps=steps, restarts=restarts, loss=loss, batch=batch, images=images)
    arguments: dict[str, Any] = {key: value for key, value in options_given.items() if value is not None}
    arguments |= options.switches(precision, channels_last, compile) | dict(every=every)
    with report_errors():
        from bench.commands.attack_table import attack_on
        from bench.commands.checkpoint import Checkpoint
        from bench.commands.judge_checkpoint import Request, report

        network = Checkpoint(
            file=checkpoint, arch=arch, dataset=dataset, pipeline=pipeline, normalize=normalize, key=key
        )
        request = Request(checkpoint=network, seed=seed, out=out, runs=runs, data=data, json=json, html=html)
        report(request, attack_on(attack, arguments, norm.value, eps))


if __name__ == "__main__":
    app()
