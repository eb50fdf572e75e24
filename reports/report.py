"""The report of a manifest: its tables printed, and written in other formats."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bench.manifest.manifest import Manifest
from bench.results.measured import count_recorded
from crt import screen
from crt.disk import write_text
from crt.text import printable
from reports.frames import Results, read_frames
from reports.header import header
from reports.observations import observations
from reports.options import Options
from reports.render import csv as csv_writer
from reports.render import text
from reports.render.latex import latex as latex_document
from reports.render.table_spec import LATEX, TEXT, TableSpec
from reports.tables.all_tables import tables
from reports.verdict import Finding, verdict


class Summary(NamedTuple):
    """A report in the index of a site."""

    title: str
    verdict: str
    """One sentence of the verdict."""
    measured: int
    """Cells with records."""
    cells: int
    slower: int
    """Cells that became slower than those of `--against`."""
    results: Results


def report(path: Path, options: Options, home: str = "") -> Summary:
    """Print the report of a manifest and write the requested files; ValueError for what cannot be written.

    `home` links the HTML page to the index of a site.
    """
    options.check()
    with screen.working("reading records and computing tables"):
        results = read_frames(
            path,
            options.runs,
            options.quick,
            options.allow,
            options.rates,
            options.overrides,
            options.every_pair,
            options.against,
            None if options.target is None else options.target / 100,
        )
    manifest, measured, compared, frames = results
    findings = verdict(manifest, measured, compared, frames)
    sentences = [finding.text for finding in findings]
    lines, shown = header(manifest, measured, frames), list(tables(frames, TEXT))
    written: list[str] = []
    try:
        with screen.working("writing files"):
            written.extend(_write(manifest, sentences, lines, shown, frames, options))
            if options.html:
                # Jinja and Matplotlib take longer to import than most reports take to make.
                from reports.page import contents
                from reports.render.html import page

                content = contents(manifest, measured, frames, lines, shown, findings, options.commands(path), home)
                write_text(options.html, page(content))
                written.append(f"wrote {options.html}")
    finally:
        # Last, because a reader of standard output that stops early, such as `head`, ends the program.
        if frames["restatements"].empty and not any(m.recorded for m in measured):
            places, command = ", ".join(map(str, options.runs)), options.commands(path)["Measure the cells"]
            written.insert(0, f"No records in {places} yet. Run: {command}")
        console = screen.output()
        text.show(console, manifest.title, sentences, lines, shown, options.wide)
        for line in written:
            console.print(printable(line), soft_wrap=True)
    slower = int((frames["changes"]["verdict"] == "slower").sum())
    recorded = count_recorded(manifest, measured)
    return Summary(manifest.title, _main(findings), recorded, len(manifest.cells), slower, results)


def _main(findings: list[Finding]) -> str:
    """The sentence that answers most, for an index of reports."""
    by_rule = {finding.rule: finding.text for finding in findings}
    return next((by_rule[rule] for rule in ("fastest", "costs", "compared") if rule in by_rule), "")


def _write(
    manifest: Manifest,
    findings: list[str],
    lines: list[str],
    shown: list[TableSpec],
    frames: dict[str, pd.DataFrame],
    options: Options,
) -> Iterator[str]:
    """Write the requested files, and yield a line for each."""
    if options.csv:
        csv_writer.write_tidy(observations(manifest, frames), options.csv)
        yield f"wrote {options.csv}"
    if options.wide_csv:
        yield from (f"wrote {file}" for file in csv_writer.write_wide(frames, options.wide_csv))
    if options.out:
        write_text(options.out, text.markdown(manifest.title, findings, lines, shown))
        yield f"wrote {options.out}"
    if options.latex:
        document = latex_document(manifest.title, [*findings, *lines], tables(frames, LATEX))
        write_text(options.latex, document)
        yield f"wrote {options.latex}"
    if options.plot:
        # Importing Matplotlib takes longer than making most reports.
        from reports.figures.all_figures import draw

        yield from draw(frames, options.plot)
