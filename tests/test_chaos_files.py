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
import json, sys
from pathlib import Path
sys.path.insert(0, str(Path.cwd()))
from tests.chaos import betons, checkpoints, manifests, records
for module in (manifests, records, checkpoints, betons):
    kind, folder = module.KIND, Path(sys.argv[1], module.KIND.name)
    folder.mkdir()
    kind.prepare(folder)
    for seed in range(json.loads(sys.argv[2])[kind.name]):
        for outcome in kind.attempt(folder, seed):
            print(json.dumps([kind.name, seed, *outcome]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> list[list]:
    """Outcomes of all seeds, from a process of their own: torch trains in no fork of one that has trained."""
    words = [sys.executable, "-c", PROGRAM, tmp_path_factory.mktemp("chaos"), json.dumps(SLICE)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return list(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize("name", SLICE)
def test_promises_hold_whatever_a_file_holds(name, outcomes):
    own = [outcome for outcome in outcomes if outcome[0] == name]
    assert [outcome for outcome in own if outcome[3]] == []
    assert len(own) == SLICE[name] and len({tried for _, _, tried, _ in own}) > SLICE[name] // 2


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
