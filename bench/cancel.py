"""Take a manifest's jobs out of the queue: `python -m bench.cancel manifests/table4.yaml`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.command import Overrides, application, report_errors

app = application()


@app.command()
def main(
    manifest: Annotated[Path, typer.Argument(help="The YAML file of a table, or a shipped one's name: table4.")],
    runs: Annotated[Path, typer.Option(help="Where the records are.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Where the .beton files are.")] = Path("data"),
    quick: Annotated[bool, typer.Option("--quick", help="Of what was submitted with --quick.")] = False,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Cancel what runs or waits; what is recorded stays, and submitting again goes on from it."""
    with report_errors():
        from bench.plan.cancellation import cancel

        print(cancel(manifest, runs.absolute(), data.absolute(), quick, overrides))


if __name__ == "__main__":
    app()
