"""The check of a GPU: steps that pass, fail and hang, what is repeated, and its own steps without a GPU."""

import sys
import time
from pathlib import Path

import pytest
import torch
from stand_in_gpu import gpu
from typer.testing import CliRunner
from waiting import HANG

import bench.gpu_check
from bench.commands import gpu_check, gpu_steps
from bench.commands.gpu_check import Result, Step, check, steps

SAY = "import sys; print(*sys.argv[1:]); "
"""Program that prints its arguments."""


def python(name: str, program: str, *words: str, seconds: float = HANG) -> Step:
    return Step(name=name, words=(sys.executable, "-c", program, *words), seconds=seconds)


def versions(text: str = "GPU 1") -> Step:
    return python("versions", SAY, text)


def outcomes(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "results.jsonl").read_text().splitlines()
    return [(result.step, result.outcome) for result in map(Result.model_validate_json, lines)]


def test_a_step_that_fails_or_hangs_does_not_stop_the_others(tmp_path, capfd):
    alive = tmp_path / "alive"
    hang = "import os, sys, time; os.fork(); print('begun', flush=True)\n"
    hang += "while True: open(sys.argv[1], 'w'); time.sleep(0.05)"
    todo = [
        *(versions(), python("fails", SAY + "sys.exit(3)", "half"), python("hangs", hang, str(alive), seconds=3)),
        *(Step(name="missing", words=("no-such-command",), seconds=9), python("works", SAY, "all\x1b[2J well")),
    ]
    assert check(todo, tmp_path) == 3
    expected = [("versions", "passed"), ("fails", "failed"), ("hangs", "timed out"), ("missing", "failed")]
    assert outcomes(tmp_path) == [*expected, ("works", "passed")]
    alive.unlink(missing_ok=True)  # neither the process nor its child is left to write it again
    time.sleep(0.3)
    assert not alive.exists()
    page, printed = (tmp_path / "gpu-check.md").read_text(), capfd.readouterr().out
    for line in ("half", "no-such-command: No such file or directory", r"all\x1b[2J well"):
        assert line in page
    assert "| hangs | timed out |" in page and "half" in printed and r"all\x1b[2J well" in printed


def test_a_second_call_takes_the_steps_that_did_not_pass(tmp_path):
    flag = tmp_path / "flag"
    mended = python("mended", f"import os, sys; sys.exit(not os.path.exists({str(flag)!r}))")
    todo = [versions(), python("once", SAY, "x"), mended, python("later", SAY, "y")]
    assert check(todo[:3], tmp_path) == 1
    flag.touch()
    assert check(todo, tmp_path) == 0
    again = [("versions", "passed"), ("mended", "passed"), ("later", "passed")]
    assert outcomes(tmp_path)[3:] == again
    page = (tmp_path / "gpu-check.md").read_text()
    assert all(f"| {step.name} | passed |" in page for step in todo)
    assert check([versions("GPU 2"), *todo[1:]], tmp_path) == 0
    assert [step for step, _ in outcomes(tmp_path)[6:]] == ["versions", "once", "mended", "later"]


def test_no_step_begins_after_the_limit(tmp_path, capsys):
    todo = [python("waits", "import time; time.sleep(600)"), python("left", SAY)]
    assert check(todo, tmp_path, limit=6) == 2
    assert outcomes(tmp_path) == [("waits", "timed out")]
    assert "the same command continues" in capsys.readouterr().out
    assert "| left | left |" in (tmp_path / "gpu-check.md").read_text()


def test_the_steps_are_those_of_the_page_and_within_nine_minutes(tmp_path):
    names = [step.name for step in steps(False, tmp_path, tmp_path)]
    tests = [name for name in names if name.startswith("tests/")]
    assert "tests/test_switches.py::test_no_step_waits_for_the_gpu" in tests and len(tests) >= 3
    assert names == [
        *("versions", "nvidia-smi", *tests, "first steps in fp32", "first steps in tf32", "first steps in bf16"),
        *("first steps, compiled", "first steps, recorded", "one rank over NCCL", "energy and clocks", "speed"),
        *("report of speed", "certification"),
    ]
    assert gpu_check.LIMIT <= 540
    known = {command.callback.__name__ for command in gpu_steps.app.registered_commands}
    for rehearse in (False, True):
        own = [step.words for step in steps(rehearse, tmp_path, tmp_path) if "bench.commands.gpu_steps" in step.words]
        assert {words[4] for words in own} <= known and len(own) >= 5


def test_the_command_takes_the_steps(tmp_path, monkeypatch):
    def few(rehearse: bool, folder: Path, data: Path) -> list[Step]:
        return [versions(), python("fails" if rehearse else "works", SAY + "sys.exit(sys.argv[1])", "wrong")]

    monkeypatch.setattr(gpu_check, "steps", few)
    found = CliRunner().invoke(bench.gpu_check.app, ["--rehearse", "--runs", str(tmp_path)])
    assert found.exit_code == 1 and (tmp_path / "gpu-check-rehearsal" / "gpu-check.md").exists()


def test_versions_are_the_same_lines_at_each_call():
    first, again = (CliRunner().invoke(gpu_steps.app, ["versions", "--rehearse"]) for _ in range(2))
    assert first.exit_code == 0 and first.output == again.output and torch.__version__ in first.output


def test_versions_fail_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = CliRunner().invoke(gpu_steps.app, ["versions"])
    assert found.exit_code == 1 and "no GPU is found" in found.output


@pytest.mark.parametrize("setting", ["fp32", "bf16", "cuda_graph"])
@pytest.mark.parametrize("name", ["Standard", "FGSMRS", "SmoothMix"])
def test_first_steps_on_the_stand_in_are_the_cpus(name, setting, monkeypatch):
    monkeypatch.setattr(gpu_steps, "IMAGES", 4)
    if setting == "cuda_graph":
        monkeypatch.setattr(gpu_steps, "RECORDED", 2)  # the stand-in repeats nothing
    with gpu():
        expected, found = gpu_steps._losses(name, setting, torch.device("cuda"))
    assert found == pytest.approx(expected, rel=gpu_steps.BOUNDS.get(setting, 0.1))


def test_a_loss_that_differs_fails(monkeypatch):
    monkeypatch.setattr(gpu_steps, "modules", lambda _: ["A", "B", "C"])
    losses = {"A": (1.0, 1.001), "B": (1.0, 1.5)}
    monkeypatch.setattr(gpu_steps, "_losses", lambda name, *_: losses[name])
    found = CliRunner().invoke(gpu_steps.app, ["first", "fp32", "--rehearse"])
    assert found.exit_code == 1 and found.output.count("DIFFERS") == 1 and "KeyError: 'C'" in found.output


def test_rehearsed_steps_pass(digits):
    ranks = CliRunner().invoke(gpu_steps.app, ["rank", "--rehearse"])
    assert ranks.exit_code == 0 and ranks.output.startswith("gloo: loss")
    certified = CliRunner().invoke(gpu_steps.app, ["certify", "--data", str(digits), "--rehearse"])
    assert certified.exit_code == 0 and certified.output.count("s an image") == 3


def test_an_incomplete_line_of_a_call_that_was_killed_is_removed(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"step": "versions", "outco')
    assert check([versions()], tmp_path) == 0
    assert outcomes(tmp_path) == [("versions", "passed")]
