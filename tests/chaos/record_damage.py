"""Damages to a file of records, and the lines of it that a reader must tell from records."""

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.chaos.damage import BYTES, CONTROLS, MARK, SHAPES, TEXTS

_COUNT = (0, -1, 1.5, "3", True, None, 10**30, [1])
_INDEX = (-1, 0.5, "0", None, 10**30)
_DURATION = (0.0, -1.0, 5e-324, 1e300, float("inf"), float("nan"), "1.0", None, True)
_AMOUNT = (-1.0, float("inf"), float("nan"), "1", 1e300)
_DATE = (-1.0, float("inf"), float("nan"), 1e18, "now", None)
_SHARE = (-0.1, 1.1, float("nan"), None, "0.5")
_TEXT = (5, None, ["a"], {}, *CONTROLS)
UNFIT: dict[str, dict[str, tuple[Any, ...]]] = {
    "epoch": {
        **{"epoch": _INDEX, "seconds": _DURATION, "images": _COUNT, "lr": _AMOUNT[1:4], "memory": _AMOUNT},
        **{"arm": _TEXT, "loss": ("x", None), "warmup": (1, "true", None), "host_memory": _AMOUNT},
    },
    "verdict": {
        **{"index": _INDEX, "label": _INDEX, "prediction": (-2, 0.5, None), "radius": (-1.0, "0", None)},
        **{"seconds": _AMOUNT, "eval": _TEXT, "details": ([], 5, {"a": "b"}, None)},
    },
    "start": {
        **{"world_size": _COUNT, "cpus": _COUNT, "threads": _COUNT, "nodes": _COUNT, "time": _DATE, "seed": _INDEX},
        **{"load": _AMOUNT, "schema": (99, "6", None, 1, -1), "host": _TEXT, "device": _TEXT, "torch": _TEXT},
        **{"process": ("x", None, 5), "flops": ({"a": -1.0}, {"a": float("inf")}, [], 5), "cpu": _TEXT},
    },
    "end": {"time": _DATE},
    "fail": {"time": _DATE, "host": _TEXT, "reason": (5, None, *CONTROLS[2:6])},
    "curve": {"right": _SHARE, "standing": _SHARE, "images": _COUNT, "epoch": _INDEX, "eval": _TEXT},
    "phases": {"images": _COUNT, "host": ({}, {"loader": 1.0}, {"loader": -1.0, "transfer": 0.0}, None), "arm": _TEXT},
    "drawn": {"images": _COUNT, "draws": _COUNT, "seconds": _DURATION, "round": _INDEX, "arm": _TEXT},
    "made": {"first": _INDEX, "images": _COUNT, "seconds": _DURATION},
}
"""By kind and key: values that no record has."""
JUNK = (
    *(
        b"",
        b"null",
        b"5",
        b"[]",
        b"{}",
        b"nonsense",
        b"\xff\xfe\x00\x80",
        b"\0" * 500,
        b"[" * 100_000,
        b'{"a":' * 99_999,
    ),
    *(
        b'{"kind":"dance"}',
        b'{"kind":["epoch"]}',
        b'{"kind":"end"}',
        b'{"kind":"end","time":' + b"9" * 5000 + b"}",
        b'"',
    ),
)
"""Lines that are no records."""


class Damage(NamedTuple):
    """A file's content after a damage."""

    content: bytes
    tried: str
    told: tuple[int, ...] = ()
    """Numbers (from 1) of lines that a reader must leave out, beside those that are no JSON objects."""


def damaged(rng: random.Random, content: bytes) -> Damage:
    """The content after one damage."""
    changes: tuple[Callable[[random.Random, list[bytes]], Damage], ...] = (
        *(_value, _value, _value, _value, _key, _word, _junk, _repeat, _exchange, _clock, _plausible),
    )
    if rng.random() < 0.3 or b"\n" not in content:
        return Damage(*rng.choice(BYTES)(rng, content))
    return rng.choice(changes)(rng, content.splitlines(keepends=True))


def is_object(line: bytes) -> bool:
    """True for a line of JSON with an object whose keys are there once."""
    keys: list[list[str]] = []
    try:
        parsed = json.loads(
            line, object_pairs_hook=lambda pairs: keys.append([key for key, _ in pairs]) or dict(pairs), parse_int=float
        )
    except (ValueError, RecursionError):
        return False
    return isinstance(parsed, dict) and all(len(set(each)) == len(each) for each in keys)


def _choose(rng: random.Random, lines: list[bytes]) -> tuple[int, dict[str, Any]]:
    """A line, of each kind with the same chance."""
    kinds: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        if is_object(line):  # some frozen records end with an incomplete line
            kinds.setdefault(json.loads(line)["kind"], []).append(number)
    number = rng.choice(kinds[rng.choice(sorted(kinds))])
    return number, json.loads(lines[number])


def _put(lines: list[bytes], number: int, line: bytes, tried: str, told: bool = True) -> Damage:
    changed = [*lines[:number], line + b"\n", *lines[number + 1 :]]
    return Damage(b"".join(changed), f"line {number + 1}: {tried}", (number + 1,) if told else ())


def _value(rng: random.Random, lines: list[bytes]) -> Damage:
    number, record = _choose(rng, lines)
    key = rng.choice(sorted(UNFIT[record["kind"]]))
    record[key] = rng.choice(UNFIT[record["kind"]][key])
    return _put(lines, number, json.dumps(record).encode(), f"{record['kind']}.{key} = {str(record[key])[:60]!r}")


def _key(rng: random.Random, lines: list[bytes]) -> Damage:
    """A key too many, missing or twice."""
    number, record = _choose(rng, lines)
    change = rng.choice(("more", "less", "twice", "kind"))
    text = json.dumps(record)
    if change == "more":
        text = json.dumps(record | {rng.choice((*TEXTS, "", "a")): rng.choice(SHAPES)})
    elif change == "less":
        text = json.dumps(
            {key: value for key, value in record.items() if key not in ("time", "seconds", "images", "kind")}
        )
    elif change == "twice":
        key = rng.choice(sorted(record))
        text = f"{text[:-1]}, {json.dumps(key)}: {json.dumps(record[key])}}}"
    else:
        text = json.dumps(record | {"kind": rng.choice((*TEXTS, "", "Epoch", None, 5))})
    return _put(lines, number, text.encode(), f"{record['kind']}, key {change}")


def _word(rng: random.Random, lines: list[bytes]) -> Damage:
    """A text that some output would take for more than text."""
    number, record = _choose(rng, lines)
    texts = [key for key, value in record.items() if isinstance(value, str) and key not in ("kind", "process")]
    if not texts:
        return _exchange(rng, lines)
    key = rng.choice(texts)
    record[key] = rng.choice(TEXTS)
    line = json.dumps(record).encode()
    return _put(lines, number, line, f"{record['kind']}.{key} = {record[key]!r}", told=False)


def _junk(rng: random.Random, lines: list[bytes]) -> Damage:
    """A line that is no record, between others."""
    number, line = rng.randrange(len(lines) + 1), rng.choice(JUNK)
    content = b"".join([*lines[:number], line + b"\n", *lines[number:]])
    return Damage(content, f"before line {number + 1}: {line[:30]!r}", (number + 1,))


def _repeat(rng: random.Random, lines: list[bytes]) -> Damage:
    number, times = rng.randrange(len(lines)), rng.choice((1, 1, 100))
    return Damage(
        b"".join([*lines[:number], *lines[number : number + 1] * times, *lines[number:]]),
        f"line {number + 1} {times} times more",
    )


def _exchange(rng: random.Random, lines: list[bytes]) -> Damage:
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines = list(lines)
    lines[first], lines[second] = lines[second], lines[first]
    return Damage(b"".join(lines), f"lines {first + 1} and {second + 1} exchanged")


def _clock(rng: random.Random, lines: list[bytes]) -> Damage:
    """A date by another clock."""
    timed = [number for number, line in enumerate(lines) if is_object(line) and "time" in json.loads(line)]
    if not timed:
        return _exchange(rng, lines)
    number = rng.choice(timed)
    record = json.loads(lines[number])
    record["time"] = rng.choice((0.0, 1.0, record["time"] - 1e6, record["time"] + 1e6, 4e9, 253_402_300_799))
    return _put(lines, number, json.dumps(record).encode(), f"{record['kind']}.time = {record['time']}", told=False)


def _plausible(rng: random.Random, lines: list[bytes]) -> Damage:
    """Extreme values that records may have."""
    number, record = _choose(rng, lines)
    extremes = {
        **{"seconds": (1e-9, 1e9), "images": (1, 10**15), "loss": (float("nan"), float("inf"), -1e308, 1e308)},
        **{"radius": (float("nan"), float("inf"), 5e-324), "epoch": (0, 10**15), "index": (0, 10**15), "load": (1e30,)},
        **{
            "flops": ({"a": 0.0}, {MARK: 1e30}),
            "details": ({"": float("nan")}, {MARK: 1e308}),
            "distance": (float("inf"),),
        },
        **{
            "memory": (0.0, 1e30),
            "right": (0.0, 1.0),
            "label": (10**15,),
            "prediction": (-1, 10**15),
            "round": (10**15,),
        },
    }
    keys = sorted(extremes.keys() & record.keys())
    if not keys:
        return _exchange(rng, lines)
    key = rng.choice(keys)
    record[key] = rng.choice(extremes[key])
    return _put(lines, number, json.dumps(record).encode(), f"{record['kind']}.{key} = {record[key]}", told=False)
