"""Messages of long work on data: its progress and its result."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from crt import screen
from crt.text import printable

SECONDS = 10.0
"""Between two plain lines, where there is no terminal."""
Item = TypeVar("Item")


def say(text: str, file: TextIO | None = None) -> None:
    """Print one line; what it cannot hold or the terminal cannot show, in a file's name for one, is escaped."""
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    print(printable(text).encode(encoding, "look-alike").decode(encoding), file=file, flush=True)


@contextmanager
def progress(description: str, total: int | None, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show on stderr how many of `total` are done: a bar on a terminal, else a line every 10 seconds.

    It gives the function to call with the number done. Where `total` is None, it is not known.
    """
    if sys.stderr.isatty():
        text = TextColumn("{task.description}", markup=False)
        whole = " of {task.total:,.0f} " if total else " "
        count = TextColumn("{task.completed:,.0f}" + whole + unit, markup=False)
        with Progress(text, BarColumn(), count, TimeRemainingColumn(), console=screen.errors()) as bar:
            task = bar.add_task(printable(description), total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        said = time.monotonic()

        def line(done: int) -> None:
            nonlocal said
            if time.monotonic() - said >= SECONDS:
                said = time.monotonic()
                say(f"{description}: {done:,}{f' of {total:,}' if total else ''} {unit}", sys.stderr)

        yield line


def track(items: Iterable[Item], description: str, total: int, unit: str = "images") -> Iterator[Item]:
    """The items, while their number is shown as `progress` shows it."""
    with progress(description, total, unit) as advance:
        for done, item in enumerate(items):
            advance(done)
            yield item
        advance(total)
