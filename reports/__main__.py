"""Report a manifest: `python -m reports manifests/table4.yaml`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.command import Overrides, application, report_errors

app = application()


@app.command()
def main(
    manifest: Annotated[Path, typer.Argument(help="The YAML file of a table, or a shipped one's name: table4.")],
    runs: Annotated[
        list[Path], typer.Option(help="Where the records are; given several times, each folder has its own tables.")
    ] = [Path("runs")],  # noqa: B006
    quick: Annotated[bool, typer.Option("--quick", help="Of what was submitted with --quick.")] = False,
    overrides: Overrides = [],  # noqa: B006
    csv: Annotated[
        Path | None, typer.Option(help="Write the times here, other tables beside, in full precision.")
    ] = None,
    latex: Annotated[Path | None, typer.Option(help="Write the tables here, for booktabs and siunitx.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the report here, as Markdown.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write plots here: p-slowdown.pdf ... of p.pdf (.png, .svg).")
    ] = None,
    allow: Annotated[
        list[str],
        typer.Option(help="Compare times that are unlike in this field, and mark the ratio; again for another."),
    ] = [],  # noqa: B006
) -> None:
    """Print what the records say of a manifest's cells; what is not there is a dash."""
    with report_errors():
        from reports.report import report

        report(manifest, runs, quick, csv, latex, out, plot, allow, overrides)


if __name__ == "__main__":
    app()
