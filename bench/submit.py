"""Submit a manifest: `python -m bench.submit manifests/table4.yaml`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench.command import Overrides, application, report_errors, uncollected, warnings_as_notes
from bench.plan import devices


class Launcher(StrEnum):
    """Places to run jobs."""

    auto = "auto"
    inline = "inline"
    local = "local"
    slurm = "slurm"


app = application()


def _print_schema(requested: bool) -> None:
    if not requested:
        return
    with report_errors():
        from bench.manifest.json_schema import schema_text

        print(schema_text(), end="")
    raise typer.Exit


@app.command()
def main(
    manifest: Annotated[
        Path, typer.Argument(help="The manifest: a YAML file, or the name of a shipped one, such as table4.")
    ],
    launcher: Annotated[Launcher, typer.Option(help="auto: slurm if a cluster answers, else local.")] = Launcher.auto,
    profile: Annotated[
        Path | None,
        typer.Option(help="Resources to request from Slurm: a YAML file, or a100, h100, default (the default)."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of records and weights.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Folder of the .beton files.")] = Path("data"),
    quick: Annotated[bool, typer.Option("--quick", help="Reduce the cells to a few minutes on two cores.")] = False,
    only: Annotated[
        str | None, typer.Option(help="Only cells whose id or label contains PATTERN; * and ? stand for any.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only jobs that were tried before and did not finish.")
    ] = False,
    max_gpu_hours: Annotated[
        float | None, typer.Option(min=0, help="Submit nothing if more GPU-hours are expected (hours x ranks).")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help=f"Estimate times for this device: {', '.join(devices.TABLE)}.")
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write events of training for TensorBoard, outside the timed part (default: none)."
        ),
    ] = None,
    overrides: Overrides = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")] = False,
    distinguish: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="With --dry-run: seeds that show a difference of POINTS percentage points between two methods.",
        ),
    ] = None,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema", callback=_print_schema, is_eager=True, help="Print the JSON schema of manifests and exit."
        ),
    ] = False,
) -> None:
    """Train, time and evaluate the cells of a manifest that the runs folder does not hold yet."""
    with report_errors(), warnings_as_notes(), uncollected():
        from bench.plan.submission import submit

        failures = submit(
            manifest,
            launcher,
            profile,
            runs,
            data,
            quick,
            only,
            failed,
            max_gpu_hours,
            device,
            tensorboard,
            overrides,
            dry_run,
            distinguish,
        )
    raise typer.Exit(1 if failures else 0)


if __name__ == "__main__":
    app()
