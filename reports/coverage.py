"""Simulate how often the intervals hold the truth: `python -m reports.coverage`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.command import application, report_errors

app = application()


@app.command()
def main(
    replicates: Annotated[int, typer.Option(min=1, help="Simulated studies of each case and number of runs.")] = 4000,
    out: Annotated[Path, typer.Option(help="Folder of intervals.md, .csv and .png.")] = Path("reports/published"),
) -> None:
    """Simulate, and write what came out."""
    with report_errors():
        from reports.interval_coverage import publish

        publish(replicates, out)


if __name__ == "__main__":
    app()
