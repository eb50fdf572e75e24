"""Damaged records: status and reports tell what they leave out, and no figure comes from it."""

import hashlib
import os
import random
import re
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.chaos import child, manifests, outputs
from tests.chaos.kind import Kind, Outcome
from tests.chaos.record_damage import Damage, damaged, is_object
from tests.chaos.record_figures import difference, without

FROZEN = Path(__file__).parents[1] / "golden" / "report"
STUDIES = {
    "attempts": "runs", "autoattack": "runs", "gpu": "gpu-runs", "lipschitz": "runs", "overhead": "runs",
    "quick": "runs", "scaling": "runs", "sweep": "runs", "timing": "runs", "speed": "runs",
}  # fmt: skip
"""Manifests of the frozen records with their runs folders."""
PAGES = ("autoattack", "gpu", "overhead", "quick", "scaling")
"""Manifests whose HTML page, with its figures, is made in a second or two."""
FILES = ("directory", "pipe", "loop", "gone", "other", "empty", "dangling", "huge")


class _Case(NamedTuple):
    study: str
    file: Path
    """The damaged file, in the runs folder."""
    damage: Damage | None
    form: str
    """The damage to the file as a whole, where it is not to its content."""
    page: bool

    def tried(self) -> str:
        return f"{self.study}, {self.file}: {self.damage.tried if self.damage else self.form}"


def prepare(folder: Path) -> None:
    """Import what reports need, and copy the records of each manifest."""
    for study, runs in STUDIES.items():
        home = folder / "frozen" / study
        if not home.exists():
            _copy(study, runs, home)
    child.preload(lambda: _go_all_ways(folder), folder / "modules-records")


def _go_all_ways(folder: Path) -> None:
    """Tell the status of a manifest's jobs, and report it in every form."""
    case = _Case("quick", Path(), None, "", True)
    with TemporaryDirectory() as scratch:
        shutil.copytree(folder / "frozen" / "quick", scratch, dirs_exist_ok=True)
        os.chdir(scratch)
        for way in (_status, _report):
            with suppress(SystemExit):
                way(folder, case)


def _copy(study: str, runs: str, home: Path) -> None:
    """Copy a manifest and the records that its report reads."""
    from bench.manifest import read_manifest

    manifest = read_manifest(FROZEN / "manifests" / f"{study}.yaml", study == "quick", networks=False)
    cells = {cell.id for own in manifest.trained for cell in (own, *own.lineage)}
    part = home.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    studies = manifest.studies if manifest.timing else []
    for name in sorted(cells | {study.id for study in studies}):
        if (FROZEN / runs / name).exists():
            shutil.copytree(FROZEN / runs / name, part / "runs" / name, ignore=shutil.ignore_patterns("*.pt"))
    shutil.copy(FROZEN / "manifests" / f"{study}.yaml", part / f"{study}.yaml")
    part.rename(home)


def attempt(folder: Path, seed: int) -> list[Outcome]:
    """Damage one file of a manifest's records, and report."""
    case = _made(folder, seed)
    home = folder / "records" / f"{seed}"
    shutil.rmtree(home, ignore_errors=True)
    try:
        return [child.outcome(case.tried(), _broken(folder, home, case))]
    finally:
        shutil.rmtree(home, ignore_errors=True)


KIND = Kind(
    "records",
    "status and reports end well, name and count each line left out, and take no figure from one; no file changes",
    500,
    prepare,
    attempt,
    None,  # a case has one damage
)


def _made(folder: Path, seed: int) -> _Case:
    rng = random.Random(f"records {seed}")
    study = rng.choice(sorted(STUDIES))
    runs = folder / "frozen" / study / "runs"
    file = rng.choice(sorted(path for path in runs.rglob("*.jsonl")))
    form = rng.choice(FILES) if rng.random() < 0.1 else ""
    damage = None if form else damaged(rng, file.read_bytes())
    return _Case(study, file.relative_to(runs), damage, form, study in PAGES and rng.random() < 0.4)


def _broken(folder: Path, home: Path, case: _Case) -> str:
    shutil.copytree(folder / "frozen" / case.study, home / "damaged")
    path = home / "damaged" / "runs" / case.file
    if case.damage:
        path.write_bytes(case.damage.content)
    else:
        _reform(path, case.form)
    before = _digests(home / "damaged" / "runs")
    status = child.run(lambda: _status(folder, case), folder=home / "damaged")
    report = child.run(lambda: _report(folder, case), seconds=240, folder=home / "damaged")
    for name, ended in (("status", status), ("report", report)):
        if wrong := ended.crash() or outputs.terminal(ended.output) or outputs.terminal(ended.error):
            return f"{name}: {wrong}"
        if ended.code and (wrong := ended.refusal(f"{case.study}.yaml", case.file.name, "runs", "cannot be compared")):
            return f"{name}: {wrong}"
    if _digests(home / "damaged" / "runs") != before:
        return "a file was changed"
    if report.code:
        return ""
    return _outputs(home / "damaged", case.page) or (_figures(folder, home, case) if case.damage else "")


def _reform(path: Path, form: str) -> None:
    """Put something else in the place of a file."""
    content = path.read_bytes()
    path.unlink()
    if form == "directory":
        path.mkdir()
    elif form == "pipe":
        os.mkfifo(path)
    elif form in ("loop", "dangling"):
        path.symlink_to(path.name if form == "loop" else "nowhere")
    elif form != "gone":
        path.write_bytes({"empty": b"", "huge": b"x" * 40_000_000, "other": content + content[::-1] + b"\n"}[form])


def _digests(runs: Path) -> dict[Path, str]:
    """Content and time of every file."""
    files = sorted(path for path in runs.rglob("*") if path.is_file())
    return {file: f"{hashlib.sha256(file.read_bytes()).hexdigest()} {file.stat().st_mtime_ns}" for file in files}


def _outputs(home: Path, page: bool) -> str:
    return (
        next(filter(None, map(outputs.sheet, sorted(home.glob("*.csv")))), "")
        or outputs.latex(home / "r.tex")
        or outputs.markdown(home / "r.md")
        or (outputs.page(home / "r.html") if page else "")
    )


def _figures(folder: Path, home: Path, case: _Case) -> str:
    """Compare the figures with those of the records without the lines that a reader can tell from records."""
    assert case.damage
    lines = case.damage.content.split(b"\n")[:-1]  # an incomplete last line is being written
    told = sorted({n for n, line in enumerate(lines, 1) if not is_object(line)} | set(case.damage.told))
    told = [number for number in told if number <= len(lines)]
    if not told:
        return ""
    if wrong := _unnamed(home / "damaged", case, told):
        return wrong
    shutil.copytree(folder / "frozen" / case.study, home / "expected")
    kept = without(lines, told)
    (home / "expected" / "runs" / case.file).write_bytes(b"".join(line + b"\n" for line in kept))
    expected = child.run(lambda: _report(folder, case, page=False), seconds=240, folder=home / "expected")
    if expected.code:
        return f"report without the damaged lines: {expected.crash() or expected.error[:300]}"
    return difference(home / "damaged" / "r.csv", home / "expected" / "r.csv")


def _unnamed(home: Path, case: _Case, told: list[int]) -> str:
    """The reason why the report does not name the file, the first line left out and their number.

    A line before the first one in `told` may be left out, too: an object, but no record.
    """
    text = "\n".join(path.read_text(encoding="utf-8") for path in (*home.glob("w*.csv"), home / "r.md"))
    text = text.replace("\\", "")
    found = re.search(rf"{re.escape(str(case.file))}, line (\d+): .*?\((\d+) lines?\)", text)
    if not found or int(found[1]) > told[0]:
        return f"no word of line {told[0]} of {case.file}, which is left out"
    return "" if int(found[2]) >= len(told) else f"{found[2]} of {len(told)} lines are counted"


def _quick(case: _Case) -> list[str]:
    return ["--quick"] * (case.study == "quick")


def _status(folder: Path, case: _Case) -> None:
    from bench.status import app

    manifests.command(app, folder, f"{case.study}.yaml", "--runs", "runs", "--data", "data", *_quick(case))


def _report(folder: Path, case: _Case, page: bool = True) -> None:
    from reports.__main__ import app

    forms = ["--csv", "r.csv", "--wide-csv", "w.csv", "--latex", "r.tex", "--out", "r.md"]
    forms += ["--html", "r.html"] * (page and case.page)
    manifests.command(app, folder, f"{case.study}.yaml", "--runs", "runs", *forms, *_quick(case))
