"""Simulate how often the confidence intervals contain the true value: `python -m reports.coverage`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.command import application, report_errors

app = application()


@app.command()
def main(
    replicates: Annotated[
        int, typer.Option(min=1, help="Simulated studies per case and number of runs or seeds.")
    ] = 4000,
    out: Annotated[Path, typer.Option(help="Folder for the pages, CSV files and plots.")] = Path("reports/published"),
) -> None:
    """Simulate, and write the coverage of each interval."""
    with report_errors():
        from reports import anytime_coverage, front_coverage, interval_coverage, precision_coverage, seed_coverage

        for page in (interval_coverage, precision_coverage, seed_coverage, front_coverage, anytime_coverage):
            page.publish(replicates, out)


if __name__ == "__main__":
    app()
