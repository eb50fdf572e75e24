"""Compare trained networks with a teacher: `python -m bench.similarity manifests/duet/table1.yaml`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.command import Overrides, application, report_errors

app = application()


@app.command()
def main(
    manifest: Annotated[
        Path, typer.Argument(help="The manifest: a YAML file, or the name of a shipped one, such as table4.")
    ],
    teacher: Annotated[
        str | None,
        typer.Option(help="Part of the id of the cell to compare with (default: the manifest's only teacher)."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the trained networks.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Folder of the .beton files.")] = Path("data"),
    images: Annotated[int, typer.Option(min=2, help="Number of test images, from the first.")] = 500,
    quick: Annotated[bool, typer.Option("--quick", help="Compare the networks submitted with --quick.")] = False,
    overrides: Overrides = [],  # noqa: B006
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file, in full precision.")] = None,
) -> None:
    """Compare a manifest's trained networks with a teacher, and print their Lipschitz constants."""
    with report_errors():
        from bench.commands import teacher_similarity

        teacher_similarity.report(manifest, teacher, runs, data, images, quick, csv, overrides)


if __name__ == "__main__":
    app()
