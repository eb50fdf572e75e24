"""Add the records of a bundle to a runs folder: `python -m bench.import_ table4.zip --runs theirs`.

The name has an underscore because `import` is a word of Python's.
"""

from pathlib import Path
from typing import Annotated

import typer

from bench.command import application, report_errors, warnings_as_notes
from crt.text import printable

app = application()


@app.command()
def main(
    bundle: Annotated[Path, typer.Argument(help="The bundle: a zip that bench.export wrote.")],
    runs: Annotated[Path, typer.Option(help="Folder to add the records to; best one of their own.")],
) -> None:
    """Check everything in a bundle, then add its records; cells that are there with other records are refused."""
    with report_errors(), warnings_as_notes():
        from bench.commands.import_bundle import import_bundle

        for line in import_bundle(bundle, runs):
            print(printable(line))


if __name__ == "__main__":
    app()
