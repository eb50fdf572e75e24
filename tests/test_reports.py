"""Reports: intervals against scipy, tables against hand-made records, refusals, and what is missing."""

import csv
import io
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from bench.manifest import Manifest, read_manifest
from bench.records import SCHEMA, End, Epoch, Start, Verdict, append
from bench.results.measured import Measured
from bench.results.statistics import mean_ci, wilson
from crt.screen import Screen
from reports.__main__ import app
from reports.render import text as text_writer
from reports.render.table_spec import Column, TableSpec
from reports.tables.robustness import robustness
from reports.tables.timing import TIMING

TRAINED = """
title: Hand-made
baseline: Standard
dataset: digits
threat: {sigma: 0.25}
arch: cnn2c2f
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
evals: [Clean: {images: 4}, Smoothing: {n: 100, images: 4, skip_wrong: false}]
cells:
  - {method: Standard}
  - {method: Gaussian, paper: {s_per_epoch: 9.5, acr: 0.486, certified: {0.25: 67.75}}}
"""
TIMED = """
title: Hand-timed
baseline: Standard
timing: {runs: 3, rounds: 2, images: 64}
dataset: digits
threat: {sigma: 0.25}
arch: cnn2c2f
recipe: {epochs: 4, batch_size: 64, lr: 0.1}
cells: [{method: [Standard, Gaussian]}]
"""


def start(**changes) -> Start:
    values = dict(
        time=0.0, commit="c" * 40, dirty=False, python="3.11", torch="2", torchvision="1", cuda=None, ffcv="1",
        loader="ffcv", precision="fp32", device="cpu", driver=None, host="h", cpu="x", cpus=2, threads=2, load=0.0,
        allocator="default", world_size=1, nodes=1, process="fresh", job=None, seed=0,
    )  # fmt: skip
    return Start(**(values | changes))


def epoch(arm: str, number: int, seconds: float, images: int, turn: int | None = None) -> Epoch:
    return Epoch(
        arm=arm,
        round=turn,
        epoch=number,
        seconds=seconds,
        warmup=number == 0,
        images=images,
        lr=0.1,
        loss=1,
        memory=None,
    )


def report(tmp_path: Path, text: str, *options: str):
    (tmp_path / "m.yaml").write_text(text)
    command = [
        str(tmp_path / "m.yaml"),
        "--runs",
        str(tmp_path / "runs"),
        "--wide-csv",
        str(tmp_path / "m.csv"),
        *options,
    ]
    return CliRunner().invoke(app, command)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def cells(tmp_path: Path, text: str) -> Manifest:
    (tmp_path / "m.yaml").write_text(text)
    return read_manifest(tmp_path / "m.yaml")


def trained(tmp_path: Path, **changes) -> None:
    for k, cell in enumerate(cells(tmp_path, TRAINED).cells):
        file = tmp_path / "runs" / cell.id / "train.jsonl"
        flops = {cell.id: 10.0 * (k + 1)}
        append(file, start(flops=flops, **(changes if k else {})))
        for number, seconds in enumerate((50.0, 1.0, 2.0, 3.0)):
            append(file, epoch(cell.id, number, seconds * (k + 1), 1437))
        clean, smoothing = cell.evals
        for index, (prediction, radius) in enumerate(((1, 0.3), (1, 0.2), (-1, 0.0), (0, 0.5))):
            append(file, Verdict(eval=clean.id, index=index, label=1, prediction=1, radius=0, seconds=1))
            append(
                file, Verdict(eval=smoothing.id, index=index, label=1, prediction=prediction, radius=radius, seconds=1)
            )
        append(file, Verdict(eval=clean.id, index=99, label=1, prediction=0, radius=0, seconds=1))
        append(file, End(time=1.0))


def test_trained_cells(tmp_path):
    trained(tmp_path)
    result = report(tmp_path, TRAINED, "--out", str(tmp_path / "m.md"), "--latex", str(tmp_path / "m.tex"))
    assert result.exit_code == 0, result.output
    standard, gaussian = rows(tmp_path / "m.csv")
    assert list(standard) == TIMING
    assert float(standard["s_per_epoch"]) == 2.0 and float(gaussian["s_per_epoch"]) == 4.0
    half = scipy_stats.t.ppf(0.975, 2) * math.sqrt(1 / 3)
    assert 2 - half < float(standard["s_per_epoch_low"]) == 0
    assert float(standard["s_per_epoch_high"]) == pytest.approx(2 + half)
    assert float(gaussian["slowdown"]) == pytest.approx(2.0) and gaussian["slowdown_low"] == ""
    assert float(gaussian["ideal"]) == 2.0 and float(gaussian["efficiency"]) == pytest.approx(1.0)
    assert float(gaussian["hours"]) == pytest.approx(16 / 3600)
    assert (gaussian["paper_s_per_epoch"], standard["paper_s_per_epoch"], standard["memory_mb"]) == ("9.5", "", "")
    robust = rows(tmp_path / "m-robustness.csv")[1]
    assert float(robust["acr"]) == pytest.approx((0.3 + 0.2) / 4)
    assert [float(robust[f"certified_at_{r}"]) for r in ("0.00", "0.25", "0.50")] == [0.5, 0.25, 0.0]
    assert (float(robust["abstained"]), robust["images"], float(robust["clean"])) == (0.25, "4", 1.0)
    assert float(robust["paper_acr"]) == 0.486 and float(robust["paper_certified_at_0.25"]) == pytest.approx(0.6775)
    text = (tmp_path / "m.md").read_text()
    assert "| cnn2c2f | Gaussian | 64 | 4 [" in text and "| 2.00 | 2.00 | 1.00 |" in text and "67.75" in text
    assert r"\toprule" in (tmp_path / "m.tex").read_text()


def test_paired_study_is_scaled_and_its_interval_is_over_runs(tmp_path):
    manifest = cells(tmp_path, TIMED)
    (study,) = manifest.studies
    standard, gaussian = (cell.id for cell in study.arms)
    logs = []
    for run, (slow, factors) in enumerate(((1.0, (2.0, 2.2)), (3.0, (2.1, 1.9)), (10.0, (2.4, 2.0)))):
        file = tmp_path / "runs" / study.id / f"run{run}" / "time.jsonl"
        append(file, start(flops={standard: 1.0, gaussian: 1.5}))
        for turn, factor in enumerate((7.0, *factors)):
            append(file, epoch(standard, turn, slow * (turn + 1), 64, turn))
            append(file, epoch(gaussian, turn, slow * (turn + 1) * factor, 64, turn))
        logs.append(np.log(factors).mean())
    result = report(tmp_path, TIMED)
    assert result.exit_code == 0, result.output
    row = rows(tmp_path / "m.csv")[1]
    assert (row["runs"], row["rounds"]) == ("3", "2")
    assert float(row["slowdown"]) == pytest.approx(math.exp(np.mean(logs)))
    low, high = scipy_stats.t.interval(0.95, 2, np.mean(logs), scipy_stats.sem(logs))
    assert float(row["slowdown_low"]) == pytest.approx(math.exp(low))
    assert float(row["slowdown_high"]) == pytest.approx(math.exp(high))
    base = rows(tmp_path / "m.csv")[0]
    assert float(base["s_per_epoch"]) == pytest.approx(np.mean([2.5 * s for s in (1, 3, 10)]) * 1437 / 64)
    assert "over 3 runs" in result.output


@pytest.mark.parametrize(
    ("field", "value"), [("device", "H100"), ("loader", "torch"), ("threads", 1), ("torch", "3"), ("driver", "570")]
)
def test_unlike_times_are_not_divided(tmp_path, field, value):
    trained(tmp_path, **{field: value})
    result = report(tmp_path, TRAINED)
    assert result.exit_code == 2
    assert field in result.stderr and str(value) in result.stderr
    assert f"--allow {field}" in result.stderr and not (tmp_path / "m.csv").exists()
    assert report(tmp_path, TRAINED, "--allow", field).exit_code == 0
    assert [row["unlike"] for row in rows(tmp_path / "m.csv")] == ["", field]


def test_what_allow_does_not_know_is_named(tmp_path):
    result = report(tmp_path, TRAINED, "--allow", "colour")
    assert result.exit_code == 2 and "--allow colour" in result.stderr and "device" in result.stderr


def test_two_runs_folders_have_tables_of_their_own_and_no_common_ratio(tmp_path):
    trained(tmp_path)
    (tmp_path / "runs").rename(tmp_path / "old")
    trained(tmp_path, device="H100")
    # On either side the two cells are unlike or alike; across the folders nothing is divided.
    manifest = cells(tmp_path, TRAINED)
    (tmp_path / "runs" / manifest.cells[0].id / "train.jsonl").unlink()
    result = report(tmp_path, TRAINED, "--runs", str(tmp_path / "old"))
    assert result.exit_code == 0, result.output
    found = rows(tmp_path / "m.csv")
    assert [row["folder"] for row in found] == [str(tmp_path / "runs")] * 2 + [str(tmp_path / "old")] * 2
    assert [row["slowdown"] for row in found] == ["", "", "1.0", "2.0"]
    # A title may take several lines.
    assert "".join(result.output.split()).count(f"Time,{tmp_path / 'old'}") == 1


def test_what_is_missing_is_a_dash_and_never_zero(tmp_path):
    result = report(tmp_path, TRAINED)
    assert result.exit_code == 0 and "–" in result.output
    assert f"No records in {tmp_path / 'runs'} yet" in result.output
    assert f"python -m bench.submit {tmp_path / 'm.yaml'} --runs {tmp_path / 'runs'}\n" in result.output
    for row in rows(tmp_path / "m.csv"):
        assert {row[name] for name in TIMING[10:22] if name != "ideal"} == {""}
    row = rows(tmp_path / "m-robustness.csv")[0]
    assert {row["acr"], row["images"], row["clean"], row["certified_at_0.00"]} == {""}


def test_records_of_a_newer_schema_and_a_torn_line(tmp_path):
    trained(tmp_path)
    (file, *_) = (tmp_path / "runs").glob("*/train.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"kind": "epo')
    assert report(tmp_path, TRAINED).exit_code == 0
    newer = SCHEMA + 1
    file.write_bytes(whole.replace(f'"schema":{SCHEMA}'.encode(), f'"schema":{newer}'.encode()))
    result = report(tmp_path, TRAINED)
    assert result.exit_code == 0
    assert f"{file}, line 1: records of schema {newer}" in " ".join(result.output.split())


def test_radii_that_are_all_equal_tell_no_interval(tmp_path):
    trained(tmp_path)
    for file in (tmp_path / "runs").glob("*/train.jsonl"):
        file.write_text(
            file.read_text().replace('"radius":0.2', '"radius":0.0').replace('"radius":0.3', '"radius":0.0')
        )
    assert report(tmp_path, TRAINED).exit_code == 0
    assert [rows(tmp_path / "m-robustness.csv")[0][f"acr{end}"] for end in ("", "_low", "_high")] == ["0.0", "", ""]


@pytest.mark.parametrize("option", ["--csv", "--wide-csv", "--out", "--latex", "--plot"])
def test_a_file_that_cannot_be_written_is_named_before_anything_is_printed(tmp_path, option):
    result = report(tmp_path, TRAINED, option, str(tmp_path / "none" / "m.pdf"))
    assert result.exit_code == 2 and f"no folder {tmp_path / 'none'}" in result.stderr and not result.stdout


def test_what_is_no_folder_and_no_format_is_named(tmp_path):
    result = report(tmp_path, TRAINED, "--runs", str(tmp_path / "m.yaml"))
    assert result.exit_code == 2 and "m.yaml: not a folder" in result.stderr
    for name in ("m", "m.txt"):
        result = report(tmp_path, TRAINED, "--plot", str(tmp_path / name))
        assert result.exit_code == 2 and "allowed: .pdf, .png, .svg" in result.stderr and not result.stdout


def words_table(title: str, headings: list[str], rows: list[list[str]]) -> TableSpec:
    """A table of words, of which those of a method may fold."""
    columns = [Column(str(k), word, "name" if word == "method" else "label") for k, word in enumerate(headings)]
    return TableSpec(title, title, columns, pd.DataFrame(rows, columns=[c.key for c in columns], dtype=object))


def test_wide_cuts_nothing_on_a_narrow_terminal():
    heads = ["arch", "method", *(f"head{k}" for k in range(9))]
    row = ["cnn2c2f", "SmoothMix(m=2)", *(f"{k}.514 [0.{k}12, 9.{k}87]" for k in range(9))]
    console = Screen(width=40, file=io.StringIO())
    text_writer.show(console, "A title", [], [], [words_table("A caption", heads, [row])], wide=True)
    written = console.file.getvalue()
    assert "…" not in written
    for cell in (*heads, *row):
        assert cell in written, cell


def test_what_nothing_else_judged_has_a_row_of_its_own(tmp_path):
    text = TRAINED.replace("Smoothing: {n: 100, images: 4, skip_wrong: false}", "Noisy")
    manifest = cells(tmp_path, text)
    (one, other) = manifest.cells
    clean, noisy = one.evals
    said = {"label": 1, "radius": 0.0, "seconds": 0.0}
    verdicts = {
        spec.id: {i: Verdict(eval=spec.id, index=i, prediction=int(i < right), **said) for i in range(4)}
        for spec, right in ((clean, 3), (noisy, 2))
    }
    frame = robustness([Measured(one, tmp_path, verdicts=verdicts), Measured(other, tmp_path)])
    assert frame["judge"].tolist() == ["Clean", "Noisy"] * 2
    assert frame["clean"].tolist()[:2] == [0.75, 0.75] and frame["noisy"].tolist()[:2] == [0.5, 0.5]
    assert frame["clean_images"].tolist()[:2] == [4, 4] and frame["clean"].isna().sum() == 2


def test_intervals_against_scipy():
    values = [1.0, 2.0, 4.0, 4.5]
    low, high = scipy_stats.t.interval(0.95, 3, np.mean(values), scipy_stats.sem(values))
    assert mean_ci(values) == pytest.approx((np.mean(values), low, high))
    assert mean_ci([3.0])[0] == 3.0 and math.isnan(mean_ci([3.0])[1])
    p, n, z = 0.3, 50, scipy_stats.norm.ppf(0.975)
    middle, half = (
        (p + z**2 / 2 / n) / (1 + z**2 / n),
        z * math.sqrt(p * (1 - p) / n + z**2 / 4 / n**2) / (1 + z**2 / n),
    )
    assert wilson(15, 50) == pytest.approx((p, middle - half, middle + half))
    for count, total in ((0, 7), (7, 7), (1, 1)):
        library = scipy_stats.binomtest(count, total).proportion_ci(0.95, method="wilson")
        assert wilson(count, total) == pytest.approx((count / total, library.low, library.high))


def test_a_proportion_lies_within_its_own_interval():
    for total in range(1, 500):
        for count in {0, 1, total - 1, total}:
            share, low, high = wilson(count, total)
            assert 0 <= low <= share <= high <= 1, (count, total)
            assert low < high, "an interval of no width would claim certainty"


def test_files_are_written_though_nobody_reads_what_is_printed(tmp_path):
    page, golden = tmp_path / "page.html", Path(__file__).parent / "golden" / "report"
    command = [sys.executable, "-m", "reports", golden / "manifests" / "timing.yaml", "--html", page]
    process = subprocess.Popen(
        [*map(str, command), "--runs", str(golden / "runs")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[1],
    )
    # As `head` does, but before the first line, which a pipe would take.
    process.stdout.close()
    process.wait()
    assert page.read_text().rstrip().endswith("</html>")
