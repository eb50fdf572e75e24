"""Measure the speedup of compute settings, or over plain PyTorch, within a time budget: `python -m bench.speed`."""

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
        typer.Argument(
            help="The YAML file (default: speed.yaml, without a GPU speed-cpu.yaml; with --against speed-against.yaml)."
        ),
    ] = None,
    methods: Annotated[str | None, typer.Option(help="Only these names, separated by commas.")] = None,
    archs: Annotated[str | None, typer.Option(help="Only these names, separated by commas.")] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="plain-eager", help="Time each method beside its restatement in plain PyTorch instead."),
    ] = None,
    seconds: Annotated[
        int, typer.Option(min=1, help="Time budget in all; the next call continues with the rest.")
    ] = 600,
    runs: Annotated[Path, typer.Option(help="Folder of the records.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Folder of the .beton files.")] = Path("data"),
    count: Annotated[
        bool,
        typer.Option("--count", help="Time nothing: count the launches of each arm's training step, on any device."),
    ] = False,
    page: Annotated[
        Path | None, typer.Option(help="With --count: write the table to this Markdown file, and as CSV beside it.")
    ] = None,
) -> None:
    """Time a manifest's studies in this process; each gets an equal share of the remaining time."""
    with report_errors():
        if count and against:
            raise ValueError("--count: not with --against, which times")
        if count:
            from bench.commands.count_launches import count_arms

            count_arms(manifest or _MANIFESTS / "speed.yaml", methods, archs, page)
            return
        if page is not None:
            raise ValueError("--page: only with --count")
        from bench.commands.restatements import check_against, time_restatements
        from bench.commands.speed_study import time_switches
        from bench.measure.gpu_telemetry import device_name

        check_against(against)
        default = "speed-cpu.yaml" if device_name() == "cpu" else "speed.yaml"
        path = manifest or _MANIFESTS / ("speed-against.yaml" if against else default)
        work = time_restatements if against else time_switches
        finished, tasks = work(path, methods, archs, seconds, runs, data)
    report = command("python", "-m", "reports", path, "--runs", runs)
    print(f"{finished} of {tasks} timing tasks are complete. Report: {report}")


if __name__ == "__main__":
    app()
