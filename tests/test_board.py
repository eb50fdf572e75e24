"""The board: ranks and their uncertainty, the best within a time and at an accuracy, and what is missing or apart."""

import math
import re
from itertools import combinations, pairwise
from pathlib import Path

import made_runs
import numpy as np
import pandas as pd
import pytest
from test_reports import epoch, start
from test_verdict import CELLS, HEAD, IMAGES, TIMED, evaluated, recorded
from typer.testing import CliRunner

from bench.manifest import read_manifest
from bench.manifest.manifest import Manifest
from bench.records import Verdict, append
from bench.results.board import ranked_settings
from bench.results.contenders import Contender, Difference, Setting
from bench.results.front import pareto
from bench.results.loading import load
from bench.results.measured import Measured
from bench.results.over_seeds import OverSeeds
from bench.results.ranking import fastest_at_least, front, most_robust_within, price, ranks, training_hours
from bench.results.statistics import Interval
from reports.__main__ import app
from reports.tables.limits import limits
from reports.tables.ranking import ranking

RIGHT = {"Standard": 60, "Gaussian": 400, "SmoothMix": 404}
ALONE = HEAD.replace("baseline: Standard\n", "")


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Records are appended line by line here, and no test pulls the plug."""
    monkeypatch.setattr("crt.disk.os.fsync", lambda file: None)


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    file = tmp_path_factory.mktemp("cell") / "m.yaml"
    file.write_text(HEAD + CELLS.replace("SEEDS", ""))
    return read_manifest(file).cells[0]


def setting_of(cell, tables: dict[str, np.ndarray], baseline: str = "") -> Setting:
    """A setting of methods with tables (seeds, images) of robust images."""
    contenders = []
    for label, table in tables.items():
        robust = {seed: dict(enumerate(map(bool, row))) for seed, row in enumerate(table)}
        by_seed = {seed: Measured(cell, Path("runs")) for seed in robust}
        contenders.append(Contender(label, by_seed, robust, label == baseline))
    return Setting("digits", "cnn2c2f", 1, "accuracy", tuple(contenders), False, frozenset())


def test_ranks_follow_from_the_differences_that_are_shown(cell):
    """An oracle by counting, on differences that are set at random."""
    random, labels = np.random.default_rng(0), "ABCDE"
    setting = setting_of(cell, {label: np.ones((1, 2)) for label in labels})
    shown = {}
    for pair in combinations(setting.contenders, 2):
        sign = int(random.integers(-1, 2))
        shown[pair] = sign
        interval = Interval(0.2 * sign, 0.2 * sign - 0.1, 0.2 * sign + 0.1)
        setting.differences[pair] = Difference(OverSeeds(interval), 0.01 if sign else 1.0)
    found = ranks(setting)
    for each in setting.contenders:
        better = sum(sign == (1 if pair[1] is each else -1) for pair, sign in shown.items() if each in pair)
        worse = sum(sign == (1 if pair[0] is each else -1) for pair, sign in shown.items() if each in pair)
        assert found[each] == (1 + better, 5 - worse)


def test_true_ranks_lie_within_theirs_together(cell):
    """In at least 95 % of studies, up to the spread of 150 of them; two methods are equal and share both ranks."""
    random = np.random.default_rng(1)
    levels = {"A": 0.7, "B": 0.6, "C": 0.6, "D": 0.3}
    true = {"A": (1, 1), "B": (2, 3), "C": (2, 3), "D": (4, 4)}
    covered, shared, told = [], [], []
    for _ in range(150):
        image = random.normal(0, 0.15, 150)
        tables = {
            label: random.random((3, 150)) < np.clip(level + random.normal(0, 0.03, (3, 1)) + image, 0, 1)
            for label, level in levels.items()
        }
        found = {each.label: rank for each, rank in ranks(setting_of(cell, tables)).items()}
        covered.append(all(found[k].first <= low and high <= found[k].last for k, (low, high) in true.items()))
        shared.append(found["B"].first == found["C"].first)
        told.append(found["D"].first > 1)
    assert np.mean(covered) > 0.95 - 2 * math.sqrt(0.95 * 0.05 / 150) and np.mean(shared) > 0.7
    assert np.mean(told) > 0.5


def test_the_best_within_each_time_and_at_each_accuracy(cell):
    random = np.random.default_rng(2)
    tables = {f"m{k}": random.random((2, 300)) < random.uniform(0.2, 0.9) for k in range(9)}
    setting = setting_of(cell, tables)
    hours = {each: Interval(float(random.integers(1, 7)), math.nan, math.nan) for each in setting.contenders}
    accuracy = {each: each.accuracy.mean for each in setting.contenders}
    within = list(most_robust_within(setting, hours))
    for limit in np.arange(0.5, 8, 0.5):
        own = [each for each in setting.contenders if hours[each].mean <= limit]
        row = next((row for row in reversed(within) if row.limit <= limit), None)
        assert (row is None) == (not own)
        if row:
            assert accuracy[row.best] == max(map(accuracy.__getitem__, own)) and row.methods <= len(own)
            expected = {each for each in own if each is not row.best and not setting.differs(row.best, each)}
            assert set(row.others) == expected
    reaching = list(fastest_at_least(setting, hours))
    for limit in sorted(accuracy.values()):
        own = [each for each in setting.contenders if accuracy[each] >= limit]
        row = [row for row in reaching if row.limit >= limit][-1]
        assert hours[row.best].mean == min(hours[each].mean for each in own)
        assert all(accuracy[each] < row.limit and hours[each].mean < hours[row.best].mean for each in row.others)
    assert all(one.limit < other.limit for one, other in pairwise(within))
    on_front = pareto([hours[each].mean for each in setting.contenders], [accuracy[e] for e in setting.contenders])
    best = {row.best for row in reaching}
    assert {each for each, on in zip(setting.contenders, on_front, strict=True) if on} == best


def test_hours_price_and_front_of_a_study(tmp_path):
    manifest, measured = recorded(tmp_path, TIMED + CELLS.replace("SEEDS", ""), RIGHT)
    (ranked,) = ranked_settings([(manifest, measured)])
    setting = ranked.setting
    hours, (base, gaussian, mixed) = training_hours(setting), setting.contenders
    assert hours[base].mean == pytest.approx(4 / 3600, rel=0.02) and setting.paired
    assert hours[mixed].mean / hours[base].mean == pytest.approx(8, rel=0.02)
    found, gain = price(setting, gaussian, hours), setting.difference(gaussian, base)
    more = hours[gaussian].mean - hours[base].mean
    assert found.mean == pytest.approx(more / (100 * (400 - 60) / IMAGES))
    assert (found.low, found.high) == pytest.approx((more / (100 * gain.high), more / (100 * gain.low)))
    assert math.isnan(price(setting, base, hours).mean)
    shares = front(setting, hours)
    assert shares[base] == 1 and shares[gaussian] == 1 and 0.3 < shares[mixed] < 1
    assert ranks(setting)[gaussian] == ranks(setting)[mixed] == (1, 2) and ranks(setting)[base] == (3, 3)


def test_hours_have_those_of_teachers(tmp_path):
    made_runs.frames(tmp_path, made_runs.ADVERSARIAL, images=60)
    manifest = read_manifest(tmp_path / "m.yaml")
    measured = load(manifest, [tmp_path / "runs"])
    (ranked,) = ranked_settings([(manifest, measured)])
    frame = ranking([ranked]).set_index("method")
    teacher = next(m for m in measured if m.cell.arch == "resnet10")
    own = [m for m in measured if m.cell.method.name == "KD"]
    mean = lambda m: np.mean([e.seconds for e in m.runs[0].values()]) * 12 / 3600  # noqa: E731
    label = next(name for name in frame.index if name.startswith("KD"))
    assert frame.loc[label, "hours"] == pytest.approx(mean(teacher) + np.mean([mean(m) for m in own]))
    assert frame.loc["Standard", "teacher"] is None or pd.isna(frame.loc["Standard", "teacher"])


def study(
    tmp_path: Path, name: str, text: str, methods: dict[str, int], host: str = "h", **machine: object
) -> Manifest:
    """A manifest whose cells of these methods are trained and evaluated, with so many robust images."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / f"{name}.yaml").write_text(text)
    manifest = read_manifest(tmp_path / f"{name}.yaml")
    for cell in manifest.cells:
        if cell.method.name in methods:
            file = tmp_path / "runs" / cell.id / "train.jsonl"
            append(file, start(host=host, **machine))
            for number in range(4):
                append(file, epoch(cell.id, number, 1.0 + 0.01 * number, 1437))
            evaluated(tmp_path / "runs", cell, methods[cell.method.name], 200)
    return manifest


def loaded(tmp_path: Path, *manifests: Manifest):
    return [(manifest, load(manifest, [tmp_path / "runs"])) for manifest in manifests]


def test_methods_of_several_manifests_compete(tmp_path):
    one = study(tmp_path, "one", HEAD + "cells: [{method: [Standard, Gaussian]}]\n", RIGHT | {"Gaussian": 150})
    two = study(tmp_path, "two", ALONE + "cells: [{method: [SmoothMix, Gaussian, MACER]}]\n", {"SmoothMix": 100})
    (ranked,) = ranked_settings(loaded(tmp_path, one, two))
    frame = ranking([ranked])
    assert list(frame["method"].str.split("(").str[0]) == ["Gaussian", "SmoothMix", "Standard", "MACER"]
    assert list(frame["rank"].fillna(0)) == [1, 2, 3, 0] and list(frame["missing"])[3] == "all records"
    assert frame["missing"].isna().sum() == 3 and not ranked.setting.paired
    assert set(limits([ranked])["criterion"]) == {"hours at most", "accuracy at least"}
    assert ranked_settings(loaded(tmp_path, two))[0].setting.baseline is None


def test_settings_of_the_same_words_have_titles_of_their_own(tmp_path):
    text = (
        HEAD.replace("evals: [Smoothing]", "PIPELINEevals: [Smoothing: {n: N}]")
        + "cells: [{method: [Standard, Gaussian]}]\n"
    )
    parts = [("", "1000"), ("", "2000"), ("pipeline: duet\n", "1000")]
    texts = [text.replace("PIPELINE", pipeline).replace("N}", f"{n}}}") for pipeline, n in parts]
    manifests = [study(tmp_path, f"m{k}", each, RIGHT) for k, each in enumerate(texts)]
    frame = ranking(ranked_settings(loaded(tmp_path, *manifests)))
    assert frame["setting"].nunique() == 3 and (frame.groupby("setting").size() == 2).all()
    assert [title for title in frame["setting"].unique() if "pipeline duet" in title]


def test_missing_seeds_and_evaluations_are_said(tmp_path):
    text = HEAD.replace("evals", "seed: [0, 1, 2]\nevals") + "cells: [{method: [Standard, Gaussian]}]\n"
    manifest = study(tmp_path, "one", text, {"Standard": 20, "Gaussian": 90})
    cells = {(cell.method.name, cell.seed): tmp_path / "runs" / cell.id for cell in manifest.cells}
    (cells["Gaussian", 1] / "judge.jsonl").unlink()
    for name in ("judge.jsonl", "train.jsonl"):
        (cells["Gaussian", 2] / name).unlink()
    frame = ranking(ranked_settings(loaded(tmp_path, manifest))).set_index("method")
    assert frame.loc["Gaussian", "missing"] == "1 of 3 trainings, evaluation of 1 of 3"
    assert list(frame.loc["Gaussian", ["cells", "trained", "seeds"]]) == [3, 2, 1]
    assert frame.loc["Standard", "seeds"] == 3 and pd.isna(frame.loc["Standard", "missing"])


def test_a_setting_without_any_record_is_shown_and_one_method_is_no_ranking(tmp_path):
    nothing = study(tmp_path, "none", HEAD + "cells: [{method: [Standard, Gaussian]}]\n", {})
    frame = ranking(ranked_settings(loaded(tmp_path, nothing)))
    assert list(frame["missing"]) == ["all records"] * 2 and frame["rank"].isna().all()
    alone = study(tmp_path, "alone", ALONE + "cells: [{method: Gaussian}]\n", {"Gaussian": 100})
    assert ranked_settings(loaded(tmp_path, alone)) == []


def test_collapsed_trainings_are_marked_and_a_method_that_always_collapses_has_no_rank(tmp_path):
    manifest = study(tmp_path, "one", HEAD + "cells: [{method: [Standard, Gaussian, SmoothMix]}]\n", {"Standard": 100})
    for cell in manifest.cells[1:]:
        append(tmp_path / "runs" / cell.id / "train.jsonl", start())
        append(tmp_path / "runs" / cell.id / "train.jsonl", epoch(cell.id, 0, 1.0, 1437))
        for index in range(60):
            constant = cell.method.name == "SmoothMix"
            verdict = {"label": index % 3, "prediction": 0 if constant else index % 3, "radius": 0.9, "seconds": 1}
            append(tmp_path / "runs" / cell.id / "judge.jsonl", Verdict(eval=cell.evals[0].id, index=index, **verdict))
    frame = ranking(ranked_settings(loaded(tmp_path, manifest))).set_index("method")
    assert frame.loc["SmoothMix", "collapse"] == "1 of 1: constant output" and pd.isna(frame.loc["SmoothMix", "rank"])
    assert frame.loc["Gaussian", "rank"] == 1 and pd.isna(frame.loc["Gaussian", "collapse"])


def test_records_of_unlike_machines_are_ranked_apart(tmp_path):
    text = HEAD.replace("evals", "seed: [0, 1]\nevals") + "cells: [{method: [Standard, Gaussian]}]\n"
    manifest = study(tmp_path, "one", text, {"Standard": 20})
    for cell, torch in zip(manifest.cells[2:], ("2.1", "2.2"), strict=True):
        append(tmp_path / "runs" / cell.id / "train.jsonl", start(torch=torch, host=f"host{torch}"))
        append(tmp_path / "runs" / cell.id / "train.jsonl", epoch(cell.id, 1, 1.0, 1437))
        evaluated(tmp_path / "runs", cell, 100, 200)
    ranked = ranked_settings(loaded(tmp_path, manifest))
    frame = ranking(ranked)
    assert len(ranked) == 3 and frame["setting"].nunique() == 3
    seeds = {row.measured_on: row.seeds for row in frame[frame["method"] == "Gaussian"].itertuples() if row.seeds > 0}
    assert seeds == {"host2.1": 1, "host2.2": 1}
    assert [bool(re.search(", torch 2.[12]$", title)) for title in frame["setting"].unique()].count(True) == 2
    (together,) = ranked_settings(loaded(tmp_path, manifest), ["torch"])
    assert ranking([together]).set_index("method").loc["Gaussian", "seeds"] == 2


def board(tmp_path: Path, *words: str | Path):
    one = study(tmp_path, "one", HEAD + "cells: [{method: [Standard, Gaussian]}]\n", {"Standard": 20, "Gaussian": 150})
    two = study(tmp_path, "two", ALONE + "cells: [{method: [SmoothMix, MACER]}]\n", {"SmoothMix": 100})
    assert one.name != two.name
    files = [tmp_path / f"{name}.yaml" for name in ("one", "two")]
    done = CliRunner().invoke(app, [*map(str, files), "--runs", str(tmp_path / "runs"), *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_board_is_printed_and_written_in_every_form(tmp_path):
    said = board(
        tmp_path,
        *("--html", tmp_path / "site", "--wide-csv", tmp_path / "b.csv"),
        *("--latex", tmp_path / "b.tex", "--out", tmp_path / "b.md"),
    )
    assert said.index("Ranking: digits, cnn2c2f, certified accuracy at l2 radius 0.5 (sigma 0.25)") > said.index("Time")
    assert {file.name for file in (tmp_path / "site").iterdir()} == {"board.html", "index.html", "one.html", "two.html"}
    assert (tmp_path / "site" / "index.html").read_text().count("<h2>") == 3
    frame = pd.read_csv(tmp_path / "b-ranking.csv")
    assert list(frame["rank"].fillna(0)) == [1, 2, 3, 0]
    assert set(pd.read_csv(tmp_path / "b-limits.csv")["criterion"]) == {"hours at most", "accuracy at least"}
    assert "| rank | method |" in (tmp_path / "b.md").read_text()
    lines = (tmp_path / "b.tex").read_text().partition("\\begin{document}")[2]
    assert r"\begin{table" in lines and not re.search(r"(?<!\\)%", lines)


def test_one_manifest_and_a_folder_make_a_site(tmp_path):
    board(tmp_path)
    words = [str(tmp_path / "one.yaml"), "--runs", str(tmp_path / "runs"), "--html", str(tmp_path / "one-site")]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert (tmp_path / "one-site" / "board.html").exists()


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
def test_the_page_needs_no_scrolling_sideways_and_sorts(visit, tmp_path, width):
    board(tmp_path, "--html", tmp_path / "site")
    tab = visit(tmp_path / "site" / "board.html", width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    # Nor does any table within the page.
    for part in tab.locator(".cards .scroll").all():
        assert part.evaluate("part => part.scrollWidth <= part.clientWidth"), part.get_attribute("aria-label")
    table = tab.locator("#results .table").first
    methods = lambda: [each.inner_text().split("(")[0] for each in table.locator("tbody th").all()]  # noqa: E731
    assert methods() == ["Gaussian", "SmoothMix", "Standard", "MACER"]
    table.get_by_role("button", name="robust %").click()
    assert methods() == ["Standard", "SmoothMix", "Gaussian", "MACER"]
