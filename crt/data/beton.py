"""Write .beton files: `python -m crt.data.beton cifar10 --source FOLDER --data data`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from crt.data import DATASETS

app = typer.Typer(add_completion=False)


@app.command()
def main(
    dataset: Annotated[str, typer.Argument(help=f"One of {', '.join(DATASETS)}.")],
    source: Annotated[
        Path | None, typer.Option(help="torchvision's folder, an image tree, or zips (ImageNet: a tar) of one.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Where the .beton files go.")] = Path("data"),
    side: Annotated[
        int, typer.Option(help="ImageNet: pixels of a training image's longer side.", min=32, max=65535)
    ] = 500,
    quality: Annotated[int, typer.Option(help="ImageNet: JPEG quality of training images.", min=1, max=95)] = 90,
) -> None:
    """Write a dataset's train and test .beton files; without --source, CIFAR-10 is downloaded."""
    from crt.data.convert import convert

    try:
        if dataset not in DATASETS:
            raise ValueError(f"dataset: {dataset!r} (allowed: {', '.join(DATASETS)})")
        convert(DATASETS[dataset], source, data, side, quality)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
