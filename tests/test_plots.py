"""Figures: what is drawn is what is in the frames, and what is missing is left out."""

import math
import re
from fractions import Fraction
from itertools import count
from pathlib import Path
from xml.etree import ElementTree

import made_runs
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.text import Text
from scipy import stats as scipy_stats

from bench.manifest import read_manifest
from bench.results.front import pareto
from bench.results.statistics import Interval
from reports.figures import arguments, certificates, hours, times, training
from reports.figures.all_figures import draw, figures
from reports.figures.draw import Plot, looks
from reports.figures.series import estimate, short_names
from reports.figures.tradeoff import tradeoff
from reports.tables.timing import TIMING

SVG = "http://www.w3.org/2000/svg"
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


def cumulative(frame: pd.DataFrame, **by_student: dict[str, float]) -> Plot:
    return hours.cumulative(frame, needs(frame, **by_student))


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


def bars(axes: Axes) -> dict[str, tuple[float, float]]:
    """Ends of each horizontal bar by its name."""
    names = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    return {name: (bar.get_x(), bar.get_x() + bar.get_width()) for name, bar in zip(names, axes.patches, strict=True)}


def whiskers(axes: Axes) -> list[tuple[float, float]]:
    """Intervals of horizontal bars, from above."""
    (bars,) = (container.lines[2][0] for container in axes.containers if isinstance(container, ErrorbarContainer))
    return [tuple(segment[:, 0].tolist()) for segment in bars.get_segments()]


def test_slowdown_is_drawn_as_measured_and_sorted():
    plot = times.slowdown(timing(STUDY))
    panels = {axes.get_title(): axes for axes in plot.axes if axes.axison}
    assert list(panels) == ["r110", "dla", "vit", "rx"]
    assert bars(panels["dla"]) == {"CRT": pytest.approx((1, 1.1)), "SmoothMix": pytest.approx((1, 12))}
    assert list(bars(panels["vit"])) == ["CRT", "SmoothMix"] and list(bars(panels["rx"])) == ["CRT"]
    assert whiskers(panels["vit"]) == [pytest.approx((1.1, 1.3)), pytest.approx((8.9, 9.1))]
    ideals = {name: lines(axes)["ideal (counted operations)"] for name, axes in panels.items()}
    assert [x for x, _ in ideals["vit"]] == [1.1, 9.5] and math.isnan(ideals["dla"][1][0])
    assert [text.get_text() for text in panels["vit"].texts] == ["1.2", "9"]
    assert {axes.get_xscale() for axes in panels.values()} == {"log"}
    assert plot.left_out == ["rx SmoothMix: not timed"] and plot.title.startswith("Slowdown over Standard")
    assert plot.data["slowdown"].tolist() == [10, 1.1, 12, 1.2, 9, 1.3]


def test_slowdown_without_intervals_has_none():
    frame = timing([*STUDY[:2], ("r110", "MACER", 20.0, 19.0, 40.0, NAN)]).assign(slowdown_low=NAN, slowdown_high=NAN)
    (axes,) = times.slowdown(frame).axes
    assert whiskers(axes) == [(10.0, 10.0), (20.0, 20.0)]


def test_what_is_not_alike_is_told_apart():
    frame = timing([*STUDY[:2], STUDY[1]]).assign(ranks=[1, 1, 2], unlike=[None, None, "device"], id=[*"abc"])
    assert set(bars(times.slowdown(frame).axes[0])) == {"SmoothMix, ranks 1", "SmoothMix, ranks 2, unlike device"}
    frame = timing([*STUDY[:2], STUDY[1], STUDY[1]]).assign(folder=["a", "a", "b", "b"], id=["", "s", "s", "t"])
    panels = times.slowdown(frame).axes
    assert [(axes.get_title(), list(bars(axes))) for axes in panels] == [
        ("a", ["SmoothMix"]), ("b", ["SmoothMix", "SmoothMix (2)"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("methods", "short"),
    [
        (["RRM(lbd=0.1, distance=cosine)", "SAT"], ["RRM", "SAT"]),
        (["RRM(lbd=0.1, distance=l2)", "RRM(lbd=0.01, distance=l2)"], ["RRM lbd=0.1", "RRM lbd=0.01"]),
        (["A(x=[1, 2], y=3)", "A(x=[1, 4], y=3)"], ["A x=[1,2]", "A x=[1,4]"]),
        (["SAT", "SAT, bare loop"], ["SAT", "SAT, bare loop"]),
    ],
)
def test_names_hold_the_arguments_that_tell_variants_apart(methods, short):
    assert list(short_names(pd.Series(methods)).values()) == short


def test_hours_are_summed_over_what_both_were_timed_on():
    plot = cumulative(timing(STUDY))
    (axes,) = plot.axes
    drawn = lines(axes)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["none", "dla", "vit"]
    assert drawn["SmoothMix"] == [(0, 0), (1, 24), (2, 42)]
    assert drawn["CRT, teacher at hand"] == [(0, 0), (1, 3), (2, 7)]
    assert drawn["CRT and its teacher"] == [(0, 20), (1, 23), (2, 27)]
    assert drawn["break-even"][0][0] == 2  # 20 + 2 x 3.5 < 2 x 21, and 20 + 3.5 > 21
    assert "CRT with SmoothMix at 2" in plot.caption
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
    assert [total for _, total in drawn["CRT, teacher at hand"]] == at_hand
    assert [total for _, total in drawn["CRT and its teacher"]] == spent
    assert "CRT with SmoothMix never" in plot.caption and plot.left_out == []


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
    strong, weak = times.scaling(SCALING).axes
    assert lines(strong) == {
        "ideal": [(1, 1), (4, 4)],
        "CRT, nodes 1": [(2, 1.8)],
        "CRT, nodes 2": [(4, 3.0)],
    }
    assert lines(weak) == {"ideal": [(1, 1), (4, 4)], "CRT, nodes 1": [(2, 1.9)]}
    assert ends(strong, "CRT, nodes 2", 1) == [pytest.approx((2.8, 3.3))]
    assert [label.get_text() for label in weak.get_xticklabels()] == ["1", "2", "4"]
    assert len(times.scaling(SCALING[:2]).axes) == 1


def test_break_even_against_counting():
    rng = np.random.default_rng(0)
    for teacher, student, direct in rng.integers(0, 40, (300, 3)).tolist():
        exact = [Fraction(h, 4) for h in (teacher, student, direct)]
        counted = (
            next((n for n in count(1) if exact[0] + n * exact[1] < n * exact[2]), None) if student < direct else None
        )
        assert hours.break_even(*map(float, exact)) == (math.inf if counted is None else counted)


NOTHING = dict.fromkeys(
    ("robustness", "scaling", "certificates", "epoch_costs", "monitored", "sweeps", "teachers"), pd.DataFrame()
)
NOTHING["monitored"] = pd.DataFrame(columns=["name", "clean", "id"])
NOTHING["scaling"], NOTHING["sweeps"] = SCALING[:0], pd.DataFrame(columns=["clean", "at_eps"])


@pytest.fixture(scope="module")
def smoothing(tmp_path_factory) -> dict[str, pd.DataFrame]:
    return made_runs.frames(tmp_path_factory.mktemp("smoothing"), made_runs.SMOOTHING, 60)


@pytest.fixture(scope="module")
def adversarial(tmp_path_factory) -> dict[str, pd.DataFrame]:
    return made_runs.frames(tmp_path_factory.mktemp("adversarial"), made_runs.ADVERSARIAL, 60)


def t_interval(values, scale: float = 1) -> tuple[float, float, float]:
    """Mean and 95 % interval by SciPy, with its ends between 0 and 1 before they are scaled."""
    mean, error = np.mean(values), scipy_stats.sem(values)
    low, high = scipy_stats.t.interval(0.95, len(values) - 1, mean, error)
    return scale * mean, scale * max(low, 0), scale * min(high, 1)


def test_marks_of_the_tradeoff_are_means_over_seeds(smoothing):
    plot = tradeoff(smoothing["timing"], smoothing["robustness"])
    measures = ["certified at 0.5 (%)", "clean (%)", "ACR"]
    assert [(axes.get_title(), axes.get_ylabel()) for axes in plot.axes] == [
        (arch, measure) for arch in ("resnet20", "resnet110") for measure in measures
    ]
    cells, judged = (smoothing[key][lambda f: f["arch"] == "resnet20"] for key in ("timing", "robustness"))
    cells = cells[cells["method"].str.startswith("MACER")]
    judged = judged[judged["method"].str.startswith("MACER")]
    assert len(cells) == len(judged) == 3
    log_hours = np.log(cells["hours"])
    paid = np.exp([log_hours.mean(), *scipy_stats.t.interval(0.95, 2, log_hours.mean(), scipy_stats.sem(log_hours))])
    for measure, key, frame, scale in (
        ("certified at 0.5 (%)", "certified_at_0.50", judged, 100),
        ("clean (%)", "clean", cells, 100),
        ("ACR", "acr", judged, 1),
    ):
        (row,) = plot.data.query("arch == 'resnet20' and measure == @measure and series == 'MACER'").itertuples()
        assert (row.hours, row.hours_low, row.hours_high) == pytest.approx(tuple(paid)) and row.seeds == 3
        assert (row.estimate, row.low, row.high) == pytest.approx(t_interval(frame[key], scale))
        axes = plot.axes[measures.index(measure)]
        marks = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata())]
        assert marks[0] == pytest.approx((row.hours, row.estimate))
        assert (segment := ends_at(axes, marks[0])) == pytest.approx((row.low, row.high)), segment
    # A student costs its own training and its teacher's, and the teacher has one seed, so that its interval is its own.
    (student,) = plot.data.query("arch == 'resnet110' and measure == 'ACR' and series == 'CRT'").itertuples()
    (teacher,) = plot.data.query("arch == 'resnet110' and measure == 'ACR' and series == 'SmoothMix'").itertuples()
    assert student.hours > teacher.hours and teacher.seeds == 1
    own = smoothing["robustness"].query("arch == 'resnet110' and method == 'SmoothMix'").iloc[0]
    assert (teacher.low, teacher.high) == (own["acr_low"], own["acr_high"])


def test_seeds_that_a_study_does_not_time_count_with_the_hours_of_the_timed_one(smoothing):
    """A study times one seed for all, and the accuracy of the others counts."""
    timing, untimed = smoothing["timing"], smoothing["timing"]["seed"] > 0
    hours = [key for key in timing if "hours" in key or key.startswith("s_per_epoch")]
    plot = tradeoff(timing.assign(**timing[hours].mask(untimed)), smoothing["robustness"])
    rows = plot.data.query("arch == 'resnet20' and measure == 'ACR' and series == 'MACER'")
    expected = tradeoff(timing, smoothing["robustness"]).data.query("arch == 'resnet20' and measure == 'ACR'")
    pd.testing.assert_series_equal(
        rows[["estimate", "low", "high", "seeds"]].iloc[0],
        expected.query("series == 'MACER'")[["estimate", "low", "high", "seeds"]].iloc[0],
        check_names=False,
    )
    own = timing[~untimed & (timing["arch"] == "resnet20") & timing["method"].str.startswith("MACER")].iloc[0]
    assert rows["hours"].iloc[0] == own["hours"] and not plot.left_out


def ends_at(axes: Axes, mark: np.ndarray) -> tuple[float, float]:
    """The vertical interval through a mark."""
    segments = [part for bars in axes.collections if isinstance(bars, LineCollection) for part in bars.get_segments()]
    (own,) = (part for part in segments if np.allclose(part[:, 0], mark[0]) and part[0, 1] <= mark[1] <= part[1, 1])
    return tuple(own[:, 1].tolist())


def test_dominated_marks_are_hollow_and_the_front_joins_the_others(smoothing):
    plot = tradeoff(smoothing["timing"], smoothing["robustness"])
    axes, rows = plot.axes[0], plot.data.query("arch == 'resnet20' and measure == 'certified at 0.5 (%)'")
    marks = [line for line in axes.lines if line.get_marker() not in ("None", None, "") and len(line.get_xdata()) == 1]
    filled = {float(line.get_xdata()[0]) for line in marks if line.get_markerfacecolor() != "white"}
    hollow = {float(line.get_xdata()[0]) for line in marks if line.get_markerfacecolor() == "white"}
    assert filled == set(rows["hours"][rows["on_front"]]) and hollow == set(rows["hours"][~rows["on_front"]])
    front = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
    assert (
        front.get_xydata().tolist()
        == rows[rows["on_front"]].sort_values("hours")[["hours", "estimate"]].values.tolist()
    )


def test_the_front_against_brute_force():
    rng = np.random.default_rng(1)
    for _ in range(200):
        cost, value = rng.integers(0, 6, (2, rng.integers(1, 9))).tolist()
        points = list(zip(cost, value, strict=True))
        best = [not any(c <= own[0] and v >= own[1] and (c, v) != own for c, v in points) for own in points]
        assert pareto(cost, value).tolist() == best


def test_a_mark_far_below_the_others_is_written_at_the_edge():
    rows = [("a", method, NAN, NAN, hours, NAN) for hours, method in enumerate("KLMN", 1)]
    frame = timing(rows).assign(acr=[0.01, 0.5, 0.55, 0.6], s_per_epoch=1.0, clean=[0.6, 0.56, 0.55, 0.6])
    judged = pd.DataFrame({"id": frame["id"], "certified_at_0.00": 0.9})
    clean, acr = (axes for axes in tradeoff(frame.assign(sigma=0.25), judged).axes if axes.axison)
    (text,) = acr.texts
    assert text.get_text() == "↓ K: 0.01" and 0.4 < acr.get_ylim()[0] < 0.5 and not clean.texts


def test_points_of_one_method_with_other_epochs_are_joined():
    rows = [("a", method, NAN, NAN, hours, NAN) for method, hours in (("M", 1.0), ("M", 2.0), ("N", 1.5))]
    frame = timing(rows).assign(epochs=[1, 2, 2], clean=[0.5, 0.7, 0.6], id=list("abc"), s_per_epoch=1.0)
    plot = tradeoff(frame, pd.DataFrame())
    assert plot.data["point"].tolist() == ["M, 1 epochs", "M, 2 epochs", "N"]
    (joined,) = (line for line in plot.axes[0].lines if line.get_linestyle() == ":")
    assert joined.get_xydata().tolist() == [[1, 50], [2, 70]] and plot.axes[0].get_xlabel() == "training (hours)"


def test_certified_bands_against_numpy(smoothing):
    plot = certificates.certified(smoothing["certificates"], smoothing["timing"], [])
    rows = (
        smoothing["certificates"]
        .rename(columns={"cell": "id"})
        .merge(smoothing["timing"][["id", "arch", "method"]], on="id")
    )
    rows = rows[(rows["arch"] == "resnet20") & rows["method"].str.startswith("Gaussian")]
    curve = plot.data.query("arch == 'resnet20' and series == 'Gaussian'")
    assert set(curve["seeds"]) == {3} and len(curve) == 201
    for point in curve.iloc[::20].itertuples():
        shares = [(own["right"] & (own["radius"] >= point.radius)).mean() for _, own in rows.groupby("seed")]
        if np.std(shares):
            assert (point.estimate, point.low, point.high) == pytest.approx(t_interval(shares, 100))
    axes = plot.axes[0]
    assert (
        axes.get_title() == "resnet20" and plot.title == "Certified accuracy\u00a0· cifar10\u00a0· σ\u00a0=\u00a00.25"
    )
    band = next(b for b, own in zip(axes.collections, plot.data["series"].unique(), strict=True) if own == "Gaussian")
    drawn = band.get_paths()[0].vertices[:, 1]
    inside = curve[curve["estimate"] > 0]
    assert (drawn.min(), drawn.max()) == pytest.approx((inside["low"].min(), inside["high"].max()))


def test_two_seeds_have_their_range_and_one_its_own_interval():
    assert estimate([Interval(0.5, 0.4, 0.6)], "share") == (0.5, 0.4, 0.6)
    assert estimate([Interval(0.5, 0.4, 0.6), Interval(0.7, 0.2, 0.9)], "share") == pytest.approx((0.6, 0.5, 0.7))
    assert estimate([Interval(1.0, 0, 2), Interval(4.0, 0, 5)], "positive") == pytest.approx((2, 1, 4))
    assert math.isnan(estimate([], "real").mean)


@pytest.mark.parametrize(("x", "draw"), [("epoch", training.epochs), ("hours", training.hours)])
def test_training_curves_are_bands_over_seeds(adversarial, x, draw):
    plot = draw(adversarial["monitored"], adversarial["timing"])
    rows = adversarial["monitored"].merge(adversarial["timing"][["id", "hours", "epochs"]], on="id")
    own = rows[rows["method"].str.startswith("PGD7Fast")]
    drawn = plot.data.query("series == 'PGD7Fast' and measure == 'standing'").reset_index(drop=True)
    assert len(drawn) == 12 and set(drawn["eval"]) == {"PGD"}
    for row in drawn.itertuples():
        at = own[own["epoch"] == row.epoch]
        assert (row.estimate, row.low, row.high) == pytest.approx(t_interval(at["standing"], 100)) and row.seeds == 3
        assert row.hours == pytest.approx((at["hours"] * at["epoch"] / at["epochs"]).mean())
    axes = plot.axes[0]
    hollow = [line for line in axes.lines if line.get_marker() == "^" and line.get_markerfacecolor() == "white"]
    (line,) = (line for line in hollow if len(line.get_xdata()))
    scale = 1 if x == "epoch" else 60 if "minutes" in axes.get_xlabel() else 1
    assert line.get_xydata() == pytest.approx(drawn[[x, "estimate"]].to_numpy() * [scale, 1])
    # The hours of teachers are in the legend, since a student's own are far fewer.
    named = [name for name in lines_of_legend(plot) if name.startswith("RRM")]
    assert named == ["RRM"] if x == "epoch" else named[0].startswith("RRM (+ 0.13")


def lines_of_legend(plot: Plot) -> list[str]:
    legends = [*plot.legends, *(axes.get_legend() for axes in plot.axes if axes.get_legend())]
    return [text.get_text().replace("\n", " ") for legend in legends for text in legend.get_texts()]


def test_students_of_smoothing_have_their_acr(smoothing):
    certified, accuracy, acr = arguments.complexity(smoothing["timing"]).axes
    labels = [axes.get_ylabel() for axes in (certified, accuracy, acr)]
    assert labels == ["certified at 2σ (%)", "accuracy (%)", "ACR"]
    rows = smoothing["timing"].query("teacher.notna()")
    rows = rows[rows["method"].str.startswith("CRT")]
    means = [rows["acr"][rows["arch"] == arch].mean() for arch in ("resnet20", "resnet110")]
    assert [y for _, y in lines(acr)["CRT"]] == pytest.approx(means)


@pytest.mark.parametrize("suffix", ["pdf", "png", "svg"])
def test_a_file_for_each_figure_and_a_reason_for_each_other(tmp_path, adversarial, suffix):
    said = list(draw(adversarial, tmp_path / f"m.{suffix}"))
    starts = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}
    names = ("tradeoff", "slowdown", "schedule", "progress", "curves", "stacked")
    assert {file.name for file in tmp_path.iterdir()} == {f"m-{name}.{suffix}" for name in names}
    assert all(file.read_bytes().startswith(starts[suffix]) for file in tmp_path.iterdir())
    assert [line for line in said if line.startswith("wrote")] == [f"wrote {tmp_path}/m-{n}.{suffix}" for n in names]
    refused = {line.split(": ")[1] for line in said if line.startswith("not drawn")}
    assert refused == {"certified", "probability", "sweep", "complexity", "cumulative", "scaling"}
    assert "  without resnet10 SAT: no baseline timed with it" in said


def test_svgs_of_one_page_share_no_id(adversarial, smoothing):
    entries = [*figures(adversarial), *(entry for entry in figures(smoothing) if entry.name == "certified")]
    names = ["tradeoff", "slowdown", "schedule", "progress", "curves", "stacked", "certified"]
    assert [entry.name for entry in entries] == names
    ids: list[str] = []
    for entry in entries:
        root = ElementTree.fromstring(entry.svg)
        own = [element.get("id") for element in root.iter() if element.get("id")]
        used = re.findall(r"(?:url\(|href=\")#([^)\"]+)", entry.svg)
        assert used and set(used) <= set(own) and all(each.startswith(f"figure-{entry.name}-") for each in own)
        ids += own
        texts = {"".join(element.itertext()) for element in root.iter(f"{{{SVG}}}text")}
        assert "Pareto front" in texts or entry.name != "tradeoff"
        assert root[0].tag == f"{{{SVG}}}title" and root[0].text == entry.title
        assert root[1].tag == f"{{{SVG}}}desc" and root[1].text == entry.caption
        assert set(root.get("aria-labelledby").split()) <= set(own) and root.get("role") == "img"
        # Text and axes have the page's colour, and the background is the page's.
        assert "#000000" not in entry.svg and "#ffffff" not in entry.svg.replace("background, #ffffff", "")
        assert root.get("fill") == "currentColor" and "<?xml" not in entry.svg and "metadata" not in entry.svg
        assert not entry.data.empty and entry.left_out == entry.plot.left_out
    assert len(ids) == len(set(ids))
    assert [entry.svg for entry in figures(adversarial)] == [entry.svg for entry in entries[:-1]]


def test_text_is_legible_in_a_column(adversarial):
    for entry in figures(adversarial):
        assert entry.plot.get_figwidth() in (3.3, 6.8)
        entry.plot.draw_without_rendering()
        drawn = [text for text in entry.plot.findobj(Text) if text.get_text().strip() and text.get_visible()]
        assert min(text.get_fontsize() for text in drawn) >= 7
        page = entry.plot.bbox
        for text in drawn:
            box = text.get_window_extent()
            if text.axes is None or not box.width or text in text.axes.get_xticklabels() + text.axes.get_yticklabels():
                continue
            assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1, (entry.name, text.get_text())


def test_series_differ_in_grey():
    styles = list(looks(map(str, range(16))).values())
    assert len({(style["marker"], str(style["ls"])) for style in styles}) == 16
    assert len({style["color"] for style in styles[:8]}) == len({style["marker"] for style in styles[:8]}) == 8


def test_nothing_to_draw_is_said_in_a_sentence_and_written_nowhere(tmp_path):
    nothing = timing(STUDY).assign(slowdown=NAN, hours=NAN)
    needed = needs(timing(STUDY))
    for make, said in (
        (lambda: times.slowdown(nothing), "no method was timed with the baseline"),
        (lambda: times.slowdown(timing(STUDY[:2])), "only one method was timed"),
        (lambda: hours.cumulative(nothing, needed), "with a timed teacher"),
        (lambda: hours.cumulative(timing(STUDY[5:]), needed), "without a teacher"),
        (lambda: hours.cumulative(timing(STUDY[1:2] + STUDY[5:]), needed), "no architecture"),
        (lambda: hours.cumulative(timing(STUDY[2:3] + STUDY[5:]), needed), "only one architecture"),
        (
            lambda: hours.cumulative(timing(STUDY + STUDY).assign(id=range(16)), needed),
            "SmoothMix has two cells of r110",
        ),
        (lambda: times.scaling(SCALING[:0]), "no speedup was measured"),
        (lambda: times.scaling(SCALING[:1]), "only one speedup was measured"),
        (lambda: tradeoff(timing(STUDY), pd.DataFrame()), "no cell has both"),
        (lambda: tradeoff(timing(STUDY[1:3]).assign(clean=[0.5, 0.5]), pd.DataFrame()), "no two methods"),
    ):
        with pytest.raises(ValueError, match=said):
            make()
    with pytest.raises(ValueError, match=r"--plot .*tradeoff: no cell has both.*; slowdown: no method"):
        list(draw(NOTHING | {"timing": nothing}, tmp_path / "m.pdf"))
    assert not list(tmp_path.iterdir())


def test_constant_curves_are_not_drawn(smoothing, adversarial):
    flat = smoothing["certificates"].assign(radius=0.0)
    with pytest.raises(ValueError, match="no image is certified at a radius above 0; who: waits"):
        certificates.certified(flat, smoothing["timing"], ["who: waits"])
    once = adversarial["monitored"].query("epoch == 1")
    still = adversarial["monitored"].assign(clean=0.5, standing=0.1, loss=1.0)
    for frame in (once, still):
        with pytest.raises(ValueError, match="no network was monitored after two epochs with different results"):
            training.epochs(frame, adversarial["timing"])
    with pytest.raises(ValueError, match="no monitored network was timed"):
        training.hours(adversarial["monitored"], adversarial["timing"].assign(hours=NAN))


def test_bounds_of_one_eps_share_a_panel_that_names_each(tmp_path):
    names = ("LMT", "BCP", "CROWNIBP")
    frame = timing([("a", method, NAN, NAN, hours, NAN) for hours, method in enumerate(names, 1)])
    frame = frame.assign(id=names, norm="l2", sigma=0.0, trained_eps=0.5, s_per_epoch=1.0, clean=[0.6, 0.5, 0.55])
    # The first evaluation of each is an attack.
    frame = frame.assign(at_eps=[0.5, 0.4, 0.45], at_eps_by="PGD(steps=5) at l2 0.5")
    bounds = ["Lipschitz", "Lipschitz(bounds=box)", "CROWN"]
    judged = pd.DataFrame({"id": names, "judge": [*2 * ["Lipschitz"], "CROWN"], "eval": bounds, "eps": 0.5})
    judged = judged.assign(trained_eps=0.5, at_eps=[0.2, 0.3, 0.35])
    judged = judged.assign(at_eps_low=judged["at_eps"] - 0.05, at_eps_high=judged["at_eps"] + 0.05)
    smaller = judged.assign(eps=0.25, at_eps=[0.9, 0.9, 0.9])
    plot = tradeoff(frame, pd.concat([smaller, judged], ignore_index=True))
    labels = [axes.get_ylabel() for axes in plot.axes if axes.axison]
    assert labels == ["certified at ℓ2 0.5 (%)", "PGD at ℓ2 0.5 (%)", "clean (%)"]
    rows = plot.data[plot.data["measure"] == labels[0]].set_index("series")["estimate"]
    named = {"LMT by Lipschitz": 20.0, "BCP by Lipschitz bounds=box": 30.0, "CROWNIBP by CROWN": 35.0}
    assert rows.to_dict() == pytest.approx(named)
    assert set(named) <= set(lines_of_legend(plot))
