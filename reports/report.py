"""The report of a manifest: its tables printed, and written in other formats."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bench.command import set_options
from bench.manifest.manifest import Manifest
from bench.results.energy import Rates
from bench.results.ratios import check_fields
from crt import screen
from crt.text import invocation, printable
from reports.frames import read_frames
from reports.header import header
from reports.observations import observations
from reports.render import csv as csv_writer
from reports.render import text
from reports.render.latex import latex as latex_document
from reports.render.table_spec import LATEX, TEXT, TableSpec
from reports.tables.all_tables import tables
from reports.verdict import verdict

_FORMATS = (".pdf", ".png", ".svg")
"""Suffixes of plot files."""


def report(
    path: Path,
    runs: list[Path],
    quick: bool,
    csv: Path | None,
    wide_csv: Path | None,
    latex: Path | None,
    out: Path | None,
    plot: Path | None,
    allow: list[str],
    overrides: list[str],
    rates: Rates,
    wide: bool,
) -> None:
    """Print the report of a manifest and write the requested files; ValueError for what cannot be written."""
    check_fields(allow)
    rates.check()
    _check(runs, {"--csv": csv, "--wide-csv": wide_csv, "--latex": latex, "--out": out, "--plot": plot})
    with screen.working("reading records and computing tables"):
        manifest, measured, frames = read_frames(path, runs, quick, allow, rates, overrides)
    findings = [finding.text for finding in verdict(manifest, measured, frames, allow)]
    lines, shown = header(manifest, measured, frames), list(tables(frames, TEXT))
    console = screen.output()
    text.show(console, manifest.title, findings, lines, shown, wide)
    if not any(m.starts or m.losses or m.verdicts for m in measured):
        folder: list[str | Path] = ["--runs", runs[0]] if runs[0] != Path("runs") else []
        make = invocation("bench.submit", path, *(["--quick"] if quick else []), *set_options(overrides), *folder)
        console.print(f"No records in {printable(', '.join(map(str, runs)))} yet. Run: {make}", soft_wrap=True)
    for line in _write(manifest, findings, lines, shown, frames, csv, wide_csv, latex, out, plot):
        console.print(printable(line), soft_wrap=True)


def _check(runs: list[Path], files: dict[str, Path | None]) -> None:
    """Raise ValueError for a missing folder or an unknown format, before any table is made."""
    for folder in runs:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--runs {folder}: not a folder")
    for option, file in files.items():
        if file and not file.parent.is_dir():
            raise ValueError(f"{option} {file}: no folder {file.parent}")
    if (plot := files["--plot"]) and plot.suffix not in _FORMATS:
        raise ValueError(f"--plot {plot}: {plot.suffix!r} (allowed: {', '.join(_FORMATS)})")


def _write(
    manifest: Manifest,
    findings: list[str],
    lines: list[str],
    shown: list[TableSpec],
    frames: dict[str, pd.DataFrame],
    csv: Path | None,
    wide_csv: Path | None,
    latex: Path | None,
    out: Path | None,
    plot: Path | None,
) -> Iterator[str]:
    """Write the requested files, and yield a line for each."""
    if csv:
        csv_writer.write_tidy(observations(manifest, frames), csv)
        yield f"wrote {csv}"
    if wide_csv:
        yield from (f"wrote {file}" for file in csv_writer.write_wide(frames, wide_csv))
    if out:
        out.write_text(text.markdown(manifest.title, findings, lines, shown), encoding="utf-8")
        yield f"wrote {out}"
    if latex:
        latex.write_text(latex_document(manifest.title, [*findings, *lines], tables(frames, LATEX)), encoding="utf-8")
        yield f"wrote {latex}"
    if plot:
        # Importing Matplotlib takes longer than making most reports.
        from reports.figures.all_figures import draw

        yield from draw(frames, plot)
