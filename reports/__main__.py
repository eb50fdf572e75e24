"""Report a manifest: `python -m reports manifests/table4.yaml`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import manifest as manifests
from reports import render, tables
from reports.load import load

app = typer.Typer(add_completion=False)


@app.command()
def main(
    manifest: Annotated[Path, typer.Argument(help="The YAML file of a table.")],
    runs: Annotated[
        list[Path], typer.Option(help="Where the records are; given several times, each folder has its own tables.")
    ] = [Path("runs")],  # noqa: B006
    quick: Annotated[bool, typer.Option("--quick", help="Report what was submitted with --quick.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the timing table here, in full precision.")] = None,
    latex: Annotated[Path | None, typer.Option(help="Write the tables here, for booktabs.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the report here, as Markdown.")] = None,
) -> None:
    """Print what the records say of a manifest's cells; what is not there is a dash."""
    try:
        _report(manifest, runs, quick, csv, latex, out)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(2) from None


def _report(path: Path, runs: list[Path], quick: bool, csv: Path | None, latex: Path | None, out: Path | None) -> None:
    manifest = manifests.read(path, quick)
    measured = load(manifest, list(dict.fromkeys(runs)))
    timing, robustness = tables.timing(manifest, measured), tables.robustness(measured)
    lines, grids = render.head(manifest, measured), render.grids(timing, robustness)
    console = Console() if sys.stdout.isatty() else Console(width=160)
    render.show(console, manifest.title, lines, grids)
    if not any(m.starts for m in measured):
        flag = " --quick" if quick else ""
        console.print(
            f"No records in {', '.join(map(str, runs))} yet: python -m bench.submit {path}{flag}",
            soft_wrap=True,
            highlight=False,
        )
    if csv:
        written = [(csv, timing)]
        if not robustness.empty:
            written.append((csv.with_name(f"{csv.stem}-robustness.csv"), robustness))
        for file, frame in written:
            frame.to_csv(file, index=False)
            console.print(f"wrote {file}", soft_wrap=True, highlight=False)
    for file, text in ((out, render.markdown(manifest.title, lines, grids)), (latex, render.latex(grids))):
        if file:
            file.write_text(text)
            console.print(f"wrote {file}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    app()
