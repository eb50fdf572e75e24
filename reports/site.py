"""A site of several reports: a page for each, a board of all their methods, and an index."""

from dataclasses import replace
from pathlib import Path

from bench.plan.selection import manifest_name
from crt.disk import write_text
from crt.text import printable
from reports import board
from reports.options import Options
from reports.render.html import Entry, index
from reports.report import report

_INDEX = "index.html"
_ALLOWED = ("--html", "--wide-csv", "--latex", "--out")
_ONE = "is for one manifest (allowed for several: --html FOLDER, and of the board --wide-csv, --latex, --out)"


def site(manifests: list[Path], options: Options) -> int:
    """Print the report of each manifest in turn, and the board, which ranks all their methods.

    With a folder `options.html`, a page is written for each and for the board, and an index; the other files hold the
    board. Returns the number of cells that became slower than those of `--against`. ValueError for files that are
    those of a single report.
    """
    names = _check(manifests, options)
    if options.html:
        options.html.mkdir(exist_ok=True)
    made, entries = [], []
    for name, path in zip(names, manifests, strict=True):
        page = options.html / f"{name}.html" if options.html else None
        summary = report(path, replace(options, html=page, wide_csv=None, latex=None, out=None), home=_INDEX)
        entries.append(Entry(f"{name}.html", summary.title, summary.verdict, summary.measured, summary.cells))
        made.append(summary)
    if ranked := board.board([each.results for each in made], options.allow):
        cells = sum(each.cells for each in made)
        said = " ".join(sentence for _, sentence in ranked.findings[:1])
        entries.insert(0, Entry(f"{board.NAME}.html", board.TITLE, said, sum(each.measured for each in made), cells))
        board.show(ranked, options.wide)
        for line in board.write(ranked, options):
            print(printable(line))
    if options.html:
        write_text(options.html / _INDEX, index(entries))
        print(printable(f"wrote {options.html / _INDEX}"))
    return sum(each.slower for each in made)


def _check(manifests: list[Path], options: Options) -> list[str]:
    """Names of the pages; ValueError before anything is made."""
    for option, file in options.files().items():
        if option not in _ALLOWED:
            raise ValueError(f"{option} {file}: {_ONE}")
    names = [manifest_name(path) for path in manifests]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{', '.join(sorted(twice))}: several manifests of one name (allowed: each name once)")
    if board.NAME in names:
        raise ValueError(f"{board.NAME}: the page of all manifests has this name (allowed: another name)")
    html = options.html
    if html and html.exists() and not html.is_dir():
        raise ValueError(f"--html {html}: not a folder (allowed for several manifests: a folder)")
    if html and not html.parent.is_dir():
        raise ValueError(f"--html {html}: no folder {html.parent}")
    replace(options, html=None).check()
    return names
