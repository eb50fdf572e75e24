"""Messages about long work on data: its progress and its result."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from crt import screen
from crt.text import printable

SECONDS = 10.0
"""Seconds between two plain lines where there is no terminal."""
Item = TypeVar("Item")


def say(text: str, file: TextIO | None = None) -> None:
    """Print one line; unprintable characters, such as some in a file's name, are escaped."""
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    print(printable(text).encode(encoding, "look-alike").decode(encoding), file=file, flush=True)


@contextmanager
def progress(description: str, total: int | None, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show on stderr how many of `total` are done: a bar on a terminal, else a line every 10 seconds.

    Yields the function to call with the number done. `total` is None if it is unknown.
    """
    if sys.stderr.isatty():
        text = TextColumn("{task.description}", markup=False)
        whole = " of {task.total:,.0f} " if total else " "
        count = TextColumn("{task.completed:,.0f}" + whole + unit, markup=False)
        with Progress(text, BarColumn(), count, TimeRemainingColumn(), console=screen.errors()) as bar:
            task = bar.add_task(printable(description), total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        printed = time.monotonic()

        def line(done: int) -> None:
            nonlocal printed
            if time.monotonic() - printed >= SECONDS:
                printed = time.monotonic()
                say(f"{description}: {done:,}{f' of {total:,}' if total else ''} {unit}", sys.stderr)

        yield line


def track(items: Iterable[Item], description: str, total: int, unit: str = "images") -> Iterator[Item]:
    """Yield the items and show their number with `progress`."""
    with progress(description, total, unit) as advance:
        for done, item in enumerate(items):
            advance(done)
            yield item
        advance(total)
