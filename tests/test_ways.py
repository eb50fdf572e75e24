"""The ways of values that CONTRIBUTING.md lists are those that the code takes, and return to no file often."""

import re
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
from typer.testing import CliRunner

import bench.submit
import reports.__main__
from bench.jobs.lease import JobPaths
from bench.jobs.train import run_cell
from bench.manifest import read_manifest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGES = tuple(f"{ROOT}/{package}/" for package in ("bench", "crt", "launchers", "reports"))
MANIFEST = """
title: one cell
dataset: digits
loader: device
threat: {norm: linf, eps: 0.1}
arch: cnn2c2f
evals: [PGD: {steps: 1, images: 20}]
images: 64
cells: [{method: Standard, recipe: {epochs: 1, batch_size: 32, lr: 0.02}}]
"""
Stop = tuple[str, str]
"""File and qualified name of a function."""


def listed(title: str) -> list[Stop]:
    """The functions that the page lists under a title, one line for each file that is entered."""
    section = PAGE.split("## Follow a value")[1].split("\n## ")[0]
    lines = re.search(rf"\*\*{title}\*\*.*?\n\n((?:\d+\. .*\n)+)", section)[1].splitlines()
    entries = [re.findall(r"`([^`]+)`", line) for line in lines]
    return [(file, name) for file, *names in entries for name in names]


def traced(work) -> dict[Stop, list[Stop]]:
    """The project's functions in the order of their first calls, each with its callers, the outermost first."""
    calls: dict[Stop, list[Stop]] = {}

    def stop(code) -> Stop | None:
        own = code.co_filename.startswith(PACKAGES) and not re.search(
            r"<(lambda|genexpr|.*comp|module)>", code.co_qualname
        )
        return (str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname) if own else None

    def profile(frame, event, _):
        if event == "call" and (place := stop(frame.f_code)) and place not in calls:
            callers, above = [], frame.f_back
            while above:
                if caller := stop(above.f_code):
                    callers.insert(0, caller)
                above = above.f_back
            calls[place] = callers

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a manifest, the data of its cell and its records."""
    folder = tmp_path_factory.mktemp("ways")
    (folder / "one.yaml").write_text(MANIFEST)
    done = CliRunner().invoke(
        bench.submit.app, [*words(folder), "--data", str(folder / "data"), "--launcher", "inline"]
    )
    assert done.exit_code == 0, done.output
    return folder


def words(folder: Path) -> list[str]:
    return [str(folder / "one.yaml"), "--runs", str(folder / "runs")]


def submitted(folder: Path) -> None:
    CliRunner().invoke(bench.submit.app, [*words(folder), "--dry-run"])


def reported(folder: Path) -> None:
    CliRunner().invoke(reports.__main__.app, words(folder))


def trained(folder: Path) -> None:
    (cell,) = read_manifest(folder / "one.yaml").cells
    run_cell(cell, JobPaths(runs=folder / "again", data=folder / "data", process="shared"))


@pytest.mark.parametrize(
    ("title", "work"),
    [
        ("From a manifest to its cells", submitted),
        ("From a record to a table", reported),
        ("From a batch to its loss", trained),
    ],
)
def test_a_listed_way_is_taken_and_is_complete(place, title, work):
    calls, way = traced(lambda: work(place)), listed(title)
    order = list(calls)
    assert [stop for stop in way if stop not in calls] == []
    assert way == sorted(way, key=order.index), [stop for stop in order if stop in way]
    # Nothing is left out: every caller of a listed function, from the first one on, is listed too.
    callers = {caller for stop in way for caller in calls[stop] if way[0] in calls[stop] or caller == way[0]}
    assert sorted(callers - set(way)) == []
    entries = Counter(file for file, _ in groupby(file for file, _ in way))
    assert max(entries.values()) <= 2, entries
