"""Check this project on a new GPU in nine minutes at most: `python -m bench.gpu_check`, or `make gpu-check`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.command import application, report_errors

app = application()


@app.command()
def main(
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Take the same steps on the CPU, reduced, without those that need a GPU.")
    ] = False,
    runs: Annotated[Path, typer.Option(help="Folder of the results: its gpu-check/.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Folder of the digits' .beton files.")] = Path("data"),
) -> None:
    """Run the GPU's tests, first steps, energy, speed and certification; the next call continues with what is left."""
    with report_errors():
        from bench.commands.gpu_check import check, steps

        folder = runs.absolute() / ("gpu-check-rehearsal" if rehearse else "gpu-check")
        failed = check(steps(rehearse, folder, data.absolute()), folder)
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    app()
