"""Time what the switches of arithmetic bring, within a budget: `python -m bench.speed`."""

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
        Path | None, typer.Argument(help="The YAML file (default: manifests/speed.yaml, without a GPU speed-cpu.yaml).")
    ] = None,
    methods: Annotated[str | None, typer.Option(help="Only these, by their names, with commas between.")] = None,
    archs: Annotated[str | None, typer.Option(help="Only these, by their names, with commas between.")] = None,
    seconds: Annotated[int, typer.Option(min=1, help="In all; what is not reached is left to the next call.")] = 600,
    runs: Annotated[Path, typer.Option(help="Where records are kept.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Where the .beton files are.")] = Path("data"),
) -> None:
    """Time the studies of a manifest in this process, each as long as its share of the time that is left."""
    with report_errors():
        from bench.commands.speed_study import time_switches
        from bench.measure.gpu_telemetry import device_name

        path = manifest or _MANIFESTS / ("speed-cpu.yaml" if device_name() == "cpu" else "speed.yaml")
        whole, tasks = time_switches(path, methods, archs, seconds, runs, data)
    print(f"{whole} of {tasks} are whole. Report: {command('python', '-m', 'reports', path, '--runs', runs)}")


if __name__ == "__main__":
    app()
