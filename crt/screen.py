"""Consoles on a terminal, which show text unchanged, never as markup."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

from rich.console import Console
from rich.text import Text

from crt.text import printable

WIDTH = 80
"""Width of tables in a file or a pipe."""
_PATIENCE = 2.0
"""Seconds of work that need no word of progress."""


class Screen(Console):
    """A console that interprets no part of a text as markup, an emoji's name or a control sequence."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Printed text, including table cells and titles, in characters that the encoding has."""
        # This precedes measuring, since a replacement may be longer than the character.
        shown = printable(text, keep="\n\t").encode(self.encoding, "look-alike").decode(self.encoding)
        return super().render_str(shown, **options)


def output() -> Screen:
    """Console of standard output."""
    return Screen(width=None if sys.stdout.isatty() else WIDTH)


def errors() -> Screen:
    """Console of standard error, for progress bars; it shows nothing where it is no terminal."""
    return Screen(stderr=True, quiet=not sys.stderr.isatty())


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on standard error what goes on, if it is a terminal and the work takes longer than 2 s."""
    status = errors().status(what)
    timer = Timer(_PATIENCE, status.start)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
