"""Disturb the project: `python -m tests.chaos --minutes 20`."""

import math
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from bench.command import application, report_errors
from crt import screen
from crt.text import command
from tests.chaos.campaign import Attempt, Campaign
from tests.chaos.kind import Kind
from tests.chaos.kinds import KINDS

_EVERY = 30.0
"""Seconds between two words of progress where standard error is no terminal."""
app = application()


@app.command()
def main(
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar="[KIND]...", help=f"Kinds of disturbances: {', '.join(KINDS)}.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the campaign.")] = 0,
    minutes: Annotated[float, typer.Option(min=0, help="Time after which no attempt begins.")] = math.inf,
    count: Annotated[
        int | None, typer.Option(min=1, help="Disturbances of each kind.", show_default="a full campaign")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Folder of the outcomes; the same one goes on.")] = Path("chaos"),
    only: Annotated[
        int | None, typer.Option(metavar="SEED", help="Repeat the attempt of one seed, of one kind.")
    ] = None,
) -> None:
    """Disturb jobs, daemons and files at random, and check what must hold; exit code 1 if anything does not."""
    with report_errors():
        campaign = Campaign(folder.absolute(), seed, _kinds(kinds), count)
        if only is not None:
            _repeat(campaign, only)
            return
        campaign.resume()
        try:
            _run(campaign, minutes * 60)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on", file=sys.stderr)
        show(campaign, folder)
        if campaign.broken:
            raise typer.Exit(1)


def _kinds(names: list[str] | None) -> list[Kind]:
    """The kinds of these names, by default all that this machine has what it takes for; ValueError for any other."""
    for name in names or ():
        if name not in KINDS:
            raise ValueError(f"{name}: no kind of disturbance (allowed: {', '.join(KINDS)})")
        if problem := KINDS[name].missing():
            raise ValueError(f"{name}: {problem}")
    if names:
        return [KINDS[name] for name in dict.fromkeys(names)]
    for kind in KINDS.values():
        if problem := kind.missing():
            print(f"note: {kind.name} is left out: {problem}", file=sys.stderr)
    return [kind for kind in KINDS.values() if not kind.missing()]


def _repeat(campaign: Campaign, seed: int) -> None:
    """Repeat one attempt and print its outcomes, without adding them to the campaign."""
    if len(campaign.kinds) != 1:
        raise ValueError(f"--only {seed}: is the seed of one kind (allowed: with one KIND)")
    attempt = campaign.attempt(campaign.kinds[0], seed)
    for outcome in attempt.outcomes:
        print(f"BROKEN {outcome.tried}: {outcome.broken}" if outcome.broken else f"held   {outcome.tried}")
    if attempt.broken:
        raise typer.Exit(1)


def _run(campaign: Campaign, seconds: float) -> None:
    console, said = screen.errors(), time.monotonic()
    with Progress(console=console) as progress:
        bars = {
            kind.name: progress.add_task(kind.name, total=campaign.counts[kind.name], completed=campaign.tried(kind))
            for kind in campaign.kinds
        }

        def notify(kind: Kind, attempt: Attempt) -> None:
            nonlocal said
            progress.update(bars[kind.name], completed=campaign.tried(kind))
            for outcome in attempt.broken:
                print(f"{kind.name} {attempt.seed}: {outcome.tried}: {outcome.broken}", file=sys.stderr)
            if console.quiet and time.monotonic() - said > _EVERY:
                said = time.monotonic()
                words = (f"{kind.name} {campaign.tried(kind)}/{campaign.counts[kind.name]}" for kind in campaign.kinds)
                print(", ".join(words), file=sys.stderr)

        campaign.run(seconds, notify)


def show(campaign: Campaign, folder: Path) -> None:
    """Print the table of kinds; then each attempt that broke, its smaller reproduction and the command to repeat it."""
    console = screen.output()
    table = Table("kind", "promise")
    for heading in ("tried", "held", "broken"):
        table.add_column(heading, justify="right")
    for kind in campaign.kinds:
        tried = campaign.tried(kind)
        broken = sum(len(attempt.broken) for attempt in campaign.broken if attempt.kind == kind.name)
        table.add_row(kind.name, kind.promise, f"{tried:,}", f"{tried - broken:,}", f"{broken:,}")
    console.print(table)
    console.print(f"Seed {campaign.seed}, outcomes: {campaign.file}", soft_wrap=True)
    for attempt in campaign.broken:
        for outcome in attempt.broken:
            console.print(f"\n{attempt.kind}, seed {attempt.seed}: {outcome.tried}", soft_wrap=True)
            console.print(f"  broken: {outcome.broken}", soft_wrap=True)
        if shrunk := campaign.shrink(attempt):
            console.print(f"  shrunk: {shrunk}", soft_wrap=True)
        options = ("--only", str(attempt.seed), "--folder", folder)
        console.print(f"  repeat: {command('python', '-m', 'tests.chaos', attempt.kind, *options)}", soft_wrap=True)


if __name__ == "__main__":
    try:
        app()
    except SystemExit as ended:
        sys.stdout.flush()
        sys.stderr.flush()
        # At the exit of Python, Numba's pool of TBB would wait for threads, which are lost where a process has forked.
        os._exit(ended.code if isinstance(ended.code, int) else 0)
