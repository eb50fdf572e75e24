"""Write what reports and `bench.status` say of the frozen records in `report/`, to compare two versions of the code.

    python tests/golden/write_report.py before     # at one version
    python tests/golden/write_report.py after      # at another
    diff -r before after

Without a folder it writes `report/expected`, which the tests hold every version to. Of each plot it writes the numbers
that are drawn, as JSON, and no image. Nothing is written into the frozen records.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path
from typing import Any
from unittest import mock

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from typer.testing import CliRunner

HOME = Path(__file__).parent / "report"
FROZEN = ("manifests", "weights", "runs", "gpu-runs")
REPORTS = {
    **{file.stem: (file.stem, "runs") for file in sorted((HOME / "manifests").glob("*.yaml"))},
    "smoothing": ("smoothing", "runs", "--allow", "precision"),
    "refused": ("smoothing", "runs"),
    "quick": ("quick", "runs", "--quick"),
    "gpu": ("gpu", "gpu-runs", "--grid-intensity", "400", "--hourly-rate", "2.5"),
    "unlike": ("unlike", "runs", "--allow", "threads", "--allow", "loader"),
    "two-folders": ("smoothing", "runs", "--runs", "gpu-runs", "--allow", "precision"),
    "nothing": ("smoothing", "none"),
}
"""By the name of its outputs: a manifest, a runs folder, and options."""
_AGO = 100 * 24 * 3600
"""Seconds since the last records were written, as `bench.status` sees them: so many that it rounds to hours."""


def write(folder: Path) -> None:
    """Write every output into the folder, which is made."""
    folder = folder.absolute()
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
        for part in FROZEN:
            shutil.copytree(HOME / part, part)
        then = time.time() - _AGO
        for file in Path("runs").rglob("*"):
            os.utime(file, (then, then))
        for name, (manifest, runs, *options) in REPORTS.items():
            _report(name, f"manifests/{manifest}.yaml", ["--runs", runs, *options])
        for source in Path("out").rglob("*"):
            if source.is_file():
                target = folder / source.relative_to("out")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)


def _report(name: str, manifest: str, options: list[str]) -> None:
    """All forms of one report, and the state of its jobs."""
    from bench.status import app as status
    from reports.__main__ import app as reports

    out = Path("out") / name
    out.mkdir(parents=True)
    files = ["--csv observations.csv", "--wide-csv report.csv", "--out report.md", "--latex report.tex"]
    forms = [word for file in [*files, "--plot report.svg"] for word in (file.split()[0], str(out / file.split()[1]))]
    with mock.patch.object(Figure, "savefig", _save_data):
        said = CliRunner().invoke(reports, [manifest, *options, *forms])
    (out / "report.txt").write_text(f"{_without_counts(said.output)}exit code {said.exit_code}\n", encoding="utf-8")
    state = options[:2] + ["--quick"] * ("--quick" in options)
    told = CliRunner().invoke(status, [manifest, *state, "--data", "data"])
    (out / "status.txt").write_text(f"{_without_counts(told.output)}exit code {told.exit_code}\n", encoding="utf-8")


def _without_counts(text: str) -> str:
    """The text without the note on operations, which is printed where they were not counted before."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("counting operations"))


def _save_data(figure: Figure, path: Path, **_: Any) -> None:
    """Write what a figure draws, instead of its image."""
    shown = [
        {
            "labels": [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()],
            "scales": [axes.get_xscale(), axes.get_yscale()],
            "ticks": [
                [tick.get_text() for tick in ticks] for ticks in (axes.get_xticklabels(), axes.get_yticklabels())
            ],
            "lines": [[line.get_label(), line.get_linestyle(), _points(line.get_xydata())] for line in axes.lines],
            "intervals": [
                [_points(part) for part in bars.get_segments()]
                for bars in axes.collections
                if isinstance(bars, LineCollection)
            ],
            "bars": [[*bar.get_bbox().bounds] for bar in axes.patches if hasattr(bar, "get_bbox")],
            "texts": [text.get_text() for text in axes.texts],
        }
        for axes in figure.axes
    ]
    legends = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    content = {"size": [*figure.get_size_inches()], "axes": shown, "legends": legends}
    Path(path).with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _points(points: Any) -> list[list[float]]:
    return [[float(value) for value in point] for point in points]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HOME / "expected")
