"""A site of several reports: a page for each, and an index."""

from dataclasses import replace
from pathlib import Path

from bench.plan.selection import manifest_name
from crt.disk import write_text
from reports.options import Options
from reports.render.html import Entry, index
from reports.report import report

_INDEX = "index.html"
_ONE = "is for one manifest (allowed for several: --html FOLDER)"


def site(manifests: list[Path], options: Options) -> int:
    """Print the report of each manifest in turn; with a folder `options.html`, write a page for each, and an index.

    Returns the number of cells that became slower than those of `--against`. ValueError for the other files, which are
    those of a single report.
    """
    for option, file in options.files().items():
        if option != "--html":
            raise ValueError(f"{option} {file}: {_ONE}")
    names = [manifest_name(path) for path in manifests]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{', '.join(sorted(twice))}: several manifests of one name (allowed: each name once)")
    html = options.html
    if html and html.exists() and not html.is_dir():
        raise ValueError(f"--html {html}: not a folder (allowed for several manifests: a folder)")
    if html and not html.parent.is_dir():
        raise ValueError(f"--html {html}: no folder {html.parent}")
    if html:
        html.mkdir(exist_ok=True)
    entries, slower = [], 0
    for name, path in zip(names, manifests, strict=True):
        page = html / f"{name}.html" if html else None
        made = report(path, replace(options, html=page), home=_INDEX)
        slower += made.slower
        entries.append(Entry(f"{name}.html", made.title, made.verdict, made.measured, made.cells))
    if html:
        write_text(html / _INDEX, index(entries))
        print(f"wrote {html / _INDEX}")
    return slower
