"""Write a dataset's missing .beton files."""

import sys
from pathlib import Path

from bench.jobs.lease import JobPaths, take_lease
from crt.data import Dataset
from crt.data.convert import convert
from crt.text import printable


def run_prepare(dataset: Dataset, source: Path, place: JobPaths) -> None:
    """Write the dataset's train and test files from the images in `source`.

    ValueError where `source` holds other images than the dataset's.
    """
    with take_lease(place.data / f"{dataset.name}.jsonl", place):
        for line in convert(dataset, source, place.data):
            print(f"warning: {printable(line)}", file=sys.stderr)
