"""Figures: what is drawn is what is in the frames, and what is missing is left out."""

import math
from fractions import Fraction
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from bench.manifest import read_manifest
from reports.figures import times
from reports.tables.timing import TIMING

NAN = math.nan
TABLE4 = Path(__file__).parents[1] / "manifests" / "table4.yaml"


def timing(rows: list[tuple]) -> pd.DataFrame:
    """Rows of arch, method, slowdown, ideal, hours, hours with teacher; intervals of a tenth to either side."""
    frame = pd.DataFrame(rows, columns=["arch", "method", "slowdown", "ideal", "hours", "hours_with_teacher"])
    ends = {"slowdown_low": frame["slowdown"] - 0.1, "slowdown_high": frame["slowdown"] + 0.1}
    told = {"teacher": np.where(frame["hours_with_teacher"].notna(), "t", None), "id": frame["method"] + frame["arch"]}
    return frame.assign(baseline="Standard", **ends, **told).reindex(columns=TIMING)


def needs(frame: pd.DataFrame, **by_student: dict[str, float]) -> pd.DataFrame:
    """The teachers of each student, with their hours; by default one, from the hours with a teacher."""
    more = frame["hours_with_teacher"] - frame["hours"]
    found = {row: {"t": hours} for row, hours in zip(frame["id"], more, strict=True) if hours == hours} | by_student
    rows = [
        (who, what, "robust dataset" if "/" in what else "training", h)
        for who in found
        for what, h in found[who].items()
    ]
    return pd.DataFrame(rows, columns=["student", "needs", "kind", "hours"])


def cumulative(frame: pd.DataFrame, **by_student: dict[str, float]) -> times.Plot:
    return times._cumulative(frame, needs(frame, **by_student))


STUDY = [
    ("r110", "Standard", 1.0, 1.0, 2.0, NAN),
    ("r110", "SmoothMix", 10.0, 9.5, 20.0, NAN),
    ("dla", "SmoothMix", 12.0, NAN, 24.0, NAN),
    ("rx", "SmoothMix", NAN, 9.5, NAN, NAN),
    ("vit", "SmoothMix", 9.0, 9.5, 18.0, NAN),
    ("vit", "CRT", 1.2, 1.1, 4.0, 24.0),
    ("dla", "CRT", 1.1, 1.0, 3.0, 23.0),
    ("rx", "CRT", 1.3, 1.0, 5.0, 25.0),
]
SCALING = pd.DataFrame(
    [
        ("dla", "CRT", "strong", 4, 2, 3.0, 2.8, 3.3, 0.75),
        ("dla", "CRT", "strong", 2, 1, 1.8, NAN, NAN, 0.9),
        ("dla", "CRT", "weak", 2, 1, 1.9, 1.8, 2.0, 0.95),
        ("rx", "CRT", "weak", 2, 1, NAN, NAN, NAN, NAN),
    ],
    columns=["arch", "method", "kind", "ranks", "nodes", "speedup", "speedup_low", "speedup_high", "efficiency"],
)


def lines(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """Points by the name in the legend."""
    handles, names = axes.get_legend_handles_labels()
    return {
        name: [tuple(map(float, point)) for point in getattr(handle, "lines", [handle])[0].get_xydata()]
        for handle, name in zip(handles, names, strict=True)
    }


def ends(axes: Axes, name: str, axis: int) -> list[tuple[float, float]]:
    """The intervals of one name's points."""
    (bars,) = (c.lines[2][0] for c in axes.containers if c.get_label() == name)
    return [tuple(float(end) for end in segment[:, axis]) for segment in bars.get_segments()]


def test_slowdown_is_drawn_as_measured():
    (axes,) = times._slowdown(timing(STUDY)).axes
    drawn = lines(axes)
    assert [x for x, _ in drawn["SmoothMix"]] == [10.0, 12.0, 9.0]
    assert [x for x, _ in drawn["CRT"]] == [1.1, 1.3, 1.2]
    assert [x for x, _ in drawn["ideal (FLOPs)"]] == [9.5, 1.0, 1.0, 9.5, 1.1]
    assert ends(axes, "CRT", 0) == [pytest.approx(pair) for pair in ((1.0, 1.2), (1.2, 1.4), (1.1, 1.3))]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["r110", "dla", "rx", "vit"]
    places = [y for name in ("SmoothMix", "CRT") for _, y in drawn[name]]
    assert len(set(places)) == len(places) and axes.get_xscale() == "log"
    assert times._slowdown(timing(STUDY)).left_out == ["rx SmoothMix: not timed"]


def test_slowdown_of_one_architecture_without_intervals():
    frame = timing(STUDY[:2]).assign(slowdown_low=NAN, slowdown_high=NAN)
    (axes,) = times._slowdown(frame).axes
    assert lines(axes)["SmoothMix"] == [(10.0, 0.0)] and ends(axes, "SmoothMix", 0) == [(10.0, 10.0)]


def test_what_is_not_alike_is_told_apart():
    frame = timing([*STUDY[:2], STUDY[1]]).assign(
        ranks=[1, 1, 2], folder=["a", "a", "b"], unlike=[None, None, "device"]
    )
    (axes,) = times._slowdown(frame).axes
    assert {"SmoothMix, a", "SmoothMix, 2 ranks, b (unlike device)"} < set(lines(axes))


def test_hours_are_summed_over_what_both_were_timed_on():
    plot = cumulative(timing(STUDY))
    (axes,) = plot.axes
    drawn = lines(axes)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["none", "dla", "vit"]
    assert drawn["SmoothMix"] == [(0, 0), (1, 24), (2, 42)]
    assert drawn["CRT, teacher at hand"] == [(0, 0), (1, 3), (2, 7)]
    assert drawn["CRT and its teacher"] == [(0, 20), (1, 23), (2, 27)]
    assert drawn["break-even with SmoothMix: n = 2"][0][0] == 2  # 20 + 2 x 3.5 < 2 x 21, and 20 + 3.5 > 21
    assert plot.left_out == ["rx SmoothMix: not timed", "r110: no hours for CRT", "rx: no hours for SmoothMix"]


DIRECT = [(arch, "SmoothMix", NAN, NAN, 2.0, NAN) for arch in "abc"]


@pytest.mark.parametrize(
    ("needed", "at_hand", "spent"),
    [
        # One teacher of all three.
        (
            {"a": {"t": 20}, "b": {"t": 20}, "c": {"t": 20}},
            [0, 3, 7, 9],
            [20, 23, 27, 29],
        ),
        # Each the next one's teacher.
        (
            {"a": {"t": 20}, "b": {"CRTa": 3, "t": 20}, "c": {"CRTb": 4, "CRTa": 3, "t": 20}},
            [0, 3, 7, 9],
            [20, 23, 27, 29],
        ),
        # A chain whose last link is released first: the others are there already.
        (
            {"a": {"CRTb": 4, "CRTc": 2, "t": 20}, "b": {"CRTc": 2, "t": 20}, "c": {"t": 20}},
            [0, 3, 7, 9],
            [26, 29, 29, 29],
        ),
        # Two teachers, the second of the last student alone, which shares the first one's teacher.
        (
            {"a": {"t": 20, "s": 1}, "b": {"t": 20, "s": 1}, "c": {"u": 5, "s": 1}},
            [0, 3, 7, 9],
            [21, 24, 28, 35],
        ),
        # A dataset is made once for the students of one teacher, and nobody has it at hand.
        (
            {"a": {"t/d": 7, "t": 20}, "b": {"t/d": 7, "t": 20}, "c": {"t/e": 6, "t": 20}},
            [7, 10, 14, 22],
            [27, 30, 34, 42],
        ),
    ],
)
def test_what_several_students_need_is_paid_once(needed, at_hand, spent):
    students = {"a": 3.0, "b": 4.0, "c": 2.0}
    rows = [(a, "CRT", NAN, NAN, h, h + sum(needed[a].values())) for a, h in students.items()]
    plot = cumulative(timing(DIRECT + rows), **{f"CRT{arch}": needed[arch] for arch in students})
    drawn = lines(plot.axes[0])
    assert [hours for _, hours in drawn["CRT, teacher at hand"]] == at_hand
    assert [hours for _, hours in drawn["CRT and its teacher"]] == spent
    assert "break-even with SmoothMix: never" in drawn and plot.left_out == []


def test_a_student_whose_teacher_was_not_timed_is_not_taken_for_one_that_has_none():
    rows = [(arch, method, NAN, NAN, 3.0, NAN) for method in ("CRT", "RRM") for arch in "abc"]
    frame = timing(DIRECT + rows)
    known, taught = frame["method"] == "CRT", frame["method"] != "SmoothMix"
    frame["teacher"] = np.where(taught, "t", None)
    frame["teacher_hours_unknown"] = np.where(taught & ~known, "there is no record of t", None)
    frame["hours_with_teacher"] = np.where(known, 23.0, NAN)
    plot = cumulative(frame)
    assert not any("RRM" in name for name in lines(plot.axes[0]))
    assert plot.left_out == ["a RRM from t, b RRM from t, c RRM from t: there is no record of t"]
    with pytest.raises(ValueError, match=r"no method with a timed teacher.*a RRM from t, .*: there is no record of t"):
        cumulative(frame[~known])


def test_published_hours_of_table_4():
    # The CRT paper prints 96.21 h and 11.70 h for the three students, the teacher not counted; its Table 4, of which
    # these are the sums, rounds each total to a hundredth of an hour.
    cells = read_manifest(TABLE4).cells
    rows = [(c.arch, c.method.name, NAN, NAN, c.paper.hours or NAN, NAN) for c in cells]
    frame = timing(rows)
    teacher = frame.set_index(["arch", "method"]).loc[("resnet110", "SmoothMix"), "hours"]
    taught = frame["method"] == "CRT"
    frame["teacher"] = np.where(taught, "t", None)
    frame["hours_with_teacher"] = (frame["hours"] + teacher).where(taught)
    drawn = lines(cumulative(frame).axes[0])
    assert drawn["SmoothMix"][-1] == (3, pytest.approx(96.21, abs=0.015))
    assert drawn["CRT, teacher at hand"][-1] == (3, pytest.approx(11.70, abs=0.005))
    assert drawn["CRT and its teacher"][-1] == (3, pytest.approx(11.70 + 18.98, abs=0.005))


def test_scaling_is_drawn_as_measured():
    strong, weak = times._scaling(SCALING).axes
    assert lines(strong) == {
        "ideal": [(1, 1), (4, 4)],
        "dla CRT, 1 node": [(2, 1.8)],
        "dla CRT, 2 nodes": [(4, 3.0)],
    }
    assert lines(weak) == {"ideal": [(1, 1), (4, 4)], "dla CRT, 1 node": [(2, 1.9)]}
    assert ends(strong, "dla CRT, 2 nodes", 1) == [pytest.approx((2.8, 3.3))]
    assert [label.get_text() for label in weak.get_xticklabels()] == ["1", "2", "4"]
    assert len(times._scaling(SCALING[:1]).axes) == 1


def test_break_even_against_counting():
    rng = np.random.default_rng(0)
    for teacher, student, direct in rng.integers(0, 40, (300, 3)).tolist():
        hours = [Fraction(h, 4) for h in (teacher, student, direct)]
        counted = (
            next((n for n in count(1) if hours[0] + n * hours[1] < n * hours[2]), None) if student < direct else None
        )
        assert times.break_even(*map(float, hours)) == (math.inf if counted is None else counted)


@pytest.mark.parametrize(("suffix", "start"), [("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_the_suffix_says_the_format(tmp_path, suffix, start):
    of_study = partial(times.cumulative, teachers=needs(timing(STUDY)))
    for draw, frame in ((times.slowdown, timing(STUDY)), (of_study, timing(STUDY)), (times.scaling, SCALING)):
        draw(frame, tmp_path / f"m.{suffix}")
        assert (tmp_path / f"m.{suffix}").read_bytes().startswith(start)


def test_nothing_to_draw_is_said_in_a_sentence_and_written_nowhere(tmp_path):
    nothing = timing(STUDY).assign(slowdown=NAN, hours=NAN)
    cumulative = partial(times.cumulative, teachers=needs(timing(STUDY)))
    for draw, frame, said in (
        (times.slowdown, nothing, "no method was timed with the baseline"),
        (cumulative, nothing, "with a timed teacher"),
        (cumulative, timing(STUDY[5:]), "without a teacher"),
        (cumulative, timing(STUDY[1:2] + STUDY[5:]), "no architecture"),
        (cumulative, timing(STUDY + STUDY), "SmoothMix has two cells of r110"),
        (times.scaling, SCALING[:0], "no speedup was measured"),
    ):
        with pytest.raises(ValueError, match=said):
            draw(frame, tmp_path / "m.pdf")
    assert not list(tmp_path.iterdir())
