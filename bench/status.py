"""Progress of a manifest's jobs: `python -m bench.status manifests/table4.yaml`."""

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
    quick: Annotated[bool, typer.Option("--quick", help="Show the jobs submitted with --quick.")] = False,
    overrides: Overrides = [],  # noqa: B006
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh every few seconds until no job runs or waits.")
    ] = False,
) -> None:
    """Show which jobs are finished, running, waiting or failed, and why."""
    with report_errors():
        from bench.plan import job_states

        job_states.report(manifest, runs.absolute(), data.absolute(), quick, watch, overrides)


if __name__ == "__main__":
    app()
