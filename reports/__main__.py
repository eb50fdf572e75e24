"""Report a manifest: `python -m reports manifests/table4.yaml`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.command import Overrides, application, report_errors, warnings_as_notes

app = application()


@app.command()
def main(
    manifests: Annotated[
        list[Path],
        typer.Argument(metavar="MANIFEST...", help="YAML file of a table, or the name of a shipped one: table4."),
    ],
    runs: Annotated[
        list[Path], typer.Option(help="Folder of the records; repeat it for several folders, each with its own tables.")
    ] = [Path("runs")],  # noqa: B006
    quick: Annotated[bool, typer.Option("--quick", help="Report the cells that were submitted with --quick.")] = False,
    overrides: Overrides = [],  # noqa: B006
    csv: Annotated[
        Path | None,
        typer.Option(help="Write all results to this file for analysis, one observation a row, in full precision."),
    ] = None,
    wide_csv: Annotated[
        Path | None,
        typer.Option(help="Write the table of times to this file, and each other table beside it, in full precision."),
    ] = None,
    latex: Annotated[Path | None, typer.Option(help="Write the tables to this file, for booktabs and siunitx.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the report to this file, as Markdown.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write plots beside this file: p.pdf gives p-slowdown.pdf ... (or .png, .svg).")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write the report to this file, as one HTML page; to a folder: a page for each manifest, and a board."
        ),
    ] = None,
    allow: Annotated[
        list[str],
        typer.Option(help="Divide times that differ in this field, and mark the ratio; repeat it for other fields."),
    ] = [],  # noqa: B006
    against: Annotated[
        str | None,
        typer.Option(
            metavar="RUNS|COMMIT",
            help="Compare times with those of a runs folder or recorded commit; exit code 1 if a cell became slower.",
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(help="Report the time until the monitored robust accuracy reaches this percentage."),
    ] = None,
    grid_intensity: Annotated[
        float | None, typer.Option(help="Report kg of CO2, from the recorded energy, at so many g of CO2 per kWh.")
    ] = None,
    hourly_rate: Annotated[
        float | None, typer.Option(help="Report prices of trainings at this price of one GPU for an hour.")
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Show all columns, also those for which the terminal is too narrow.")
    ] = False,
) -> None:
    """Print the results of the manifests' cells; a dash stands for a missing value."""
    with report_errors(), warnings_as_notes():
        from bench.results.energy import Rates
        from reports.options import Options

        options = Options(
            runs=runs,
            quick=quick,
            overrides=overrides,
            allow=allow,
            against=against,
            target=target,
            rates=Rates(grid_intensity, hourly_rate),
            wide=wide,
            csv=csv,
            wide_csv=wide_csv,
            latex=latex,
            out=out,
            plot=plot,
            html=html,
        )
        if len(manifests) > 1 or (html and not html.suffix):
            from reports.site import site

            slower = site(manifests, options)
        else:
            from reports.report import report

            slower = report(manifests[0], options).slower
    raise typer.Exit(1 if slower else 0)


if __name__ == "__main__":
    app()
