"""A slice of the chaos campaign on files: fuzzed manifests, damaged records, checkpoints and .beton files."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.damage import BYTES, smaller
from tests.chaos.record_damage import damaged, is_object

ROOT = Path(__file__).parents[1]
SLICE = {"manifests": 20, "records": 8, "checkpoints": 16, "betons": 8}
"""Seeds of each kind: a minute in all; `python -m tests.chaos` tries those of a whole campaign."""
PROGRAM = """
import importlib, json, sys
from pathlib import Path
sys.path.insert(0, str(Path.cwd()))
kind, folder = importlib.import_module(f"tests.chaos.{sys.argv[1]}").KIND, Path(sys.argv[2])
kind.prepare(folder)
for seed in range(int(sys.argv[3])):
    for outcome in kind.attempt(folder, seed):
        print(json.dumps([seed, *outcome]), flush=True)
"""


@pytest.mark.parametrize("name", SLICE)
def test_promises_hold_whatever_a_file_holds(name, tmp_path):
    # A process for each kind: torch trains in no fork of one that has trained.
    words = [sys.executable, "-c", PROGRAM, name, tmp_path, str(SLICE[name])]
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    outcomes = list(map(json.loads, done.stdout.splitlines()))
    assert [outcome for outcome in outcomes if outcome[2]] == []
    assert len(outcomes) == SLICE[name] and len({tried for _, tried, _ in outcomes}) > SLICE[name] // 2


def test_a_seed_repeats_its_damage():
    content = b'{"kind":"end","time":5.0}\n' * 20
    for seed in range(50):
        for change in (*BYTES, damaged):
            assert change(random.Random(seed), content) == change(random.Random(seed), content)


def test_a_reproduction_is_shrunk_to_what_breaks():
    assert smaller(list(range(100)), lambda items: {13, 77} <= set(items), tries=500) == [13, 77]
    assert smaller([1], lambda items: 1 in items) == [1]


@pytest.mark.parametrize(
    "line", [b'{"a": 1, "a": 1}', b"[1]", b"\xff", b"", b'{"a": {"b": 1, "b": 2}}', b"[" * 100_000]
)
def test_lines_that_are_no_objects_are_told(line):
    assert not is_object(line) and is_object(b'{"a": NaN}')
