"""Tables fit a terminal of any width: columns are hidden in a stated order and named, and no number breaks."""

import io
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from bench.status import app as status
from bench.submit import app as submit
from crt import screen
from crt.fitted_table import FittedTable, wrapped
from crt.screen import Screen
from crt.table_layout import Column, fit
from reports.__main__ import app as report

HOME = Path(__file__).parent / "golden" / "report"
TABLE = "┏┃┡│└"
"""Characters that begin a line of a table."""


def drawn(columns: list[Column], width: int, **options) -> list[str]:
    console = Screen(width=width, file=io.StringIO())
    console.print(FittedTable("Title", columns, **options), crop=False)
    return console.file.getvalue().splitlines()


def headings(lines: list[str]) -> list[str]:
    """Headings of a drawn table, each put together from its lines."""
    rows = [line.split("┃")[1:-1] for line in lines if line.startswith("┃")]
    return [" ".join(part.strip() for part in parts if part.strip()) for parts in zip(*rows, strict=True)]


COLUMNS = [
    Column("method", ["Standard", "CRT(target=logits) from resnet110 SmoothAdv"], left=True, fold=True),
    Column("batch", ["64", "64"]),
    Column("loader %", ["1.5", "2.5"], hide=1),
    Column("images/s", ["1,000", "900"], hide=2),
    Column("slowdown", ["1.00", "1.24 [1.21, 1.27]"]),
    Column("training time", ["3 min 20 s", "4 min 10 s"], hide=3),
    Column("r = 0.50", ["51.0 [47, 55]", "50.4 [46, 54]"]),
    Column("r = 1.00", ["31.0 [27, 35]", "30.4 [26, 34]"]),
]


@pytest.mark.parametrize(
    ("width", "hidden", "below"),
    [
        (200, [], False),
        (100, [], False),
        (99, ["loader %"], False),
        (85, ["loader %", "images/s"], False),
        (80, ["loader %", "training time"], False),  # images/s returns, because there is room for it
        (70, ["loader %", "images/s", "training time"], False),
        (69, ["loader %", "images/s"], True),
        (65, ["loader %", "training time"], True),
        (60, ["loader %", "images/s", "training time"], True),
        (40, ["loader %", "images/s", "training time", "r = 0.50", "r = 1.00"], True),
    ],
)
def test_columns_are_hidden_in_the_stated_order(width, hidden, below):
    lines = drawn(COLUMNS, width, hint="--wide shows them")
    assert max(map(cell_len, lines)) <= width
    assert headings(lines) == [c.heading for c in COLUMNS if c.heading not in (*hidden, "batch")]
    named = " ".join(lines[next((k for k, line in enumerate(lines) if line.startswith("Hidden")), len(lines)) :])
    assert named == (f"Hidden at {width} columns: {', '.join(hidden)} (--wide shows them)" if hidden else "")
    assert lines[1] == "All rows: batch 64"
    # An interval stands beside its estimate or below it, and never breaks.
    assert any("1.24 [1.21, 1.27]" in line for line in lines) is not below
    assert any("[1.21, 1.27]" in line for line in lines)


def test_wide_shows_all_columns_at_any_width():
    assert headings(drawn(COLUMNS, 40, wide=True)) == [column.heading for column in COLUMNS]


def test_a_table_of_one_row_keeps_its_columns_and_one_of_equal_rows_its_first():
    one = [Column(column.heading, column.texts[:1], fold=column.fold) for column in COLUMNS]
    assert len(fit(one, 200).columns) == len(COLUMNS)
    same = [Column("a", ["x", "x"]), Column("b", ["y", "y"]), Column("c", ["1", "1"], fixed=True)]
    assert [column.heading for column in fit(same, 80).columns] == ["c"]
    assert [column.heading for column in fit(same[:2], 80).columns] == ["a"]


def test_a_title_with_a_long_path_breaks_between_its_folders():
    path = "/home/user/results/of/the/cluster/with-a-long-name/in-the-year-2026/table4/repeated/runs"
    console = Screen(width=40, file=io.StringIO())
    console.print(FittedTable(f"Time, {path}", COLUMNS[:1]), crop=False)
    lines = console.file.getvalue().split("┏")[0].splitlines()
    assert max(map(cell_len, lines)) <= 40 and "".join(lines) == f"Time, {path}"
    assert len(lines) == 3 and all(line.endswith("/") for line in lines[:-1])


def test_a_name_that_is_wider_than_a_line_breaks_anywhere():
    lines = wrapped(Screen(width=10), "a/" + 25 * "x" + "/b", 10)
    assert max(map(len, lines)) == 10 and "".join(lines) == "a/" + 25 * "x" + "/b"


def test_words_fold_between_words_and_wide_characters_count_twice():
    columns = [Column("word", ["表表 表表 one two", "x"], left=True, fold=True), Column("n", ["1", "2"])]
    lines = drawn(columns, 17)
    assert max(map(cell_len, lines)) <= 17 and {cell_len(line) for line in lines if line[0] in TABLE} == {17}
    assert [line.split("│")[1].strip() for line in lines if line.startswith("│")] == ["表表 表表", "one two", "x"]


@pytest.fixture
def frozen(tmp_path, monkeypatch):
    """A folder with the frozen records, as the current one."""
    for part in ("manifests", "weights", "runs", "gpu-runs"):
        (tmp_path / part).symlink_to(HOME / part)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", sorted(file.stem for file in (HOME / "manifests").glob("*.yaml")))
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_every_report_fits_its_terminal_and_wide_has_all(frozen, monkeypatch, name, width):
    if name == "autoattack":
        pytest.importorskip("pyautoattack")
    monkeypatch.setattr(screen, "WIDTH", width)
    options = [f"manifests/{name}.yaml", "--runs", "gpu-runs" if name == "gpu" else "runs"]
    options += [word for field in ("precision", "threads", "loader") for word in ("--allow", field)]
    if name == "quick":
        options.append("--quick")
    done, wide = CliRunner().invoke(report, options), CliRunner().invoke(report, [*options, "--wide"])
    assert done.exit_code == wide.exit_code == 0, done.output
    lines = [line for line in done.output.splitlines() if line and line[0] in TABLE]
    assert lines and max(map(cell_len, lines)) <= width
    assert "Hidden at" not in wide.output and "All rows:" not in wide.output
    # The columns of a table are those that stand in it, those that a line above gives, and those named as hidden.
    for narrow, full in zip(tables(done.output), tables(wide.output), strict=True):
        shared = re.search(r"All rows: (.*?)(?=┏)", narrow, re.DOTALL)
        named = re.search(r"Hidden at \d+ columns: (.*?) \(--wide", " ".join(narrow.split()))
        hidden = named[1] if named else ""
        for heading in headings(full.splitlines()):
            stands = heading in headings(narrow.splitlines()) or heading in hidden
            assert stands or (shared and heading in " ".join(shared[1].split())), (heading, narrow)


def tables(output: str) -> list[str]:
    """The tables of a report, each with the lines above and below it up to the next blank line."""
    return [block for block in output.split("\n\n") if "┏" in block]


@pytest.mark.parametrize("command", ["submit", "status"])
@pytest.mark.parametrize("name", ["smoothing", "lipschitz", "timing", "attempts", "scaling"])
def test_plans_and_states_fit_80_columns(frozen, name, command):
    where = [f"manifests/{name}.yaml", "--data", "data"]
    plan = [*where, "--runs", "none", "--launcher", "local", "--dry-run", "--device", "a100"]
    done = CliRunner().invoke(submit, plan) if command == "submit" else CliRunner().invoke(status, where)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.output.splitlines() if line and line[0] in TABLE]
    assert lines and max(map(cell_len, lines)) <= 80 and "…" not in done.output
