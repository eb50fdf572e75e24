"""Steps of a check, each in a process of its own: a step that fails or hangs does not stop the others."""

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from crt.disk import replacing
from crt.text import printable

LIMIT = 540
"""Seconds that a call takes at most."""
LEAST = 5
"""Fewest seconds for which a step is started."""
ROOT = Path(__file__).parents[2]
PRECISIONS = ("fp32", "tf32", "bf16")
METHODS = "Standard,SAT,SmoothAdv,CRT"
"""Methods whose speed is measured."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command, which succeeds if its exit code is 0; its output is its result."""

    name: str
    words: tuple[str, ...]
    """Words of the command."""
    seconds: float
    """Seconds after which it is ended."""


class Result(BaseModel):
    """Line of the record: the result of a step on a machine."""

    step: str
    outcome: Literal["passed", "failed", "timed out"]
    seconds: float
    output: list[str]
    machine: list[str]
    """Output of the first step: versions, source and hardware. A step that passed there is not repeated."""


def steps(rehearse: bool, folder: Path, data: Path) -> list[Step]:
    """All steps in their order; `folder` is for the results, `data` holds the digits' .beton files."""
    own = (sys.executable, "-u", "-m")

    def step(name: str, seconds: float, *words: str) -> Step:
        mode = ("--rehearse",) if rehearse else ()
        return Step(name=name, words=(*own, "bench.commands.gpu_steps", *words, *mode), seconds=seconds)

    def speed(seconds: int, methods: str, archs: str) -> tuple[str, ...]:
        choice = ("--methods", methods, "--archs", archs, "--seconds", str(seconds))
        return (*own, "bench.speed", "manifests/speed.yaml", *choice, "--runs", str(folder), "--data", str(data))

    tests = [Step(name=test, words=(*own, "pytest", "-q", test), seconds=60) for test in _tests()]
    patience = 150 if rehearse else 40
    first = [step(f"first steps in {precision}", patience, "first", precision) for precision in PRECISIONS]
    report = Step(
        name="report of speed", words=(*own, "reports", "manifests/speed.yaml", "--runs", str(folder)), seconds=30
    )
    certify = step("certification", 40, "certify", "--data", str(data))
    if rehearse:
        timed = Step(name="speed", words=speed(10, "Standard", "resnet20"), seconds=60)
        kept = [first[0], first[2], step("one rank", 60, "rank")]
        return [step("versions", 60, "versions"), tests[0], *kept, timed, report, certify]
    return [
        step("versions", 40, "versions"),
        Step(name="nvidia-smi", words=("nvidia-smi",), seconds=15),
        *tests,
        *first,
        step("first steps, compiled", 80, "first", "compile"),
        step("first steps, recorded", 40, "first", "cuda_graph"),
        step("one rank over NCCL", 40, "rank"),
        step("energy and clocks", 30, "energy"),
        Step(name="speed", words=speed(190, METHODS, "resnet20,resnet110"), seconds=230),
        report,
        certify,
    ]


def _tests() -> Iterator[str]:
    """Names of the tests that need a GPU, as pytest takes them."""
    for file in sorted((ROOT / "tests").glob("test_*.py")):
        for node in ast.parse(file.read_bytes()).body:
            if isinstance(node, ast.FunctionDef) and "pytest.mark.gpu" in map(ast.unparse, node.decorator_list):
                yield f"tests/{file.name}::{node.name}"


def check(todo: Sequence[Step], folder: Path, limit: float = LIMIT) -> int:
    """Run the steps that have not passed on this machine, and describe all; return how many did not pass.

    The first step is always run: its output tells machines and versions apart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + limit
    record, page = folder / "results.jsonl", folder / "gpu-check.md"
    before = _read(record)
    machine: list[str] | None = None
    results: dict[str, Result] = {}
    for step in todo:
        if machine is not None:
            passed = [r for r in before if (r.step, r.outcome, r.machine) == (step.name, "passed", machine)]
            if passed:
                print(f"== {step.name}: passed before", flush=True)
                results[step.name] = passed[-1]
                continue
        seconds = min(step.seconds, deadline - time.monotonic())
        if seconds < min(LEAST, step.seconds):
            continue
        print(f"== {step.name} (at most {seconds:.0f} s)", flush=True)
        outcome, taken, output = _run(step, seconds)
        machine = output if machine is None else machine
        result = Result(step=step.name, outcome=outcome, seconds=taken, output=output, machine=machine)
        print(f"== {step.name}: {outcome} after {taken:.1f} s", flush=True)
        with open(record, "a", encoding="utf-8") as lines:
            lines.write(result.model_dump_json() + "\n")
        results[step.name] = result
        with replacing(page) as out:
            out.write(_page(todo, results).encode())
    if len(results) < len(todo):
        print(f"left: {len(todo) - len(results)} of {len(todo)} steps; the same command continues")
    print(f"results: {page} (it belongs in reports/published/)")
    return sum(step.name not in results or results[step.name].outcome != "passed" for step in todo)


def _read(record: Path) -> list[Result]:
    """Results of earlier calls; the incomplete last line of a call that was killed is removed."""
    text = record.read_text(encoding="utf-8") if record.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        with replacing(record) as out:
            out.write(whole.encode())
    return [Result.model_validate_json(line) for line in whole.splitlines()]


def _run(step: Step, seconds: float) -> tuple[Literal["passed", "failed", "timed out"], float, list[str]]:
    """Outcome, seconds and lines of a step's processes, none of which is left."""
    began = time.monotonic()
    lines: list[str] = []
    try:
        process = subprocess.Popen(
            step.words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        return "failed", 0.0, [f"{step.words[0]}: {error.strerror}"]

    def follow() -> None:
        for line in process.stdout or ():
            lines.append(printable(line.rstrip("\n")))
            print(lines[-1], flush=True)

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    code: int | None = None
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    reader.join(LEAST)
    taken = time.monotonic() - began
    if code is None:
        return "timed out", taken, list(lines)
    return "failed" if code else "passed", taken, list(lines)


def _page(todo: Sequence[Step], results: dict[str, Result]) -> str:
    """The results in Markdown: a table of all steps, then the output of each."""
    rows = ["# Check on a GPU", "", "| step | outcome | seconds |", "| --- | --- | --- |"]
    for step in todo:
        result = results.get(step.name)
        rows.append(f"| {step.name} | {result.outcome if result else 'left'} | {result.seconds if result else 0:.1f} |")
    for name, result in results.items():
        rows += ["", f"## {name}", "", "```text", *result.output, "```"]
    return "\n".join(rows) + "\n"
