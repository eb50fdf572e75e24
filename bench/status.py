"""How far a manifest is: `python -m bench.status manifests/table4.yaml`."""

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
    watch: Annotated[
        bool, typer.Option("--watch", help="Again every few seconds, until nothing runs or waits.")
    ] = False,
) -> None:
    """Say which jobs are finished, run, wait or failed, and why."""
    with report_errors():
        from bench.plan import job_states

        job_states.report(manifest, runs.absolute(), data.absolute(), quick, watch, overrides)


if __name__ == "__main__":
    app()
