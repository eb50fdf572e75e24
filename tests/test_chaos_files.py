"""A slice of the chaos campaign on files: fuzzed manifests, damaged records, checkpoints and .beton files."""

import random

import pytest

from tests.chaos import betons, checkpoints, manifests, records
from tests.chaos.damage import BYTES, smaller
from tests.chaos.record_damage import damaged, is_object

SLICE = {"manifests": 30, "records": 10, "checkpoints": 20, "betons": 20}
"""Seeds of each kind: a minute in all; `python -m tests.chaos` tries those of a whole campaign."""
KINDS = {module.KIND.name: module.KIND for module in (manifests, records, checkpoints, betons)}


@pytest.mark.parametrize("name", SLICE)
def test_promises_hold_whatever_a_file_holds(name, tmp_path):
    kind = KINDS[name]
    kind.prepare(tmp_path)
    outcomes = [(seed, *outcome) for seed in range(SLICE[name]) for outcome in kind.attempt(tmp_path, seed)]
    assert [outcome for outcome in outcomes if outcome[2]] == []
    assert len({tried for _, tried, _ in outcomes}) > SLICE[name] // 2  # they are not all the same


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
