"""Precision on demand: the runs that a stated width needs, who decides, and that the intervals keep their coverage."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats
from test_ddp import run as run_ranks
from test_reports import epoch, start
from typer.testing import CliRunner

from bench import submit
from bench.jobs.lease import JobPaths
from bench.jobs.time_arms import run_study
from bench.manifest import Manifest, read_manifest
from bench.manifest.manifest import Study, Timing
from bench.manifest.quick import reduce
from bench.plan.waves import waves
from bench.records import End, append
from bench.results.intervals import paired_ratio
from bench.results.precision import needed_runs, precision
from crt import distributed
from reports import __main__ as reports
from reports.interval_coverage import CASES
from reports.precision_coverage import FIXED, NAIVE, STAGES, publish, simulate

FIXED_RUNS = """
baseline: Standard
dataset: digits
loader: device
threat: {sigma: 0.25}
arch: cnn2c2f
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
timing: {runs: 3, rounds: 2, images: 64}
cells: [{method: [Standard, Gaussian]}]
"""
ASKED = FIXED_RUNS.replace("rounds: 2", "rounds: 2, until: 2%, at_most: 12")
OFFSETS = (0.010, -0.004, 0.020)
"""Log ratios of the first runs, beside that of the method."""


def read(tmp_path: Path, text: str) -> Manifest:
    (tmp_path / "m.yaml").write_text(text)
    return read_manifest(tmp_path / "m.yaml")


def recorded(runs: Path, study: Study, offsets: Sequence[float], first: int = 0) -> None:
    """Write runs from number `first` on, in which Gaussian takes 1.2 times as long, by e to the power of its offset."""
    for number, offset in enumerate(offsets, first):
        file = runs / study.id / f"run{number}" / "time.jsonl"
        append(file, start(flops={arm.id: 1e6 for arm in study.arms}))
        for arm in study.arms:
            for turn in range(3):
                pace = 1.2 * math.exp(offset) if arm.method.name == "Gaussian" else 1.0
                append(file, epoch(arm.id, turn, pace, 64, turn))
        append(file, End(time=1.0))


def expected_runs(offsets: Sequence[float], until: float) -> int:
    """Stein's number of runs."""
    return math.ceil((scipy_stats.t.ppf(0.975, len(offsets) - 1) * np.std(offsets, ddof=1) / np.log1p(until)) ** 2)


def test_precision_is_no_part_of_a_studys_identity(tmp_path):
    fixed, asked = read(tmp_path, FIXED_RUNS), read(tmp_path, ASKED)
    assert [study.id for study in fixed.studies] == [study.id for study in asked.studies]
    assert asked.study_timing.until == 0.02 and read(tmp_path, ASKED.replace("2%", "0.02")) == asked
    quick = reduce(asked).study_timing
    assert (quick.until, quick.at_most, quick.most_runs) == (None, None, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("until: 2%", "until: 0"), "timing.until: 0"),
        (("until: 2%", "until: 100%"), "timing.until: "),
        (("until: 2%", "until: narrow"), "a number is needed"),
        ((", at_most: 12", ""), "timing.at_most: missing, and until needs a limit"),
        (("until: 2%, ", ""), "timing.at_most: 12 (allowed: with until, the precision to reach)"),
        (
            ("runs: 3", "runs: 2"),
            "timing.runs: 2 (allowed: with until at least 3, whose spread",
        ),
        (("at_most: 12", "at_most: 2"), "timing.at_most: 2 (allowed: at least 3, the first runs)"),
    ],
)
def test_a_precision_that_cannot_be_reached_is_refused(tmp_path, change, words):
    with pytest.raises(ValueError) as error:
        read(tmp_path, ASKED.replace(*change))
    assert words in str(error.value)


@pytest.mark.parametrize(("until", "most"), [(0.02, 100), (0.02, 4), (0.2, 100), (0.005, 100)])
def test_the_widest_ratio_decides_the_number_within_its_limits(until, most):
    wide, narrow = [0.01, -0.02, 0.03, 0.0], [0.001, 0.002, 0.001, 0.0]
    timing = Timing(runs=4, until=until, at_most=most)
    assert needed_runs([narrow, wide], timing) == max(4, min(most, expected_runs(wide, until)))


def test_the_interval_has_the_spread_of_the_first_runs_and_the_mean_of_all():
    logs = [[0.01], [0.04], [-0.02], [0.05], [0.02]]
    first, everything = np.ravel(logs[:3]), np.ravel(logs)
    half = scipy_stats.t.ppf(0.975, 2) * first.std(ddof=1) / math.sqrt(5)
    ends = np.exp([everything.mean(), everything.mean() - half, everything.mean() + half])
    assert np.allclose(paired_ratio(logs, 3), ends)
    low, high = scipy_stats.t.interval(0.95, 4, everything.mean(), everything.std(ddof=1) / math.sqrt(5))
    assert np.allclose(np.log(paired_ratio(logs)), [everything.mean(), low, high])
    within = [[0.01, 0.02, 0.01], [0.04, 0.05, 0.03]]
    assert paired_ratio(within, 3) == paired_ratio(within)


def test_the_first_runs_decide_which_jobs_follow(tmp_path):
    manifest, place = read(tmp_path, ASKED), JobPaths(runs=tmp_path / "runs", data=tmp_path, process="fresh")
    (study,) = manifest.studies
    first, further = waves(manifest, place)
    assert [job.task.number for job in first.jobs] == [0, 1, 2] and further.after == 0
    assert [job.task.number for job in further.jobs] == list(range(3, 12))
    recorded(place.runs, study, OFFSETS[:2])
    assert not precision(study, place.runs).known and len(waves(manifest, place)[1].jobs) == 9
    recorded(place.runs, study, OFFSETS[2:], 2)
    needed = expected_runs(OFFSETS, 0.02)
    assert 3 < needed < 12
    found = precision(study, place.runs)
    reached = math.expm1(scipy_stats.t.ppf(0.975, 2) * np.std(OFFSETS, ddof=1) / math.sqrt(3))
    assert (found.runs, found.needed, found.known) == (3, needed, True) and math.isclose(found.reached, reached)
    assert [job.task.number for job in waves(manifest, place)[1].jobs] == list(range(3, needed))
    recorded(place.runs, study, [0.5] * (needed - 3), 3)
    found = precision(study, place.runs)
    assert found.needed == needed and found.reached <= 0.02  # later runs change neither the number nor the width
    assert all(job.progress.finished for wave in waves(manifest, place) for job in wave.jobs)
    plain = read(tmp_path, FIXED_RUNS)
    assert [wave.name for wave in waves(plain, place)] == ["time"]


def test_reports_say_what_is_reached_and_use_the_interval_of_two_stages(tmp_path):
    manifest = read(tmp_path, ASKED)
    (study,) = manifest.studies
    where = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--csv", str(tmp_path / "m.csv")]
    for offsets, first, words in (
        (OFFSETS[:2], 0, "2 of the first 3 runs are complete."),
        (OFFSETS[2:], 2, "% after 3 runs, which is not reached. Submit the manifest again."),
    ):
        recorded(tmp_path / "runs", study, offsets, first)
        assert words in CliRunner().invoke(reports.app, where).output
    needed = expected_runs(OFFSETS, 0.02)
    recorded(tmp_path / "runs", study, [0.01] * (needed - 3), 3)
    done = CliRunner().invoke(reports.app, where)
    assert f"% after {needed} runs." in done.output and "variation over" in done.output
    assert "paired two-stage t of log ratios over runs" in (tmp_path / "m.csv").read_text()
    (tmp_path / "m.yaml").write_text(ASKED.replace("2%", "0.1%").replace("at_most: 12", f"at_most: {needed}"))
    assert "which is not reached. Raise at_most." in CliRunner().invoke(reports.app, where).output


def test_a_run_that_is_not_needed_ends_at_once(tmp_path, digits, capsys):
    (study,) = read(tmp_path, ASKED).studies
    place = JobPaths(runs=tmp_path / "runs", data=digits, process="shared")
    run_study(study, 3, place)
    assert "run 4: not timed. 0 of the first 3 runs" in capsys.readouterr().out
    recorded(place.runs, study, OFFSETS)
    needed = expected_runs(OFFSETS, 0.02)
    run_study(study, needed, place)
    assert f"±2 % needs {needed} runs." in capsys.readouterr().out
    assert not list(place.runs.glob("*/run*/time.jsonl"))[3:]
    run_study(study, needed - 1, place)
    assert (place.runs / study.id / f"run{needed - 1}" / "time.jsonl").exists()


def test_rank_0_decides_for_all_ranks(tmp_path, digits):
    (study,) = read(tmp_path, ASKED.replace("cells:", "ranks: 2\ncells:")).studies
    recorded(tmp_path / "rank0", study, OFFSETS)
    needed = expected_runs(OFFSETS, 0.02)
    for number in (needed, needed - 1):
        # The second rank sees no records, and takes the same decision all the same: else one would wait for the other.
        run_ranks(_run, 2, tmp_path, digits, number)
        assert (tmp_path / "rank0" / study.id / f"run{number}" / "time.jsonl").exists() == (number < needed)


def _run(rank: int, folder: Path, data: Path, number: int) -> None:
    (study,) = read_manifest(folder / "m.yaml").studies
    assert distributed.world_size() == 2
    run_study(study, number, JobPaths(runs=folder / f"rank{rank}", data=data, process="shared"))


def test_a_study_takes_as_many_runs_as_it_needs(tmp_path, digits):
    read(tmp_path, ASKED.replace("until: 2%, at_most: 12", "until: 99%, at_most: 4"))
    where = [str(tmp_path / "m.yaml"), "--runs", str(tmp_path / "runs"), "--data", str(digits)]
    done = CliRunner().invoke(submit.app, [*where, "--launcher", "inline"])
    assert done.exit_code == 0 and "after 3 runs; ±99 % needs" in done.output, done.output
    assert "Nothing left to do" in CliRunner().invoke(submit.app, [*where, "--launcher", "inline"]).output
    listed = CliRunner().invoke(submit.app, [*where, "--launcher", "local", "--dry-run"])
    assert listed.exit_code == 0, listed.output


def test_stopping_early_loses_coverage_and_two_stages_keep_it():
    rows = simulate(CASES[1], 1, 1000)
    covers = {(row["rule"], row["first"], row["until"]): row["coverage"] for row in rows}
    assert covers[NAIVE, 3, 0.015] < 0.925
    for (rule, *_), coverage in covers.items():
        if rule in (FIXED, STAGES):
            assert abs(coverage - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 1000), rule


def test_the_page_shows_every_rule(tmp_path):
    publish(3, tmp_path)
    page = (tmp_path / "precision.md").read_text(encoding="utf-8")
    assert "python -m reports.coverage --replicates 3`" in page and "nan" not in page
    assert page.count(f"| {STAGES} |") == page.count(f"| {NAIVE} |") == 18
