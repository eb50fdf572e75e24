"""Cancel a manifest's queued and running jobs: `python -m bench.cancel manifests/table4.yaml`."""

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
    runs: Annotated[Path, typer.Option(help="Folder of the records.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Folder of the .beton files.")] = Path("data"),
    quick: Annotated[bool, typer.Option("--quick", help="Cancel the jobs submitted with --quick.")] = False,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Cancel running and waiting jobs; records are kept, and submitting again resumes from them."""
    with report_errors():
        from bench.plan.cancellation import cancel

        print(cancel(manifest, runs.absolute(), data.absolute(), quick, overrides))


if __name__ == "__main__":
    app()
