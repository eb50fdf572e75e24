"""Records: round trip, a torn last line, a newer schema, two writers. Damage is in test_damaged_records.py."""

import math

import pytest

from bench.records import SCHEMA, End, Epoch, Verdict, append, read, read_all

EPOCH = Epoch(arm="a", epoch=0, seconds=1.5, warmup=True, images=3, lr=0.1, loss=0.25, memory=None)
VERDICT = Verdict(eval="Clean-1", index=7, label=1, prediction=-1, radius=0.0, seconds=0.1, details={"n": 10.0})


def test_round_trip(tmp_path):
    file = tmp_path / "rank0.jsonl"
    for record in (EPOCH, VERDICT, End(time=3.0)):
        append(file, record)
    assert read(file) == [EPOCH, VERDICT, End(time=3.0)]
    assert file.read_bytes().count(b"\n") == 3


def test_a_diverged_loss_is_kept(tmp_path):
    append(tmp_path / "rank0.jsonl", EPOCH.model_copy(update={"loss": math.nan}))
    assert math.isnan(read(tmp_path / "rank0.jsonl")[0].loss)


@pytest.mark.parametrize("torn", [b"{", b'{"kind": "epoch", "ar', b'{"kind": "end", "time": 1.0}'])
def test_torn_last_line_is_left_out_and_then_mended(tmp_path, torn):
    file = tmp_path / "rank0.jsonl"
    append(file, EPOCH)
    with open(file, "ab") as out:
        out.write(torn)
    assert read(file) == [EPOCH]
    append(file, VERDICT)
    assert read(file) == [EPOCH, VERDICT]


def test_what_cannot_be_read_is_named_by_file_and_line(tmp_path):
    file = tmp_path / "rank0.jsonl"
    append(file, EPOCH)
    good = file.read_bytes()
    for bad, words in (
        (b"nonsense\n", "line 2: not a JSON"),
        (b'{"kind": "start", "schema": 99}\n', f"line 2: records of schema 99; this version reads schema {SCHEMA}"),
        (b'{"kind": "epoch", "arm": "a"}\n', "line 2"),
        (b'{"kind": "dance"}\n', "line 2"),
    ):
        file.write_bytes(good + bad)
        with pytest.warns(UserWarning, match=words) as caught:
            assert read(file) == [EPOCH]
        assert str(file) in str(caught[0].message)


def test_every_rank_is_read_and_a_missing_file_is_empty(tmp_path):
    append(tmp_path / "rank0.jsonl", EPOCH)
    append(tmp_path / "rank1.jsonl", VERDICT)
    assert read_all(tmp_path) == [EPOCH, VERDICT]
    assert read(tmp_path / "rank2.jsonl") == []
