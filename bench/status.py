"""Progress of a manifest's jobs: `python -m bench.status manifests/table4.yaml`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.command import Overrides, application, report_errors, uncollected, warnings_as_notes

_EVERY = 5.0
"""Seconds between two looks with --watch."""
app = application()


@app.command()
def main(
    manifest: Annotated[
        Path, typer.Argument(help="The manifest: a YAML file, or the name of a shipped one, such as table4.")
    ],
    seconds: Annotated[
        float | None, typer.Argument(min=0.1, help="Time between two looks with --watch.", show_default="5")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the records.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Folder of the .beton files.")] = Path("data"),
    quick: Annotated[bool, typer.Option("--quick", help="Show the jobs submitted with --quick.")] = False,
    overrides: Overrides = [],  # noqa: B006
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every SECONDS until all jobs have ended.")] = False,
) -> None:
    """Show which jobs are finished, running, waiting or failed, and why."""
    with report_errors(), warnings_as_notes(), uncollected():
        if seconds is not None and not watch:
            raise ValueError(f"{seconds:g}: seconds apply to --watch only (allowed: --watch {seconds:g})")
        from bench.plan import status_table

        every = (seconds or _EVERY) if watch else None
        status_table.report(manifest, runs.absolute(), data.absolute(), quick, every, overrides)


if __name__ == "__main__":
    app()
