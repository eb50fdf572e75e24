"""Records as input: a damaged line is named, left out and counted, and its file stays as it is."""

import json
import math
import os
import shutil
import warnings
from pathlib import Path

import pytest

from bench.records import (
    READABLE,
    SCHEMA,
    CertificationTiming,
    End,
    Epoch,
    Fail,
    MonitorPoint,
    Phases,
    Record,
    Replaced,
    RobustChunk,
    Start,
    Verdict,
    append,
    read,
    read_all,
    read_lines,
)
from reports.options import Options
from reports.report import report

START = Start(
    host="a", device="cpu", driver=None, cpu="c", cpus=2, threads=1, load=0.5, time=100.0, commit=None, dirty=None,
    python="3", torch="2", torchvision="0", cuda=None, ffcv=None, allocator="", world_size=1, job=None,
    flops={"x": 1e9}, loader="torch", precision="fp32", nodes=1, process="fresh", seed=0,
)  # fmt: skip
EPOCH = Epoch(arm="a", epoch=0, seconds=1.5, warmup=True, images=3, lr=0.1, loss=0.25, memory=None)
VERDICT = Verdict(eval="Clean-1", index=7, label=1, prediction=-1, radius=0.0, seconds=0.1, details={"n": 10.0})
POINT = MonitorPoint(arm="a", epoch=1, eval="Clean-1", images=5, right=0.5, standing=0.25)
PHASES = Phases(arm="a", images=5, host={"loader": 0.5, "transfer": 0.0, "compute": 1.0}, device=None)
CHUNK = RobustChunk(first=0, images=5, seconds=1.0, distance=0.5)
DRAWN = CertificationTiming(arm="a", round=1, images=5, draws=10, seconds=1.0)
FAIL = Fail(time=1.0, reason="r", host="h", job=None)
REPLACED = Replaced(time=150.0, text="a.pt: damaged; training goes on from b.pt")
END = End(time=200.0)
EVERY = (START, EPOCH, VERDICT, POINT, PHASES, CHUNK, DRAWN, REPLACED, FAIL, END)


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "cell" / "train.jsonl"


def line(record: Record) -> bytes:
    return record.model_dump_json(by_alias=True).encode()


def changed(record: Record, **values) -> bytes:
    """The record's line with other values, which may be what JSON has no word for."""
    return json.dumps(json.loads(line(record)) | values).encode()


def put(file: Path, *lines: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(text + b"\n" for text in lines))
    return file


FLOATS = (math.nan, math.inf, -math.inf, -1.0, 1e300, "1.0", True, None, [1.0])
COUNTS = (0, -1, 10**30, 1.5, "3", True, None)
DAMAGED = {
    **{f"epoch seconds {v}": changed(EPOCH, seconds=v) for v in (*FLOATS, 0.0, 5e-324)},
    **{f"epoch images {v}": changed(EPOCH, images=v) for v in COUNTS},
    **{f"epoch {v}": changed(EPOCH, epoch=v) for v in (-1, 1.5, 10**30, "0", True)},
    **{f"epoch lr {v}": changed(EPOCH, lr=v) for v in (math.nan, math.inf, "0.1")},
    **{f"epoch memory {v}": changed(EPOCH, memory=v) for v in (-1.0, math.nan, math.inf, "9")},
    **{f"world_size {v}": changed(START, world_size=v) for v in COUNTS},
    **{f"start {v}": changed(START, time=v) for v in (-1.0, math.nan, math.inf, 1e18, "now")},
    **{f"flops {v}": changed(START, flops={"x": v}) for v in (-1.0, math.nan, math.inf, "1e9")},
    **{f"load {v}": changed(START, load=v) for v in (-1.0, math.nan, math.inf)},
    **{f"cpus {v}": changed(START, cpus=v) for v in (0, -2, 1.5)},
    **{f"verdict seconds {v}": changed(VERDICT, seconds=v) for v in FLOATS},
    **{f"verdict radius {v}": changed(VERDICT, radius=v) for v in (-1.0, "0", None, -math.inf)},
    **{f"verdict index {v}": changed(VERDICT, index=v) for v in (-1, 0.5, 10**30)},
    **{f"prediction {v}": changed(VERDICT, prediction=v) for v in (-2, 0.5, 10**30)},
    **{f"right {v}": changed(POINT, right=v) for v in (-0.1, 1.1, math.nan, math.inf)},
    **{f"standing {v}": changed(POINT, standing=v) for v in (-0.1, 1.1, math.nan, math.inf)},
    **{f"phase {v}": changed(PHASES, host=PHASES.host | {"loader": v}) for v in (-1.0, math.nan, math.inf, "1")},
    "no loader": changed(PHASES, host={"transfer": 1.0}),
    "no time in phases": changed(PHASES, host={"loader": 0.0, "transfer": 0.0}),
    **{f"chunk seconds {v}": changed(CHUNK, seconds=v) for v in (0.0, -1.0, math.nan, 5e-324)},
    **{f"draws {v}": changed(DRAWN, draws=v) for v in COUNTS},
    **{f"end {v}": changed(END, time=v) for v in (-1.0, math.nan, math.inf, 1e18, "now")},
    **{f"fail {v}": changed(FAIL, time=v) for v in (-1.0, math.nan, math.inf)},
    **{
        f"control character {ord(char)} in {key}": changed(record, **{key: f"a{char}b"})
        for char in ("\n", "\t", "\x1b", "\0", "\x7f", "\x85", "\u2028", "\u202e")
        for record, key in ((START, "host"), (START, "job"), (EPOCH, "arm"), (VERDICT, "eval"), (FAIL, "reason"))
    },
    "control character in a key": changed(START, flops={"a\nb": 1.0}),
    "control character in details": changed(VERDICT, details={"\x1b[31m": 1.0}),
    "another key": changed(EPOCH, more=1),
    "a missing key": b'{"kind": "epoch", "arm": "a"}',
    "another kind": b'{"kind": "dance"}',
    "no kind": b'{"arm": "a"}',
    "a number": b"5",
    "a list": b"[]",
    "null": b"null",
    "nothing": b"",
    "no JSON": b"nonsense",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a deep value": line(EPOCH)[:-1] + b',"more":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "no text": b"\xff\xfe\x00\x80",
    "half a character": line(FAIL).replace(b'"r"', b'"\xc3"'),
    "half a surrogate": line(FAIL).replace(b'"r"', b'"\\ud800"'),
    "zeros": b"\0" * 1000,
    "two records": line(EPOCH) + line(EPOCH),
    "cut off": line(EPOCH)[:-5],
    "many digits": changed(EPOCH).replace(b'"images": 3', b'"images": ' + b"9" * 5_000),
    "a key twice": line(EPOCH).replace(b'"seconds":1.5', b'"seconds":1.5,"seconds":2.5'),
    "an equal key twice": line(EPOCH).replace(b'"seconds":1.5', b'"seconds":1.5,"seconds":1.5'),
    "a key twice, spaced": line(END).replace(b'"time"', b'"time" : 5.0, "time"'),
    "a key twice, escaped": line(END).replace(b'"time"', b'"tim\\u0065":5.0,"time"'),
    "a key twice within": line(VERDICT).replace(b'"n":10.0', b'"n":10.0,"n":11.0'),
    "the kind twice": line(END).replace(b'"kind"', b'"kind":"fail","kind"'),
    "another schema": changed(START, schema=SCHEMA + 1),
    "the first schema": changed(START, schema=1),
    "a schema in words": changed(START, schema="six"),
    "a schema of many digits": changed(START).replace(b'"schema": %d' % SCHEMA, b'"schema": ' + b"9" * 5_000),
}


@pytest.mark.parametrize("bad", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_line_is_named_left_out_and_counted(file, bad):
    put(file, line(EPOCH), line(VERDICT), bad)
    before = file.read_bytes()
    records, left_out = read_lines(file)
    assert records == [EPOCH, VERDICT]
    assert left_out.startswith(f"{file}, line 3: ") and left_out.endswith(" (1 line)")
    assert left_out.isprintable() and len(left_out) < 400
    with pytest.warns(UserWarning, match="left out of the records: .*line 3"):
        assert read(file) == records
    assert file.read_bytes() == before


HONEST = {
    **{f"loss {v}": changed(EPOCH, loss=v) for v in (math.nan, math.inf, -math.inf, -0.5, 1e300)},
    **{f"radius {v}": changed(VERDICT, radius=v) for v in (math.nan, math.inf)},
    **{f"detail {v}": changed(VERDICT, details={"margin": v}) for v in (math.nan, math.inf, -3.0)},
    **{f"distance {v}": changed(CHUNK, distance=v) for v in (math.nan, math.inf)},
    "no time": changed(VERDICT, seconds=0.0),
    "an integer for a float": changed(EPOCH, seconds=2),
    "spaces and another order": b' {"time": 3, "kind" : "end"}',
    "quotes in text": line(FAIL.model_copy(update={"reason": '"a": "a":'})),
}


@pytest.mark.parametrize("good", [*HONEST.values(), *map(line, EVERY)], ids=[*HONEST, *(r.kind for r in EVERY)])
def test_an_honest_line_is_kept(file, good):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read(put(file, good))) == 1


@pytest.mark.parametrize("schema", READABLE)
def test_every_readable_schema_is_read(file, schema):
    assert read(put(file, changed(START, schema=schema), line(EPOCH))) != []


def test_several_lines_are_counted_and_the_first_is_named(file):
    left_out = read_lines(put(file, line(EPOCH), b"5", line(VERDICT), b"[", b"{}")).left_out
    assert left_out.startswith(f"{file}, line 2: ") and left_out.endswith(" (3 lines)")


@pytest.mark.parametrize("bad", [{"schema": SCHEMA + 1}, {"world_size": 0}, {"host": 5}])
def test_records_of_an_attempt_on_an_unknown_machine_are_left_out(file, bad):
    put(file, line(START), line(EPOCH), changed(START, **bad), line(EPOCH), line(VERDICT), line(START), line(POINT))
    assert read_lines(file).records == [START, EPOCH, START, POINT]
    left_out = read_lines(file).left_out
    assert left_out.startswith(f"{file}, line 3: ") and left_out.endswith(" (3 lines)")


def test_an_end_before_its_start_is_left_out(file):
    before = End(time=START.time - 1)
    records, left_out = read_lines(put(file, line(START), line(EPOCH), line(before)))
    assert records == [START, EPOCH] and f"{file}, line 3: time: 99 is before 100" in left_out
    assert read(put(file, line(before), line(START), line(END))) == [before, START, END]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_named(tmp_path, make):
    append(tmp_path / "a.jsonl", EPOCH)
    make(tmp_path / "b.jsonl")
    with pytest.warns(UserWarning, match=r"b\.jsonl: no file"):
        assert read_all(tmp_path) == [EPOCH]


def test_a_line_longer_than_any_record_is_left_out(file):
    long = b"[" + b"1," * 20_000_000 + b"1]"
    records, left_out = read_lines(put(file, line(EPOCH), long, line(VERDICT)))
    assert records == [EPOCH, VERDICT] and "line 2: longer than 16,777,216 bytes" in left_out
    with open(file, "ab") as out:
        out.write(long)
    assert read_lines(file).records == [EPOCH, VERDICT]


@pytest.mark.parametrize("first", [b"\0" * 300, b"", b'{"kind":"end"'])
def test_first_line_is_a_start_whatever_is_left_of_it(file, first):
    put(file, first, line(EPOCH), line(START), line(VERDICT))
    records, left_out = read_lines(file)
    assert records == [START, VERDICT] and left_out.endswith("(2 lines)")


def test_runs_whose_start_is_not_recorded_are_reported(tmp_path):
    """The repetitions of a study, and its comparison with a commit, do without the machine of a run."""
    frozen = Path(__file__).parent / "golden" / "report"
    study = "timing-cnn2c2f-43e37374"
    shutil.copytree(frozen / "runs" / study, tmp_path / "runs" / study)
    damaged = tmp_path / "runs" / study / "run1" / "time.jsonl"
    damaged.write_text("".join(damaged.read_text().splitlines(keepends=True)[1:]))
    for against in (None, "c0ffeec0ff"):
        report(frozen / "manifests" / "timing.yaml", Options(runs=[tmp_path / "runs"], against=against))
