"""The report of a manifest: its tables printed, and written in other formats."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bench.command import set_options
from bench.manifest.manifest import Manifest
from bench.results.energy import Rates
from bench.results.measured import count_recorded
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
from reports.verdict import Finding, verdict

_FORMATS = (".pdf", ".png", ".svg")
"""Suffixes of plot files."""


class Summary(NamedTuple):
    """A report in the index of a site."""

    title: str
    verdict: str
    """One sentence of the verdict."""
    measured: int
    """Cells with records."""
    cells: int


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
    html: Path | None = None,
    home: str = "",
) -> Summary:
    """Print the report of a manifest and write the requested files; ValueError for what cannot be written.

    `home` links the page `html` to the index of a site.
    """
    check_fields(allow)
    rates.check()
    files = {"--csv": csv, "--wide-csv": wide_csv, "--latex": latex, "--out": out, "--plot": plot, "--html": html}
    _check(runs, files)
    with screen.working("reading records and computing tables"):
        manifest, measured, frames = read_frames(path, runs, quick, allow, rates, overrides)
    findings = verdict(manifest, measured, frames, allow)
    sentences = [finding.text for finding in findings]
    lines, shown = header(manifest, measured, frames), list(tables(frames, TEXT))
    console = screen.output()
    text.show(console, manifest.title, sentences, lines, shown, wide)
    if not any(m.recorded for m in measured):
        folder: list[str | Path] = ["--runs", runs[0]] if runs[0] != Path("runs") else []
        make = invocation("bench.submit", path, *(["--quick"] if quick else []), *set_options(overrides), *folder)
        console.print(f"No records in {printable(', '.join(map(str, runs)))} yet. Run: {make}", soft_wrap=True)
    for line in _write(manifest, sentences, lines, shown, frames, csv, wide_csv, latex, out, plot):
        console.print(printable(line), soft_wrap=True)
    if html:
        # Jinja and Matplotlib take longer to import than most reports take to make.
        from reports.page import commands, contents
        from reports.render.html import page

        again = commands(path, runs, quick, allow, overrides, rates, html)
        content = contents(manifest, measured, frames, lines, shown, findings, again, home)
        html.write_text(page(content), encoding="utf-8")
        console.print(printable(f"wrote {html}"), soft_wrap=True)
    return Summary(manifest.title, _main(findings), count_recorded(manifest, measured), len(manifest.cells))


def _main(findings: list[Finding]) -> str:
    """The sentence that answers most, for an index of reports."""
    by_rule = {finding.rule: finding.text for finding in findings}
    return next((by_rule[rule] for rule in ("fastest", "costs", "compared") if rule in by_rule), "")


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
    if (html := files["--html"]) and html.suffix not in (".html", ".htm"):
        raise ValueError(f"--html {html}: {html.suffix!r} (allowed for one manifest: .html, .htm)")


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
