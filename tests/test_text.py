"""Text is data: shown as it is, read back by a shell as it was, and refused where it cannot name a folder."""

import ast
import html
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from markdown_it import MarkdownIt
from rich.table import Table
from rich.text import Text
from test_layers import TREES
from test_reports import words_table
from typer.testing import CliRunner

from bench.command import application, report_errors
from bench.jobs import progress
from bench.jobs.lease import JobPaths, take_lease
from bench.jobs.tasks import DataTask
from bench.manifest import read_manifest
from bench.manifest.manifest import Manifest
from bench.manifest.strict_yaml import load_yaml
from bench.plan import job_states, status_table
from bench.plan.job_states import State
from bench.plan.selection import chosen
from bench.records import read
from bench.results.contenders import settings
from bench.results.loading import load
from bench.submit import app as submit
from crt import screen
from crt.data import DATASETS
from crt.data.beton_file import ensure
from crt.text import command, invocation, printable
from launchers.task import Job, TaskProgress
from reports.__main__ import app as report
from reports.frames import make_frames
from reports.render.latex import latex
from reports.render.latex_text import escape
from reports.render.table_spec import LATEX
from reports.render.text import markdown
from reports.tables.all_tables import tables

ROOT = Path(__file__).parents[1]
MANIFEST = {
    "dataset": "digits",
    "arch": "cnn2c2f",
    "recipe": {"epochs": 1, "batch_size": 32, "lr": 0.01},
    "cells": [{"method": "Standard"}],
}
STUDY = MANIFEST | {"baseline": "Standard", "timing": {"runs": 1, "rounds": 1}}
MARKUP = ["[x]", "[/x]", "[red]warm[/red]", "[[y]]", r"\[x]", ":smile:", "[link=https://x.y]z[/link]", "[/]", "{task}"]
NAMES = ["a b", "it's", 'say "x"', "$HOME", "a;b&c", "*", "[x]", "~", "back\\slash", "`date`", "tabl\u00e9", "#1"]
STEERING = ["a\nb", "a\rb", "\x1b[31mred", "tab\tb", "\x9b2J", "\u202etxt", "\u2028", os.fsdecode(b"\xff")]


def write(path: Path, content: dict = MANIFEST, **more: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content | more, allow_unicode=True), encoding="utf-8")
    return path


def words(line: str) -> list[str]:
    """The arguments that a shell reads in a line."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


# Markup


@pytest.mark.parametrize("text", MARKUP)
def test_a_console_shows_text_as_it_is(text):
    shown = screen.Screen(file=io.StringIO(), width=200)
    table = Table(text, title=f"title {text}", caption=f"caption {text}")
    table.add_row(f"cell {text}")
    shown.rule(f"rule {text}")
    shown.print(f"line {text}")
    shown.print(table)
    out = shown.file.getvalue()
    assert all(f"{place} {text}" in out for place in ("rule", "line", "title", "caption", "cell"))
    assert text in out.split("┃")[1]


@pytest.mark.parametrize("text", MARKUP)
def test_a_progress_bar_shows_text_as_it_is(monkeypatch, text):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(screen, "output", lambda: screen.Screen(file=terminal, force_terminal=True, width=200))
    with progress.Progress(f"title {text}", 2, 0, "image") as bar:
        bar.step(f"note {text}")
    shown = [Text.from_ansi(line).plain for line in terminal.getvalue().splitlines()]
    assert any(f"title {text}" in line and f"note {text}" in line for line in shown)


@pytest.mark.parametrize("text", MARKUP)
def test_reports_and_plans_show_titles_and_folders_as_they_are(tmp_path, text):
    path = write(tmp_path / "m.yaml", title=f"Title {text}")
    runs = tmp_path / text.replace("/", "|")
    done = CliRunner().invoke(report, [str(path), "--runs", str(runs)])
    assert done.exit_code == 0 and f"Title {text}\n" in done.output and f"No records in {runs} yet" in done.output
    where = ["--runs", str(runs), "--data", str(tmp_path), "--launcher", "local", "--dry-run"]
    done = CliRunner().invoke(submit, [str(path), *where])
    assert done.exit_code == 0 and f"Title {text}" in done.output


@pytest.mark.parametrize("text", MARKUP)
def test_states_show_hosts_reasons_and_logs_as_they_are(tmp_path, text):
    manifest = read_manifest(write(tmp_path / "m.yaml", title=f"Title {text}"), networks=False)
    shown = screen.Screen(file=io.StringIO(), width=200)
    status_table.show(shown, manifest, [_state(text)], f"note {text}")
    out = shown.file.getvalue()
    assert all(f"{place} {text}" in out for place in ("Title", "note", "reason", "node", "last words"))


def _state(text: str) -> State:
    place = JobPaths(runs=Path("none"), data=Path("none"), process="fresh")
    job = Job(task=DataTask(dataset="x", source=Path("none"), place=place), progress=TaskProgress())
    log_tail = (f"last words {text}",)
    return State(job=job, word="failed", reason=f"reason {text}", node=f"node {text}", id="7", log_tail=log_tail)


@pytest.mark.parametrize("pattern", ["x=[1, 2]", "[1", "2]", "x=[[]1", "x=*2]", "?=[1"])
def test_a_bracket_in_only_is_a_bracket(tmp_path, pattern):
    manifest = read_manifest(write(tmp_path / "m.yaml"), networks=False)
    (cell,) = manifest.cells
    cell = cell.model_copy(update={"method": cell.method.model_copy(update={"label": "Standard(x=[1, 2])"})})
    manifest = manifest.model_copy(update={"cells": (cell,)})
    if pattern == "x=[[]1":
        with pytest.raises(ValueError, match="in no cell's id or label"):
            chosen(manifest, pattern)
    else:
        assert chosen(manifest, pattern).cells == (cell,)


# What steers a terminal


@pytest.mark.parametrize("text", STEERING)
def test_what_steers_a_terminal_is_spelled_out(capsys, text):
    assert re.fullmatch(r"[ -~]+", printable(text)) and printable(printable(text)) == printable(text)
    with pytest.raises(typer.Exit) as ended, report_errors():
        raise ValueError(f"{text}: wrong")
    assert ended.value.exit_code == 2 and capsys.readouterr().err == f"error: {printable(text)}: wrong\n"
    shown = screen.Screen(file=io.StringIO(), width=200, force_terminal=True)
    status_table.show(shown, Manifest(name="m", title="m", cells=()), [_state(text)], "")
    # "failed" is the one word in red.
    assert shown.file.getvalue().count("\x1b[31m") == 1 and not set(shown.file.getvalue()) & set(
        "\r\x9b\u202e\u2028\udcff"
    )


@pytest.mark.parametrize(
    "logged",
    [
        "\x1b[31mlost\x1b[0m",
        "\x1b]0;title\x07lost",
        "10%\r99%\rlost",
        "\x1b[2K\x1b[1Alost",
        "\x1b]8;;x\x1b\\lost\x1b]8;;\x1b\\",
    ],
)
def test_the_tail_of_a_log_is_words_alone(tmp_path, logged):
    (tmp_path / "7_0_log.err").write_bytes(logged.encode())
    said = job_states._tail(tmp_path, "7")
    assert printable(said[-1]).endswith("lost") and "\x1b" not in "".join(said)


@pytest.mark.parametrize("text", STEERING)
def test_why_a_job_failed_is_recorded_whatever_it_names(tmp_path, text):
    place = JobPaths(runs=tmp_path, data=tmp_path, process="shared")
    with pytest.raises(ValueError, match="lost"), take_lease(tmp_path / "x" / "train.jsonl", place):
        raise ValueError(f"lost {text}")
    (fail,) = read(tmp_path / "x" / "train.jsonl")
    assert fail.reason == printable(f"lost {text}".strip().splitlines()[0])


@pytest.mark.parametrize(
    "written", [r'"\e[31m"', r'"a\rb"', r'"\x9bJ"', r'"\u202Ex"', r'"\uDCFF"', r'"\0"', r'"\u2028"']
)
@pytest.mark.parametrize("place", ["title: {}", "x: [1,\n {}]", "{}: 1"])
def test_a_manifest_holds_nothing_that_steers_a_terminal(tmp_path, written, place):
    (tmp_path / "m.yaml").write_text(place.format(written))
    with pytest.raises(ValueError, match=rf"m\.yaml, line {1 + place.count(chr(10))}: .*control character"):
        load_yaml(tmp_path / "m.yaml")


# Encodings

TITLE = "Tabl\u00e9 – σ ≤ ∞ ± 表 e\u0301 " + os.fsdecode(b"\xff")


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", "Table - ? <= inf +/- ? e \\xff"),
        ("latin-1", "Tablé - ? <= inf ± ? e \\xff"),
        ("cp1252", "Tablé – ? <= inf ± ? e \\xff"),
        ("cp437", "Tablé - σ ≤ ∞ ± ? e \\xff"),
        ("shift_jis", "Table - σ <= ∞ ± 表 e \\xff"),
        ("utf-8", "Tablé – σ ≤ ∞ ± 表 e\u0301 \\xff"),
    ],
)
def test_no_encoding_ends_a_command(monkeypatch, encoding, expected):
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    app = application()

    @app.command()
    def main(word: str) -> None:
        """Say it in every way – in a help text, too."""
        print(word)
        table = Table(word, title=f"title {word}")
        table.add_row(f"cell {word}")
        screen.output().print(table)
        with report_errors():
            raise ValueError(word)

    assert app([TITLE], standalone_mode=False) == 2
    with pytest.raises(SystemExit):
        app(["--help"])
    shown = {}
    for name, stream in streams.items():
        stream.flush()
        # typer takes a terminal that says it is ASCII for one of UTF-8.
        shown[name] = stream.buffer.getvalue().decode("utf-8" if encoding == "ascii" else encoding)
    lines = shown["stdout"].splitlines()
    assert lines[0] == expected and any(f"title {expected}" in line for line in lines)
    assert any(f"cell {expected} " in line for line in lines) and ("┃" in shown["stdout"]) == (encoding == "utf-8")
    assert shown["stderr"] == f"error: {expected}\n" and "Say it in every way" in shown["stdout"]


def test_files_are_utf8_and_the_report_ends_well_where_the_locale_is_ascii(tmp_path):
    path = write(tmp_path / "m.yaml", title="Tablé – σ", threat={"sigma": 0.25})
    files = {kind: tmp_path / f"report.{kind}" for kind in ("out", "latex", "csv")}
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "reports", path, "--runs", tmp_path / "r\u00fcns"]
        + [word for kind, file in files.items() for word in (f"--{kind}", file)],
        cwd=ROOT,
        env=os.environ | ascii_only,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"Table - ?\n") and b"r\\xc3\\xbcns yet" in done.stdout and done.stdout.isascii()
    assert files["out"].read_text(encoding="utf-8").startswith("# Tablé – σ\n")
    assert r"\section*{Tabl\'{e} -- \ensuremath{\sigma}}" in files["latex"].read_text(encoding="utf-8")


HELPS = sorted(
    file for file in TREES if any(isinstance(n, ast.Name) and n.id == "typer" for n in ast.walk(TREES[file]))
)


@pytest.mark.parametrize("file", HELPS, ids=lambda file: file.stem)
def test_help_texts_need_no_more_than_ascii(file):
    calls = [n for n in ast.walk(TREES[file]) if isinstance(n, ast.keyword) and n.arg == "help"]
    assert all(ast.unparse(call.value).isascii() for call in calls)


# Commands to paste


@pytest.mark.parametrize("text", NAMES + STEERING + [""])
def test_a_shell_reads_a_command_back(text):
    line = command("python", text, "--runs", text)
    assert words(line) == ["python", text, "--runs", text] and len(line.splitlines()) == 1
    assert words(command(Path("-x"), Path("--y z"))) == ["./-x", "./--y z"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r", "utf-8"])
def test_a_command_can_be_copied_from_any_terminal(monkeypatch, encoding):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    line = command("tabl\u00e9 – 表's \\", Path("σ")).encode(encoding)
    monkeypatch.undo()
    assert words(line.decode(encoding)) == ["tabl\u00e9 – 表's \\", "σ"]


@pytest.mark.parametrize("name", [*NAMES, "-x", "a\nb", os.fsdecode(b"\xff")])
def test_what_to_do_next_can_be_pasted(tmp_path, name):
    folder = tmp_path / name
    path = write(folder / "m.yaml")
    runs, data = folder / "runs", folder / "data"
    done = CliRunner().invoke(report, [str(path), "--runs", str(runs)])
    assert done.exit_code == 0
    assert words(done.output.rpartition(" yet. Run: ")[2]) == [
        "python",
        "-m",
        "bench.submit",
        str(path),
        "--runs",
        str(runs),
    ]
    (cell,) = read_manifest(path).cells
    (runs / cell.id).mkdir(parents=True)
    (runs / cell.id / "model.pt").touch()
    where = ["--runs", str(runs), "--data", str(data), "--launcher", "local"]
    done = CliRunner().invoke(submit, [str(path), *where])
    assert done.exit_code == 0, done.output
    assert words(done.output.rpartition("Report: ")[2]) == ["python", "-m", "reports", str(path), "--runs", str(runs)]
    with pytest.raises(ValueError, match="write it: ") as missing:
        ensure(DATASETS["cifar10"], "test", data)
    remedy = str(missing.value).rpartition("write it: ")[2].removesuffix(")")
    assert words(remedy) == ["python", "-m", "crt.data.beton", "cifar10", "--data", str(data)]


# Names of folders and jobs


@pytest.mark.parametrize("name", [*NAMES, "v1.2", "表1", "a" * 220])
def test_a_name_that_can_be_a_folder_is_one(tmp_path, name):
    path = write(tmp_path / f"{name}.yaml", STUDY)
    (study,) = read_manifest(path).studies
    (tmp_path / study.id).mkdir()
    where = ["--runs", str(tmp_path / name), "--data", str(tmp_path), "--launcher", "slurm", "--dry-run"]
    done = CliRunner().invoke(submit, [str(path), *where])
    if "\\" in name:
        assert done.exit_code == 2 and "--runs" in done.stderr and "no backslash" in done.stderr
        return
    assert done.exit_code == 0, done.output
    script = done.output[done.output.index("#!/bin/bash") :]
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
    flags = dict(
        words(line[8:])[0].split("=", 1) for line in script.splitlines() if re.match("#SBATCH --(job|out)", line)
    )
    assert flags["--output"] == f"{tmp_path / name}/logs/%j_0_log.out"
    assert re.fullmatch(r"[\w.+-]+-time", flags["--job-name"])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a" * 245, "245 bytes"),
        ("é" * 115, "230 bytes"),
        (".hidden", "a dot or a dash"),
        ("-dash", "a dot or a dash"),
        *((text, "cannot be shown") for text in STEERING),
    ],
)
def test_a_name_that_cannot_be_a_folder_is_refused(tmp_path, name, why):
    path = write(tmp_path / f"{name}.yaml", STUDY)
    for app, more in ((submit, ["--dry-run"]), (report, [])):
        done = CliRunner().invoke(app, [str(path), "--runs", str(tmp_path / "runs"), *more])
        assert done.exit_code == 2 and why in done.stderr and "at most 225 bytes" in done.stderr
        assert len(done.stderr.splitlines()) == 1 and not done.stdout and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "\x1b[31m", "50%", "%j", "a\\b", os.fsdecode(b"\xff")])
def test_slurm_is_given_no_folder_that_it_would_read_otherwise(tmp_path, name):
    path, odd = write(tmp_path / "m.yaml"), str(tmp_path / name)
    for option, other in (("--runs", "--data"), ("--data", "--runs")):
        done = CliRunner().invoke(
            submit, [str(path), option, odd, other, str(tmp_path / "x"), "--launcher", "slurm", "--dry-run"]
        )
        if option == "--data" and not set(name) - set("50%jab\\"):
            assert done.exit_code == 0  # no part of the script
        else:
            assert done.exit_code == 2 and option in done.stderr and "allowed with Slurm" in done.stderr
            assert len(done.stderr.splitlines()) == 1


# Values that are no text


@pytest.mark.parametrize(
    "value",
    [
        "2024-01-01",
        "[a]",
        "",
        "null",
        "5",
        "1.10",
        "true",
        "{a: b}",
        "''",
        "' '",
        "2001-12-14t21:59:43Z",
    ],
)
def test_a_title_that_is_no_text_is_refused(tmp_path, value):
    path = write(tmp_path / "m.yaml")
    path.write_text(path.read_text() + f"title: {value}\n")
    with pytest.raises(ValueError, match=r"m\.yaml: title: .* \(allowed: text"):
        read_manifest(path, networks=False)


@pytest.mark.parametrize(
    ("value", "title"),
    [
        (">\n  In two\n  lines", "In two lines"),
        ("|\n  In two\n  lines", "In two lines"),
        (r'"a\tb"', "a b"),
        ("'2024-01-01'", "2024-01-01"),
        ("10:00:00", "10:00:00"),
        ("[x", None),
        ("'[x]: {y}'", "[x]: {y}"),
    ],
)
def test_a_title_is_one_line(tmp_path, value, title):
    path = write(tmp_path / "m.yaml")
    path.write_text(path.read_text() + f"title: {value}\n")
    if title is None:
        with pytest.raises(ValueError, match=r"m\.yaml, line \d+: .*plain YAML"):
            read_manifest(path, networks=False)
    else:
        assert read_manifest(path, networks=False).title == title


ODD = ["2024-01-01", "[a]", "null", "5", "true", "{a: b}", "''", "[null]", "'[/x]'", "{1: 2}", ".nan"]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("key", ["name", "teacher", "method", "arch", "dataset", "threat", "recipe", "evals", "paper"])
def test_a_value_of_another_kind_is_refused_or_read_but_never_a_fault(tmp_path, key, value):
    path = write(tmp_path / "m.yaml", dict(MANIFEST, cells=[dict(MANIFEST["cells"][0], **{key: "@"})]))
    path.write_text(path.read_text().replace("'@'", value))
    try:
        read_manifest(path, networks=False)
    except ValueError as error:
        assert str(error).startswith(f"{path}: cells[0].{key}") and "\n" not in str(error)
    else:
        assert value in ("null", "'[/x]'", "''", "{a: b}", "[null]") or key in ("seed",), (key, value)


@pytest.mark.parametrize("value", ["5", "null", "[a]", "{a: b}", "2024-01-01", "true"])
def test_weights_are_the_path_of_a_file(tmp_path, value):
    teacher = {"weights": "@", "arch": "cnn2c2f"}
    path = write(tmp_path / "m.yaml", cells=[{"method": "CRT", "teacher": teacher}], threat={"sigma": 0.25})
    path.write_text(path.read_text().replace("'@'", value))
    with pytest.raises(ValueError, match=r"teacher\.weights: .* \(allowed: the path of a file, as text\)"):
        read_manifest(path, networks=False)


# Files

MARKDOWN = """a|b;`x`;<script>alert(1)</script>;*a*;**b**;*(c)*;_d_;__e__;~~f~~;[x](http://y);![i](u);&amp;;&#65;;\\|;a\\;
# h;#;1. x;2) y;- z;+ z;* z;> q;[x]: /u;[x][y];C #;C ##;---;***;===;<http://x.y>;a<b>c;$x$;[ ] t;*;_;~;``""".replace(
    "\n", ""
)


@pytest.mark.parametrize("text", [*MARKDOWN.split(";"), *STEERING])
def test_markdown_shows_text_as_it_is(text):
    page = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .render(markdown(text, [text], [text], [words_table(text, ["h", text], [[text, "x"], ["y", text]])]))
    )
    blocks = re.findall(r"<(?:h1|h2|li|td|th)>(.*?)</(?:h1|h2|li|td|th)>", page, re.DOTALL)
    shown = printable(text).strip()
    assert [html.unescape(block).strip() for block in blocks] == [shown] * 3 + ["h", shown, shown, "x", "y", shown]


@pytest.mark.parametrize(
    "text",
    ["1.45 [0.01, 284.21]", "0.69 *", "*: a ratio of unlike things, let pass", "<0.001", "a <- b", "imagenet_vgg_x"],
)
def test_what_markdown_leaves_alone_is_left_alone(text):
    assert f"| {text} |" in markdown("t", [], [], [words_table("c", ["h"], [[text]])])


@pytest.mark.parametrize(
    "text", ["NOTES", "TITLE", "a & b", "50% of $x_1", r"\input{x}", "#~^{}", "NOTESTITLE", "\x1b[31m"]
)
def test_latex_shows_text_as_it_is(tmp_path, text):
    manifest = read_manifest(write(tmp_path / "m.yaml"), networks=False)
    measured = load(manifest, [tmp_path])
    frames = make_frames(manifest, measured, settings(manifest, measured), manifest, [])
    page = latex(f"Title {text}", [f"line {text}"], tables(frames, LATEX))
    assert rf"\section*{{Title {escape(text)}}}" in page and rf"\noindent line {escape(text)}\par" in page
    assert page.count(escape(f"Title {text}")) == page.count("Title") and "\x1b" not in page


# The kind


def _calls() -> list[tuple[Path, ast.Call, str]]:
    return [
        (file, node, ast.unparse(node.func))
        for file, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def test_consoles_are_made_in_one_place():
    made = {file.relative_to(ROOT).as_posix() for file, _, name in _calls() if name.split(".")[-1] == "Console"}
    assert not made  # Screen is a Console, and its own
    assert {file.name for file, _, name in _calls() if name.split(".")[-1] == "Screen"} == {"screen.py"}
    for file, node, name in _calls():
        if name in ("Live", "Bar"):
            assert "console" in {keyword.arg for keyword in node.keywords}, file


def test_text_files_name_their_encoding():
    for file, node, name in _calls():
        given = {keyword.arg for keyword in node.keywords}
        binary = any(isinstance(a, ast.Constant) and isinstance(a.value, str) and "b" in a.value for a in node.args[:2])
        if name.endswith((".read_text", ".write_text")) or (name in ("open", "path.open") and not binary):
            assert "encoding" in given, f"{file}, line {node.lineno}"
        if "text" in given and name.startswith("subprocess."):
            assert "encoding" in given, f"{file}, line {node.lineno}"


def test_commands_are_put_together_in_one_place():
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                _, found, behind = ast.unparse(node).partition("python -m")
                # The page on intervals names a number alone.
                assert not found or "{" not in behind or file.name == "interval_coverage.py", f"{file}:{node.lineno}"


@pytest.mark.parametrize(
    ("called", "line"),
    [
        ("/opt/env/bin/robust-bench", "robust-bench submit 'a b'"),
        ("bench/submit.py", "python -m bench.submit 'a b'"),
        ("bench/__main__.py", "python -m bench.submit 'a b'"),
    ],
)
def test_a_hint_calls_commands_as_the_user_did(called, line, monkeypatch):
    monkeypatch.setattr("sys.argv", [called, "submit"])
    assert invocation("bench.submit", "a b") == line


def test_progress_of_a_report_is_nothing_where_there_is_no_terminal(monkeypatch):
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    monkeypatch.setattr(screen, "_PATIENCE", 0)
    with screen.working("reading [records]"):
        pass
    assert not errors.getvalue()
