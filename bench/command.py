"""Shared by every command: its application, errors as one line, exit codes."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from crt.text import printable, replace_missing_characters
from launchers.environment import cleaned

Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="PLACE=VALUE", help="Change the manifest: recipe.epochs=3; again for another place."),
]


class _Application(typer.Typer):
    """A command line that no terminal's encoding ends."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        replace_missing_characters()
        return super().__call__(*args, **options)


def application(**options: Any) -> typer.Typer:
    """A command line whose help needs no more than typer itself to be printed; `options` are Typer's own."""
    plain = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}
    return _Application(**plain | options)


def set_options(overrides: list[str]) -> list[str]:
    """The options that pass overrides on to another command."""
    return [word for words in overrides for word in ("--set", words)]


@contextmanager
def report_errors() -> Iterator[None]:
    """Within: an error of the user ends the command with one line and exit code 2, ctrl-C with exit code 130."""
    try:
        # A command is one process of its own: it takes neither a rank from torchrun nor a job from an allocation.
        with cleaned():
            yield
    except ValueError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Within: a warning is one line for the user, without the place in the code that it comes from."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"note: {printable(str(message))}", file=sys.stderr)
        yield


def _fail(message: str) -> None:
    print(f"error: {printable(message)}", file=sys.stderr)
    raise typer.Exit(2) from None
