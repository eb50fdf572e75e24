"""Bundle a manifest's records to send them: `python -m bench.export manifests/table4.yaml --to table4.zip`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.command import Overrides, application, report_errors, warnings_as_notes
from crt.text import printable

app = application()


@app.command()
def main(
    manifest: Annotated[
        Path, typer.Argument(help="The manifest: a YAML file, or the name of a shipped one, such as table4.")
    ],
    to: Annotated[Path, typer.Option(help="The bundle to write: a file FILE.zip.")],
    runs: Annotated[Path, typer.Option(help="Folder of the records.")] = Path("runs"),
    quick: Annotated[bool, typer.Option("--quick", help="Export the cells that were submitted with --quick.")] = False,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Write the records of a manifest's cells, with digests and provenance and without weights, to one file."""
    with report_errors(), warnings_as_notes():
        from bench.commands.export_bundle import export

        print(printable(export(manifest, runs, to, quick, overrides)))


if __name__ == "__main__":
    app()
