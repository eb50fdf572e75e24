"""All commands under one name: `robust-bench submit table4`, or `python -m bench submit table4`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from bench import attack, cancel, certify, export, import_, similarity, speed, status, submit
from bench.command import application
from crt.data import beton
from reports import __main__ as report

NAME = "robust-bench"
COMMANDS = {
    "data": beton,
    "submit": submit,
    "status": status,
    "cancel": cancel,
    "report": report,
    "certify": certify,
    "attack": attack,
    "speed": speed,
    "similarity": similarity,
    "export": export,
    "import": import_,
}


class _Commands(typer.core.TyperGroup):
    """The group of commands. A flag without a default is set to False.

    Typer imports pydantic to handle a missing default, and that import takes longer than printing the help.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        if "_ROBUST_BENCH_COMPLETE" in os.environ:
            # Typer wraps descriptions at this width, and fish reads each line as one completion.
            os.environ["TERMINAL_WIDTH"] = "1000"
        return super().main(*args, **kwargs)

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        for param in params:
            if param.default is None:
                param.default = False
        return params


app = application(cls=_Commands, no_args_is_help=True, add_completion=True)


def _print_version(requested: bool) -> None:
    if not requested:
        return
    import tomllib
    from importlib.metadata import version

    checkout = Path(__file__).parents[1] / "pyproject.toml"
    # A package installed next to a checkout may have another version than the checkout.
    project = tomllib.loads(checkout.read_text(encoding="utf-8"))["project"] if checkout.exists() else {}
    print(NAME, project.get("version") or version("robust-training-bench"))
    raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and exit.")
    ] = False,
) -> None:
    """One clock for robust training of neural networks: what robustness costs, measured."""


for name, command in COMMANDS.items():
    app.command(name)(command.main)

if __name__ == "__main__":
    # Completion is registered under the name of the installed command, however this module is run.
    app(prog_name=NAME)
