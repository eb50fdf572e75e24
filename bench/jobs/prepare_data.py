"""Write a dataset's missing .beton files."""

import sys
from pathlib import Path

from bench.jobs.lease import JobPaths, take_lease
from crt.data import DATASETS
from crt.data.convert import convert
from crt.text import printable


def run_prepare(name: str, source: Path, place: JobPaths) -> None:
    """Write the dataset's train and test files from the images in `source`.

    ValueError where `source` holds other images than the dataset's.
    """
    with take_lease(place.data / f"{name}.jsonl", place):
        for line in convert(DATASETS[name], source, place.data):
            print(f"warning: {printable(line)}", file=sys.stderr)
