"""Write .beton files: `python -m crt.data.beton cifar10 --source FOLDER --data data`; check them: `... verify data`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from crt.data import DATASETS
from crt.text import printable, replace_missing_characters

_VERIFY = "verify"
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def main(
    dataset: Annotated[str, typer.Argument(help=f"One of {', '.join(DATASETS)}; or {_VERIFY}, to check files.")],
    paths: Annotated[
        list[Path], typer.Argument(metavar="[PATH]...", help=f"After {_VERIFY}: .beton files, or folders of them.")
    ] = [],  # noqa: B006
    source: Annotated[
        Path | None,
        typer.Option(
            help="CIFAR-10: cifar-10-batches-py or -bin, or torchvision's folder. All: a tree train/CLASS/IMAGE with"
            " test/ (ImageNet: val/). Or a tar or zips of one; ImageNet's two official tars in a folder."
        ),
    ] = None,
    data: Annotated[Path, typer.Option(help="Where the .beton files go.")] = Path("data"),
    side: Annotated[
        int, typer.Option(help="ImageNet: pixels of a training image's longer side.", min=32, max=65535)
    ] = 500,
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
    if dataset not in DATASETS:
        print(f"error: dataset: {dataset!r} (allowed: {', '.join([*DATASETS, _VERIFY])})", file=sys.stderr)
        raise typer.Exit(2)
    try:
        from crt.data.convert import convert
        from crt.data.progress import say

        not_written = convert(DATASETS[dataset], source, data, side, quality, val_labels)
    except ValueError as error:
        not_written = [str(error)]
    except KeyboardInterrupt:
        kept = (
            "what is done is kept: the same command goes on" if DATASETS[dataset].resize else "nothing is half written"
        )
        print(f"interrupted ({kept})", file=sys.stderr)
        raise typer.Exit(130) from None
    for line in not_written:
        say(f"error: {line}", sys.stderr)
    if not_written:
        raise typer.Exit(2)


if __name__ == "__main__":
    app()
