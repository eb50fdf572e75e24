"""Measure the speedup of each compute setting within a time budget: `python -m bench.speed`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.command import application, report_errors
from crt.text import command

_MANIFESTS = Path("manifests")

app = application()


@app.command()
def main(
    manifest: Annotated[
        Path | None,
        typer.Argument(help="The YAML file (default: manifests/speed.yaml, or speed-cpu.yaml without a GPU)."),
    ] = None,
    methods: Annotated[str | None, typer.Option(help="Only these names, separated by commas.")] = None,
    archs: Annotated[str | None, typer.Option(help="Only these names, separated by commas.")] = None,
    seconds: Annotated[
        int, typer.Option(min=1, help="Time budget in all; the next call continues with the rest.")
    ] = 600,
    runs: Annotated[Path, typer.Option(help="Folder of the records.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Folder of the .beton files.")] = Path("data"),
) -> None:
    """Time a manifest's studies in this process; each gets an equal share of the remaining time."""
    with report_errors():
        from bench.commands.speed_study import time_switches
        from bench.measure.gpu_telemetry import device_name

        path = manifest or _MANIFESTS / ("speed-cpu.yaml" if device_name() == "cpu" else "speed.yaml")
        finished, tasks = time_switches(path, methods, archs, seconds, runs, data)
    report = command("python", "-m", "reports", path, "--runs", runs)
    print(f"{finished} of {tasks} timing tasks are complete. Report: {report}")


if __name__ == "__main__":
    app()
