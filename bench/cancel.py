"""Take a manifest's jobs out of the queue: `python -m bench.cancel manifests/table4.yaml`."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from bench import manifest as manifests
from bench.plan import counted
from bench.status import states
from launchers.states import ask, check, queued

app = typer.Typer(add_completion=False)

_PATIENCE = 60.0
"""Seconds that cancelled jobs get to end, so that submitting again finds them gone."""


@app.command()
def main(
    manifest: Annotated[Path, typer.Argument(help="The YAML file of a table.")],
    runs: Annotated[Path, typer.Option(help="Where the records are.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Where the .beton files are.")] = Path("data"),
    quick: Annotated[bool, typer.Option("--quick", help="Of what was submitted with --quick.")] = False,
) -> None:
    """Cancel what runs or waits; what is recorded stays, and submitting again goes on from it."""
    try:
        asked = manifests.read(manifest, quick)
        _check_slurm()
        found, _ = states(asked, runs.absolute(), data.absolute())
        jobs = sorted({state.id for state in found if state.word in ("running", "waiting")})
        if jobs:
            ask("scancel", *jobs)
        until = time.monotonic() + _PATIENCE
        while (left := set(jobs) & set(queued()[0])) and time.monotonic() < until:
            time.sleep(0.5)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    ending = f" ({len(left)} have not ended yet)" if left else ""
    print(f"cancelled {counted(len(jobs))}{ending}" if jobs else "nothing of it is queued")


def _check_slurm() -> None:
    try:
        check()
    except ValueError as error:
        raise ValueError(f"{error} (what runs on this machine ends with ctrl-C, where it was started)") from None


if __name__ == "__main__":
    app()
