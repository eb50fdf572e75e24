"""Parts shared by all commands: the typer application, one-line errors and exit codes."""

import errno
import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from crt.text import printable, replace_missing_characters
from launchers.environment import cleaned

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BEGINNING, _END = 2000, 500
"""Characters of a long message that are printed; its middle is a value that nobody reads."""
Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="PLACE=VALUE", help="Change a value of the manifest: recipe.epochs=3; repeatable."),
]


class _Application(typer.Typer):
    """A command line that replaces characters which the terminal's encoding lacks, instead of failing."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        replace_missing_characters()
        return super().__call__(*args, **options)


def application(**options: Any) -> typer.Typer:
    """A command line that prints its help with typer alone; `options` are passed on to Typer."""
    defaults = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}
    return _Application(**defaults | options)


def set_options(overrides: list[str]) -> list[str]:
    """Command-line words that repeat the overrides in another command."""
    return [word for words in overrides for word in ("--set", words)]


@contextmanager
def uncollected() -> Iterator[None]:
    """Within this context, garbage is not collected: what a command imports stays, and looking through it takes time.

    The inline launcher ends this for the jobs that it runs.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def report_errors() -> Iterator[None]:
    """Within this context, a user's error ends the command with one line and exit code 2; ctrl-C exits with 130."""
    try:
        # A command is a single process: it must ignore ranks set by torchrun and the job of a Slurm allocation.
        with cleaned():
            yield
    except ValueError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None and error.errno not in _FULL:
            raise
        _fail(f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Within this context, a warning is printed as one line, without its place in the code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"note: {printable(str(message))}", file=sys.stderr)
        yield


def _fail(message: str) -> None:
    text = printable(message)
    if len(text) > _BEGINNING + _END:
        # The file and the place stand at the beginning, the reason at the end.
        text = f"{text[:_BEGINNING]} … {text[-_END:]}"
    print(f"error: {text}", file=sys.stderr)
    raise typer.Exit(2) from None
