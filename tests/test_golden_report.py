"""Reports of frozen records stay as they are, letter for letter: text, Markdown, LaTeX, CSV, and the numbers of plots.

`python tests/golden/write_report.py` writes the outputs anew where a change is meant. Numbers in full precision, those
of CSV files and plots, may differ by 1e-9: the last digits of logarithms, powers and sums depend on the processor's
vector instructions.
"""

import csv
import hashlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench import records

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
from write_report import FROZEN, HOME, REPORTS, write  # noqa: E402

EXPECTED = HOME / "expected"
PACKAGES = {"autoattack": "pyautoattack"}
"""Reports whose manifest needs a package that may not be installed."""


def frozen() -> dict[str, str]:
    """The digest of every frozen file."""
    files = sorted(file for part in FROZEN for file in (HOME / part).rglob("*") if file.is_file())
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    before, folder = frozen(), tmp_path_factory.mktemp("golden")
    write(folder)
    assert frozen() == before
    return folder


def names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def same(value: Any, expected: Any) -> bool:
    """True where texts are equal, and numbers to 1e-9."""
    if isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(expected, dict):
        return value.keys() == expected.keys() and all(same(value[key], expected[key]) for key in expected)
    if value == expected:
        return True
    try:
        return float(value) == pytest.approx(float(expected), rel=1e-9, abs=1e-12, nan_ok=True)
    except (TypeError, ValueError):
        return False


def content(file: Path) -> Any:
    with open(file, encoding="utf-8", newline="") as opened:
        if file.suffix == ".csv":
            return list(csv.reader(opened))
        return json.load(opened) if file.suffix == ".json" else opened.read()


@pytest.mark.parametrize("name", REPORTS)
def test_report_is_as_it_was(written, name):
    if name in PACKAGES and not find_spec(PACKAGES[name]):
        pytest.skip(f"{PACKAGES[name]} is not installed")
    assert names(written / name) == names(EXPECTED / name)
    for file in sorted(names(EXPECTED / name)):
        found, expected = content(written / name / file), content(EXPECTED / name / file)
        if isinstance(expected, str):
            assert found == expected, file
        else:
            assert same(found, expected), file


def test_frozen_records_hold_every_kind():
    files = [file for part in ("runs", "gpu-runs") for file in (HOME / part).rglob("*.jsonl")]
    kinds = {record.kind for file in files for record in records.read(file)}
    assert kinds == {"start", "epoch", "curve", "phases", "made", "verdict", "drawn", "fail", "end"}
    assert all(file.stat().st_size < 500_000 for file in HOME.rglob("*") if file.is_file())


def test_every_table_and_plot_is_among_the_outputs():
    csvs = {file.stem.removeprefix("report").removeprefix("-") for file in EXPECTED.rglob("report*.csv")}
    plots = {file.stem.removeprefix("report-") for file in EXPECTED.rglob("*.json")}
    assert csvs == {"", *"robustness means factors scaling speed certification masking comparisons".split()} | set(
        "certificates monitored sweeps teachers claims energy trainings seeds seed_differences repetitions"
        " robustness_cost probabilities schedule epoch_costs".split()
    )
    assert plots == set(
        "slowdown cumulative scaling certified probability schedule progress tradeoff stacked sweep complexity"
        " curves".split()
    )


def test_numbers_may_differ_in_their_last_digits_and_texts_may_not():
    assert same([["a", "1.0000000000001"]], [["a", "1"]]) and not same(["1.00001"], ["1"])
    assert not same(["b"], ["a"]) and not same(["a", "b"], ["a"])
