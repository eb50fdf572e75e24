"""Disturbances of storage: a disk that is full, a runs folder that is gone for a while, clocks of file servers."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random

from tests.chaos.run import Run


def fill_disk(run: Run, rng: Random) -> str | None:
    left, seconds = rng.choice((0, 0, 2_000, 20_000, 400_000)), rng.uniform(1, 5)
    if run.faults & {"disk", "room"} or not run.disk.fill(left):
        return None
    run.later(seconds, "room", run.disk.free)
    return f"disk filled up to {left:,} bytes for {seconds:.1f} s"


def rename_runs(run: Run, rng: Random) -> str | None:
    return _away(run, rng, "runs folder renamed away", run.disk.rename_away, run.disk.rename_back)


def unmount_runs(run: Run, rng: Random) -> str | None:
    return _away(run, rng, "mount of the runs folder moved away", run.disk.unmount, run.disk.mount_again)


def _away(run: Run, rng: Random, words: str, away: Callable[[], None], back: Callable[[], None]) -> str | None:
    seconds = rng.uniform(0.3, 4)
    if run.faults & {"disk", "room"}:
        return None
    away()
    run.later(seconds, "disk", back)
    return f"{words} for {seconds:.1f} s"


def shift_claim(run: Run, rng: Random) -> str | None:
    """Set the time of a claim's file, as a file server does whose clock jumps."""
    claims = sorted(run.user.runs.rglob("*.claim"))
    if not claims or "disk" in run.faults:
        return None
    claim, seconds = rng.choice(claims), rng.choice((-1e8, -3600, 3600, 1e8))
    with suppress(FileNotFoundError):
        now = time.time()
        os.utime(claim, (now + seconds, now + seconds))
        return (
            f"time of {claim.parent.name}/{claim.name} set {abs(seconds):,.0f} s {'back' if seconds < 0 else 'ahead'}"
        )
    return None
