"""Fuzzed manifests: each is refused in one message, or goes the whole way to a plan, a batch script and a report."""

import json
import os
import random
import re
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tests.chaos import child, outputs
from tests.chaos.damage import MARK, smaller
from tests.chaos.kind import Kind, Outcome
from tests.chaos.manifest_mutations import mutated

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path.relative_to(ROOT) for path in (ROOT / "manifests").rglob("*.yaml"))
SECONDS, MEGABYTES = 2.0, 200.0
NAMES = (
    *("m", "m", "m", "m", "m", "m", f"<{MARK}>", f"={MARK}()", f"$(touch {MARK})", f"a'; touch {MARK}; '", "a b"),
    *(f"[bold]{MARK}", f"`touch {MARK}`", f"%{MARK}&#{MARK}", f"\\{MARK}", "-x", "a\nb", "é", "\udcff", f'"{MARK}'),
)
"""Names of manifests and of runs folders."""
_UNFIT = re.compile(r"[%\\\n\udc80-\udcff]")
"""Characters that Slurm's own paths cannot hold, which a submission refuses."""
_COUNTED = 0.1
"""Share of manifests whose operations are counted, which takes long; for others all networks have these counts."""
_COUNTS = {
    "step": {"flops": 1e9, "traffic": 1e9},
    "forward": {"flops": 1e9},
    "passes": dict.fromkeys(("forwards", "teacher_forwards", "input_backwards", "backwards"), 1.0),
    "forwards": {"forwards": 1.0},
}


def prepare(folder: Path) -> None:
    """Import all that a manifest's way needs."""
    folder.mkdir(parents=True, exist_ok=True)
    child.preload(lambda: _go_all_ways(folder), folder / "modules-manifests")


def _go_all_ways(folder: Path) -> None:
    """Read manifests that together use every network, method and evaluation; plan and report one."""
    for source in ("speed", "lipschitz", "rrm/figure5"):
        _read(ROOT / "manifests" / f"{source}.yaml")
    with TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for way in (_plan, _report):
            with suppress(SystemExit):
                way(folder, ROOT / "manifests" / "quickstart.yaml", Path(scratch, "runs"))


def attempt(folder: Path, seed: int) -> list[Outcome]:
    """Mutate a manifest, and follow it as far as it goes."""
    content, name, runs, tried = _made(seed)
    return [child.outcome(tried, _broken(folder, f"{seed}", content, name, runs))]


def shrink(folder: Path, seed: int) -> str:
    """Path of the manifest with as few lines as break the promise."""
    content, name, runs, _ = _made(seed)
    broken = lambda lines: bool(_broken(folder, f"{seed}", b"".join(lines), name, runs))  # noqa: E731
    lines = smaller(content.splitlines(keepends=True), broken)
    path = folder / "shrunk" / f"manifests-{seed}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(lines))
    return f"{path} (named {name!r}, runs folder {runs!r})"


KIND = Kind(
    "manifests",
    "a manifest is refused in one message within 2 s and 200 MB, or planned and reported with all its text as text",
    1000,
    prepare,
    attempt,
    shrink,
)


def _made(seed: int) -> tuple[bytes, str, str, str]:
    """Content and name of a manifest, the name of a runs folder, and what was tried."""
    rng = random.Random(f"manifests {seed}")
    source = rng.choice(SOURCES)
    content, tried = mutated(rng, (ROOT / source).read_text(encoding="utf-8"))
    name, runs = rng.choice(NAMES), _UNFIT.sub("", rng.choice(NAMES))
    return content, name, runs, f"{source}: {tried}; named {name!r}, runs folder {runs!r}"


def _broken(folder: Path, where: str, content: bytes, name: str, runs: str) -> str:
    """The promise that this manifest breaks."""
    home = folder / "manifests" / where
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    path = home / f"{name}.yaml"
    path.write_bytes(content)
    try:
        return _follow(folder, home, path, home / f"runs{runs}")
    finally:
        shutil.rmtree(home)


def _follow(folder: Path, home: Path, path: Path, runs: Path) -> str:
    """Read, plan and report the manifest."""
    from crt.text import printable

    read = child.run(lambda: _read(path), folder=home)
    if read.seconds > SECONDS or read.megabytes > MEGABYTES:
        return f"reading took {read.seconds:.1f} s and {read.megabytes:.0f} MB"
    if read.code:
        return read.refusal(printable(str(path))) or outputs.terminal(read.error)
    plan = child.run(lambda: _plan(folder, path, runs), seconds=240, folder=home)
    if plan.code:
        return f"planning: {plan.crash() or plan.error[:500]}"
    if wrong := outputs.terminal(plan.output) or outputs.terminal(plan.error):
        return f"planning: {wrong}"
    for text in re.findall(r"^#!/bin/bash\n.*?(?=^─|\Z)", plan.output, re.DOTALL | re.MULTILINE):
        if wrong := outputs.script(text, home):
            return wrong
    report = child.run(lambda: _report(folder, path, runs), seconds=120, folder=home)
    if report.code:
        return f"report: {report.crash() or report.error[:500]}"
    return (
        outputs.terminal(report.output)
        or outputs.terminal(report.error)
        or _title(path, report.output)
        or next(filter(None, map(outputs.sheet, sorted(home.glob("*.csv")))), "")
        or outputs.latex(home / "r.tex")
        or outputs.markdown(home / "r.md")
        or outputs.page(home / "r.html")
        or ("a word ran" if (home / MARK).exists() else "")
    )


def _read(path: Path) -> None:
    from bench.command import report_errors
    from bench.manifest import read_manifest

    with report_errors():
        read_manifest(path)


def command(app: Any, folder: Path, *words: Any) -> None:
    """Run a command line, with the campaign's cache in the place of the user's."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    app([str(word) for word in words])


def _plan(folder: Path, path: Path, runs: Path) -> None:
    from bench.build import cost
    from bench.submit import app

    if random.Random(path.read_bytes()).random() > _COUNTED:
        cost.missing = lambda key: False
        cost.kept = lambda key, count: _COUNTS[json.loads(key)[0]]
    command(app, folder, "--dry-run", "--launcher", "slurm", "--runs", runs, "--data", path.parent / "data", "--", path)


def _report(folder: Path, path: Path, runs: Path) -> None:
    from reports.__main__ import app

    files = [word for form in ("csv", "latex", "out", "html") for word in (f"--{form}", f"r.{_ENDS.get(form, form)}")]
    command(app, folder, "--runs", runs, *files, "--wide-csv", "w.csv", "--", path)


_ENDS = {"latex": "tex", "out": "md"}


def _title(path: Path, output: str) -> str:
    """The reason why the first line of a report is not the title as it was written."""
    title = yaml.safe_load(path.read_bytes()).get("title")
    words = " ".join(str(title).split()) if title else ""
    if MARK not in words or len(words) > 75 or output.startswith(f"{words}\n"):
        return ""
    return f"the title {words!r} is printed as {output.partition(chr(10))[0]!r}"
