"""Durations as people read them: every value, rounded within its unit, never 0, never 60 of a unit."""

import math
import random
import re
import time

import pytest

from bench.jobs.progress import Progress
from bench.measure.durations import duration, summed

UNITS = {"ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}
RANDOM = random.Random(0)
SPANS = [10 ** RANDOM.uniform(-3, 8) for _ in range(2000)] + [
    edge * near for edge in (0.1, 1, 10, 60, 3600, 86400, 2 * 86400) for near in (1 - 1e-3, 1 - 1e-9, 1, 1 + 1e-9)
]


def parsed(text: str) -> float:
    return sum(float(number.replace(",", "")) * UNITS[unit] for number, unit in re.findall(r"([\d.,]+) (\w+)", text))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "under 1 ms"),
        (0.035, "35 ms"),
        (0.5, "0.5 s"),
        (9.96, "10 s"),
        (45, "45 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (2 * 86400 - 1, "2 d 00 h"),
        (187200, "2 d 04 h"),
        (86400 * 1240.5, "1,240 d 12 h"),
    ],
)
def test_examples(seconds, text):
    assert duration(seconds) == text


def test_a_duration_is_told_to_within_its_rounding():
    for seconds in SPANS:
        half = next(
            unit / 2
            for least, unit in ((172770, 3600), (3599.5, 60), (9.95, 1), (0.05, 0.1), (0, 1e-3))
            if seconds >= least
        )
        assert abs(parsed(duration(seconds)) - seconds) <= half * (1 + 1e-9), (seconds, duration(seconds))


def test_longer_is_never_told_as_shorter():
    told = [parsed(duration(seconds)) for seconds in sorted(SPANS)]
    assert told == sorted(told)


def test_no_unit_is_full_and_nothing_is_0():
    for seconds in SPANS:
        text = duration(seconds)
        parts = dict((unit, float(number.replace(",", ""))) for number, unit in re.findall(r"([\d.,]+) (\w+)", text))
        assert parsed(text) > 0
        assert parts.get("s", 0) < 60 and parts.get("min", 0) < 60
        assert parts.get("h", 0) < (24 if "d" in parts else 48)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_what_is_no_duration_is_refused(seconds):
    with pytest.raises(ValueError, match="no duration"):
        duration(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "under 1 GPU-second"),
        (45, "45.0 GPU-seconds"),
        (59.97, "1.0 GPU-minutes"),
        (1200, "20.0 GPU-minutes"),
        (3599.9, "1.0 GPU-hours"),
        (3600 * 5.31, "5.3 GPU-hours"),
        (3600 * 99.96, "100 GPU-hours"),
        (3600 * 1240.2, "1,240 GPU-hours"),
    ],
)
def test_sums_name_their_unit(seconds, text):
    assert summed(seconds, "GPU") == text
    assert summed(seconds, "CPU rank") == text.replace("GPU", "CPU rank")


def test_the_time_left_is_not_told_by_the_first_image_of_a_batch(capsys, monkeypatch):
    clock = iter([0.0, 100.0, 100.0, 200.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with Progress("cell", 4, 0, "image") as progress:
        progress.step("broken")
        progress.step("held")  # printed at most every ten seconds
        progress.step("held")
    assert capsys.readouterr().out == "cell: image 1/4, broken\ncell: image 3/4, held, 1 min 07 s left\n"


def test_the_time_left_is_told_by_the_first_epoch(capsys, monkeypatch):
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with Progress("cell", 3, 0, "epoch") as progress:
        progress.step("loss 1")
    assert capsys.readouterr().out == "cell: epoch 1/3, loss 1, 20 s left\n"


def test_the_time_left_is_told_by_later_epochs_alone(capsys, monkeypatch):
    """The first epoch imports and compiles what the others use."""
    clock = iter([0.0, 10.0, 12.0, 16.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with Progress("cell", 9, 2, "epoch") as progress:  # resumed
        for _ in range(3):
            progress.step("")
    assert capsys.readouterr().out == (
        "cell: epoch 3/9, 1 min 00 s left\ncell: epoch 4/9, 10 s left\ncell: epoch 5/9, 12 s left\n"
    )
