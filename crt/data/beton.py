"""Write .beton files: `python -m crt.data.beton cifar10 --source FOLDER --data data`; check them: `... verify data`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from crt.data import DATASETS, Dataset
from crt.text import printable, replace_missing_characters

_VERIFY, _FOLDER = "verify", "folder"
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def main(
    dataset: Annotated[
        str, typer.Argument(help=f"One of {', '.join(DATASETS)}; or {_FOLDER}, of images; or {_VERIFY}.")
    ],
    paths: Annotated[
        list[Path], typer.Argument(metavar="[PATH]...", help=f"After {_VERIFY}: .beton files, or folders of them.")
    ] = [],  # noqa: B006
    source: Annotated[
        Path | None,
        typer.Option(
            help="The dataset as it is published: cifar-10-batches-py or -bin, cifar-100-python, SVHN's train_32x32.mat"
            " and test_32x32.mat, tiny-imagenet-200, ImageNet's two official tars; or a tar or zip of it. CIFAR-10,"
            " ImageNet and folder: a tree train/CLASS/IMAGE with test/ (ImageNet: val/)."
        ),
    ] = None,
    data: Annotated[Path, typer.Option(help="Where the .beton files go.")] = Path("data"),
    side: Annotated[
        int, typer.Option(help="ImageNet: pixels of a training image's longer side.", min=32, max=65535)
    ] = 500,
    size: Annotated[
        int | None, typer.Option(help="folder: height and width of the images, in pixels.", min=8, max=1024)
    ] = None,
    flip: Annotated[bool, typer.Option(help="folder: an image's mirror image is of the same class.")] = True,
    quality: Annotated[int, typer.Option(help="ImageNet: JPEG quality of training images.", min=1, max=95)] = 90,
    val_labels: Annotated[
        Path | None,
        typer.Option(
            help="ImageNet, val without class folders: a file of each image's WordNet ID, as LOC_val_solution.csv."
        ),
    ] = None,
) -> None:
    """Write a dataset's train and test .beton files; without --source, CIFAR-10 is downloaded.

    After `verify`, read .beton files to the end and compare them with their digests; exit code 2 if one is damaged.
    """
    replace_missing_characters()
    if dataset == _VERIFY:
        from crt.data.verify import verify

        raise typer.Exit(0 if verify(paths) else 2)
    if paths:
        print(f"error: {printable(str(paths[0]))}: unexpected (allowed: paths after {_VERIFY} only)", file=sys.stderr)
        raise typer.Exit(2)
    if dataset not in (*DATASETS, _FOLDER):
        print(f"error: dataset: {dataset!r} (allowed: {', '.join([*DATASETS, _FOLDER, _VERIFY])})", file=sys.stderr)
        raise typer.Exit(2)
    try:
        from crt.data.convert import convert
        from crt.data.progress import say

        described = _of_folder(source, size, flip) if dataset == _FOLDER else DATASETS[dataset]
        not_written = convert(described, source, data, side, quality, val_labels)
    except ValueError as error:
        not_written = [str(error)]
    except KeyboardInterrupt:
        kept = (
            "what is done is kept: the same command goes on"
            if dataset == _FOLDER or DATASETS[dataset].resize
            else "nothing is half written"
        )
        print(f"interrupted ({kept})", file=sys.stderr)
        raise typer.Exit(130) from None
    for line in not_written:
        say(f"error: {line}", sys.stderr)
    if not_written:
        raise typer.Exit(2)


def _of_folder(source: Path | None, size: int | None, flip: bool) -> Dataset:
    """The dataset of an image folder; ValueError where the folder or the size is missing."""
    for option, value in (("--source", source), ("--size", size)):
        if value is None:
            raise ValueError(f"{option}: missing (allowed: with {_FOLDER}, --source PATH and --size PIXELS)")
    from crt.data.image_folder import describe

    return describe(source, size, flip)  # type: ignore[arg-type]


if __name__ == "__main__":
    app()
