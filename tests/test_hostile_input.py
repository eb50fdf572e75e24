"""Manifests, profiles and options as input: what is hostile is refused at once, in one message, whatever it is."""

import csv
import os
import string
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import typer
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.command import report_errors
from bench.manifest import read_manifest
from bench.manifest import strict_yaml as strict
from bench.manifest.messages import shown
from bench.manifest.profile import read as read_profile
from bench.manifest.strict_yaml import load_yaml, parse_yaml
from bench.plan.selection import chosen
from bench.published import Figure
from bench.results.csv_file import without_formulas
from launchers.profile import Profile
from reports.render.latex_text import escape

ROOT = Path(__file__).parents[1]
MANIFEST = """\
dataset: digits
threat: {norm: linf, eps: 0.1}
recipe: &r {epochs: 1, batch_size: 64, lr: 0.1}
loader: torch
cells: [{arch: cnn2c2f, method: Standard}]
"""
KEYS = ("title", "baseline", "published", "recipes", "timing", "evals", "teacher", "monitor", "seed", "paper", "any")
SECONDS, MEGABYTES = 2, 200
few = settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


def manifest(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "m.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        read_manifest(path, networks=False)
    message = str(caught.value)
    assert message.startswith(str(path)) and len(message) < 1500
    return message


def bomb(item: str, levels: int = 9) -> str:
    """A list whose levels each repeat the one before, so that it has 10^levels items."""
    lines = [f"  - &a0 [{', '.join([item] * 10)}]"]
    lines += [f"  - &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("item", ["x", "1", "{b: 1}"])
def test_an_alias_bomb_is_refused_at_any_key(tmp_path, key, item):
    assert "more than 50,000 values, with those that aliases repeat" in refusal(
        manifest(tmp_path, f"{key}:\n{bomb(item)}\n{MANIFEST}")
    )


@pytest.mark.parametrize("repeat", ["{a: *m%d, b: *m%d, c: *m%d}", "{<<: [*m%d, *m%d, *m%d]}", "[[*m%d, *m%d], *m%d]"])
def test_bombs_of_mappings_and_merges_are_refused(tmp_path, repeat):
    lines = ["  - &m0 {k: 1}", *(f"  - &m{i} {repeat % ((i - 1,) * 3)}" for i in range(1, 25))]
    assert "more than 50,000 values" in refusal(manifest(tmp_path, "\n".join(["recipes:", *lines, MANIFEST])))


@pytest.mark.parametrize("cycle", ["&a [*a]", "&a {b: *a}", "&a {<<: *a}", "&a {? *a : 1}", "&a [[[{x: *a}]]]"])
def test_a_cycle_is_refused(tmp_path, cycle):
    assert "line 1: an alias within what it names" in refusal(manifest(tmp_path, f"recipes: {cycle}\n{MANIFEST}"))


DEEP = {
    "lists": "recipes: " + "[" * 60 + "]" * 60,
    "mappings": "recipes: " + "{a: " * 60 + "1" + "}" * 60,
    "blocks": "\n".join(" " * i + "a:" for i in range(60)),
    "open lists": "[" * 100_000,
    "open mappings": "{" * 100_000,
    "dashes": "- " * 100_000,
    "questions": "? " * 100_000,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_deep_nesting_is_refused(tmp_path, text):
    assert "more than 50 levels (allowed: plain YAML)" in refusal(manifest(tmp_path, text))


LARGE = {
    "text": "title: " + "x" * 10_000_000,
    "comment": "#" * 10_000_000,
    "list": "a: [" + "1," * 5_000_000 + "1]",
    "keys": "".join(f"key{i}: 1\n" for i in range(800_000)),
    "lines": "\n" * 10_000_000,
    "values": "a: [" + "1," * 60_000 + "1]",
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_a_large_file_is_refused(tmp_path, text):
    assert "more than" in refusal(manifest(tmp_path, text))


BINARY = {
    "UTF-16": MANIFEST.encode("utf-16"),
    "UTF-32": MANIFEST.encode("utf-32"),
    "Latin-1": f"title: é\n{MANIFEST}".encode("latin-1"),
    "NUL": b"title: a\0b\n" + MANIFEST.encode(),
    "a program": b"\x7fELF" + bytes(range(256)) * 40,
    "gzip": b"\x1f\x8b\x08\x00\xff\xfe",
    "control": b'title: "a\\e[31m"\n' + MANIFEST.encode(),
}


@pytest.mark.parametrize("content", BINARY.values(), ids=BINARY)
def test_what_is_no_plain_text_is_refused(tmp_path, content):
    assert "allowed: " in refusal(manifest(tmp_path, content))


def test_a_byte_order_mark_of_utf_8_is_read_over(tmp_path):
    assert read_manifest(manifest(tmp_path, b"\xef\xbb\xbf" + MANIFEST.encode()), networks=False).cells


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, *(lambda p, d=d: p.symlink_to(f"/dev/{d}") for d in ("zero", "null", "urandom"))]
)
@pytest.mark.parametrize("read", [read_manifest, read_profile])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, make, read):
    make(tmp_path / "m.yaml")
    with pytest.raises(ValueError, match=r"m\.yaml: (Is a directory|the file is empty|a device)"):
        read(tmp_path / "m.yaml")


def test_a_pipe_is_read_and_one_that_brings_nothing_is_given_up(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "m.yaml")
    writer = subprocess.Popen(["sh", "-c", f"cat > {tmp_path / 'm.yaml'}"], stdin=subprocess.PIPE)
    writer.stdin.write(MANIFEST.encode())
    writer.stdin.close()
    assert read_manifest(tmp_path / "m.yaml", networks=False).cells
    writer.wait()
    reader, writer = os.pipe()
    monkeypatch.setattr(strict, "_SILENCE", 0.01)
    with pytest.raises(ValueError, match="nothing comes from this pipe"):
        load_yaml(Path(f"/dev/fd/{reader}"))
    os.close(reader), os.close(writer)


NUMBERS = ("1e400", "-1e400", "-1", "0", "1.5", "1" + "0" * 30, "9" * 5_000, ".inf", ".nan", "true", "~", "'x'", "[]")


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("place", ["recipe.epochs", "recipe.batch_size", "ranks", "nodes", "images"])
def test_a_count_that_is_none_is_refused(tmp_path, place, value):
    if place == "images" and value == "~":
        return  # all images
    with pytest.raises(ValueError) as caught:
        read_manifest(manifest(tmp_path, MANIFEST), networks=False, overrides=[f"{place}={value}"])
    assert len(str(caught.value)) < 1500 and "--set" in str(caught.value)


@pytest.mark.parametrize("value", ["1" + "0" * 30, "-1", "1.5", str(2**32), "[0, -1]", "[]", ".inf"])
def test_a_seed_that_no_generator_takes_is_refused(tmp_path, value):
    assert "seed" in refusal(manifest(tmp_path, f"{MANIFEST}seed: {value}\n"))


@pytest.mark.parametrize("axes", [(20_000,), (300, 300), (100, 100, 3)])
def test_a_product_of_too_many_cells_is_refused_before_any_is_made(tmp_path, axes):
    keys = ("seed", "ranks", "arch")
    values = [list(range(1, axes[0] + 1)), list(range(1, (*axes, 0)[1] + 1)), ["cnn2c2f"] * (*axes, 0, 0)[2]]
    text = MANIFEST.replace("arch: cnn2c2f, ", "" if len(axes) > 2 else "arch: cnn2c2f, ")
    text += "".join(f"{key}: {each}\n" for key, each, _ in zip(keys, values, axes, strict=False))
    assert "(allowed: at most 10,000)" in refusal(manifest(tmp_path, text))


@pytest.mark.parametrize(
    "timing",
    [
        "{runs: 1001}",
        "{runs: 1000000000}",
        "{runs: 3, until: 1%, at_most: 1000000000}",
        "{rounds: 10000000000}",
        "{images: 1e30}",
    ],
)
def test_a_study_without_end_is_refused(tmp_path, timing):
    message = refusal(manifest(tmp_path, f"{MANIFEST}baseline: Standard\ntiming: {timing}\n"))
    assert "less than or equal" in message or "exceeded maximum size" in message


TAGS = (
    "!!python/object/apply:os.system [id]",
    "!!binary aGk=",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!pairs [a: 1]",
    "!!bool x",
    "!!timestamp x",
    "!!int ''",
    "!!int x",
    "!!float x",
    "!!map x",
    "!!map [1]",
    "!!seq {a: 1}",
    "!!str [1]",
    "!x y",
    "2001-99-99",
    "2001-12-14t99:59:43Z",
)


@pytest.mark.parametrize("value", TAGS)
@pytest.mark.parametrize("place", ["title: {}", "recipes: [1,\n {}]", "published: {{device: {}}}"])
def test_a_tag_that_is_no_plain_data_is_refused_with_its_line(tmp_path, place, value):
    text = place.format(value)
    if text.startswith("published") and value.startswith(("!!int", "!!float")):
        return  # there, numbers are the digits as printed
    assert refusal(manifest(tmp_path, f"{text}\n{MANIFEST}")).startswith(
        f"{tmp_path / 'm.yaml'}, line {1 + text.count(chr(10))}: "
    )


@pytest.mark.parametrize(
    "keys", ["{k: 1, k: 1}", "{1: a, 1.0: b}", "{true: a, 1: b}", "{k: 1, 'k': 2}", "{k: {j: 1, j: 1}}"]
)
def test_a_key_given_twice_is_refused(tmp_path, keys):
    assert "is given twice" in refusal(manifest(tmp_path, f"recipes: {keys}\n{MANIFEST}"))


LINES = {
    "name": "cells: [{{arch: cnn2c2f, method: Standard, name: {}}}]",
    "weights": "cells: [{{arch: cnn2c2f, method: CRT, teacher: {{weights: {}, arch: cnn2c2f}}}}]",
    "key": "cells: [{{arch: cnn2c2f, method: CRT, teacher: {{weights: a, key: {}, arch: cnn2c2f}}}}]",
    "device": "published: {{device: {}}}\ncells: [{{arch: cnn2c2f, method: Standard}}]",
    "arch": "cells: [{{arch: {}, method: Standard}}]",
    "method": "cells: [{{arch: cnn2c2f, method: {}}}]",
    "figure": "cells: [{{arch: cnn2c2f, method: Standard, paper: {{clean: {}}}}}]",
}


@pytest.mark.parametrize("text", ['"a\\nb"', '"a\\tb"', '"a\\n#SBATCH --wrap=id"', '"\\n"', '"a\\rb"'])
@pytest.mark.parametrize("place", LINES)
def test_no_text_has_a_second_line(tmp_path, place, text):
    top = MANIFEST.rpartition("cells")[0]
    refusal(manifest(tmp_path, top + LINES[place].format(text)))


@pytest.mark.parametrize(
    "text", ["1e999999999", "1e-999999999", "1/1e999999", "1e300", "9" * 5_000, "=cmd()", "1/0", "nan", "1;2"]
)
def test_a_figure_that_no_paper_prints_is_refused(text):
    with pytest.raises(ValueError):
        Figure(text)


PATHS = (
    "a." * 50_000 + "b=1",
    "recipe." + "a." * 50_000 + "b=1",
    "x" * 100_000 + "=1",
    "." * 100 + "=1",
    "cells." + "9" * 5_000 + ".seed=1",
    "recipe.epochs=" + "[" * 5_000,
    "recipe.epochs=" + "x" * 100_000,
    "threat=&a [*a]",
    "=",
    "",
)


@pytest.mark.parametrize("words", PATHS, ids=lambda words: words[:20])
def test_a_hostile_override_is_refused(tmp_path, words):
    with pytest.raises(ValueError, match="--set") as caught:
        read_manifest(manifest(tmp_path, MANIFEST), networks=False, overrides=[words])
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("pattern", ["*a" * 2_000, "a" * 100_000, "[" * 1_000, "*?" * 3_000, "\x1b[31m", "\udcff"])
def test_a_hostile_pattern_selects_nothing(tmp_path, pattern):
    with pytest.raises(ValueError, match="in no cell's id or label") as caught:
        chosen(read_manifest(manifest(tmp_path, MANIFEST), networks=False), pattern)
    assert len(str(caught.value)) < 1500


TEXTS = (
    "partition",
    "account",
    "qos",
    "constraint",
    "reservation",
    "nodelist",
    "exclude",
    "gres",
    "device",
    "stage",
    "python",
)


@few
@given(st.sampled_from(TEXTS), st.text(max_size=20).filter(lambda text: not text.isprintable()))
def test_no_text_of_a_profile_has_a_second_line(key, text):
    if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text):
        with pytest.raises(ValueError):
            Profile(**{key: f"/a{text}b"})


@pytest.mark.parametrize(
    "text",
    [
        "time: 9" + "9" * 20,
        "time: 1e400",
        "shards: 10000000000",
        "tflops: 1e400",
        "tflops: .nan",
        "cpus_per_task: -1",
        f"gres: 'gpu:{'9' * 5_000}'",
        'sbatch: {"a\\nb": 1}',
        'sources: {digits: "/a\\nb"}',
        'stage: "/a\\nb"',
        "&a {partition: *a}",
        f"partition:\n{bomb('x')}",
    ],
)
def test_a_hostile_profile_is_refused(tmp_path, text):
    path = manifest(tmp_path, text)
    with pytest.raises(ValueError, match=r"m\.yaml") as caught:
        read_profile(path)
    assert len(str(caught.value)) < 1500


WORDS = st.text(alphabet=string.printable + "é–±\x00\x1b\u2028\ud800", max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.integers(), inner, max_size=4),
    max_leaves=12,
)


@few
@given(st.text(alphabet="[]{}:,-&*!?|>'\"%@`#~<=. \n\tab01é\0\x1b\ufeff", max_size=60))
def test_any_text_is_plain_data_or_refused_in_one_message(text):
    try:
        value = parse_yaml(text, "m.yaml")
    except ValueError as error:
        assert str(error).startswith("m.yaml") and "(allowed: " in str(error)
    else:
        assert len(shown(value)) <= 200


@few
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "m.yaml"
    path.write_bytes(content)
    refusal(path)


PLACES = (
    "title",
    "baseline",
    "published",
    "timing",
    "recipe",
    "threat",
    "evals",
    "teacher",
    "monitor",
    "seed",
    "ranks",
    "images",
    "select",
    "loader",
    "pipeline",
    "dataset",
    "recipes",
)


@few
@given(st.sampled_from(PLACES), VALUES)
def test_any_value_at_any_key_is_taken_or_refused(tmp_path_factory, place, value):
    content = yaml.safe_load(MANIFEST) | {place: value}
    path = tmp_path_factory.mktemp("any") / "m.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=False), encoding="utf-8")
    try:
        read_manifest(path, networks=False)
    except ValueError as error:
        assert str(error).startswith(str(path)) and len(str(error)) < 2500


@few
@given(WORDS, WORDS)
def test_any_override_is_taken_or_refused(tmp_path_factory, place, value):
    path = manifest(tmp_path_factory.getbasetemp(), MANIFEST)
    for words in (f"{place}={value}", f"recipe.lr={value}", f"cells.0.{place}={value}"):
        try:
            read_manifest(path, networks=False, overrides=[words])
        except ValueError as error:
            assert "--set" in str(error) and len(str(error)) < 2500


@few
@given(st.lists(WORDS | st.floats(allow_nan=False) | st.none(), min_size=1, max_size=8))
def test_no_text_in_a_csv_file_is_a_formula_and_no_number_changes(cells):
    frame = pd.DataFrame({"a": pd.Series(cells, dtype=object)})
    for before, after in zip(frame["a"], without_formulas(frame)["a"], strict=True):
        if isinstance(before, str) and before != after:
            assert after == f"'{before}" and before[0] in "=+-@\t\r"
        elif isinstance(before, str):
            assert before[:1] not in tuple("=+-@\t\r") or float(before) is not None
        else:
            assert after is before or after == before


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "=1", "-", "–1", "a=1"])
def test_formulas_are_guarded(tmp_path, text):
    without_formulas(pd.DataFrame({"a": [text], "b": [-1.5], "c": ["-1.5"]})).to_csv(tmp_path / "t.csv", index=False)
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        ((a, b, c),) = list(csv.reader(file))[1:]
    assert (b, c) == ("-1.5", "-1.5") and a == (text if text[0] in "–a" else f"'{text}")


def test_every_csv_file_is_guarded():
    """Simulations of coverage write numbers and fixed names alone."""
    unguarded = {
        str(file.relative_to(ROOT))
        for package in ("bench", "crt", "launchers", "reports")
        for file in (ROOT / package).rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if ".to_csv(" in line and "without_formulas(" not in line
    }
    assert {file for file in unguarded if not file.endswith("_coverage.py")} == set()


@few
@given(WORDS)
def test_no_text_is_a_command_of_latex(text):
    escaped = escape(text)
    for char in "%&#$_{}~^":
        assert escaped.count(char) == 0 or f"\\{char}" in escaped or char in "{}$^~"
    assert "\n" not in escaped and not any(f"\\{word}" in escaped for word in ("input", "write", "def", "include"))


TIMED = {
    "bomb": f"recipes:\n{bomb('x')}\n{MANIFEST}",
    "values": LARGE["values"],
    "keys": "".join(f"k{i}: 1\n" for i in range(20_000)),
    "ten megabytes": LARGE["text"],
    "products": f"{MANIFEST}seed: {list(range(9_000))}\nranks: {list(range(1, 9_000))}\n",
}


def test_refusals_take_little_time_and_memory(tmp_path):
    """Processor time and memory of a process that refuses all of them, one after another, in separate children."""
    program = (
        "import os, resource, sys\n"
        "from pathlib import Path\n"
        "from bench.command import report_errors\n"
        "from bench.manifest import read_manifest\n"
        "def limit(path):\n"
        f"    resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS + 1}, {SECONDS + 1}))\n"
        "    with report_errors():\n"
        "        read_manifest(Path(path), networks=False)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        try:\n"
        "            limit(path)\n"
        "        except BaseException as error:\n"
        "            os._exit(getattr(error, 'exit_code', 3))\n"
        "        os._exit(0)\n"
        "    _, status, used = os.wait4(child, 0)\n"
        "    print(os.waitstatus_to_exitcode(status), used.ru_utime, max(0, used.ru_maxrss - before) // 1024)\n"
    )
    paths = []
    for name, text in TIMED.items():
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(text)
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.count("error: ") == done.stderr.count("\n") == len(paths)
    for line in done.stdout.splitlines():
        code, seconds, megabytes = line.split()
        assert code == "2" and float(megabytes) < MEGABYTES, line
        assert float(seconds) < SECONDS + 1, line  # the limit of the kernel, on any CPU


@pytest.mark.parametrize(
    "error", [ValueError(f"m.yaml: weights: {'x' * 9000}: no"), OSError(36, "no", f"m.yaml{'x y' * 9000}")]
)
def test_a_long_value_is_cut_out_of_the_middle_of_a_message(error, capsys):
    with pytest.raises(typer.Exit) as ended, report_errors():
        raise error
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.exit_code == 2 and len(line) < 3000
    assert line.startswith("error: m.yaml") and line.endswith(": no")
