"""Reports as self-contained HTML pages: they load nothing from anywhere, and run no script but their own."""

import base64
import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from crt.text import printable
from reports.render.html_table import Table

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Figure:
    """A figure with the data that it draws, and a line for each reason to leave cells out."""

    key: str
    """Name on the page, for links."""
    title: str
    caption: str
    svg: str
    """An `<svg>` element, in which Matplotlib escapes the text."""
    data: Table
    left_out: Sequence[str] = ()

    @property
    def image(self) -> Markup:
        """The image as part of a page."""
        return Markup(self.svg)


@dataclass(frozen=True, kw_only=True)
class Page:
    """Contents of a report's page, in the order in which they are shown."""

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    """The comparison in words, by term."""
    notice: str = ""
    """A sentence that stands out, above everything else."""
    findings: Sequence[tuple[str, str]] = ()
    """Sentences of the verdict, each after the name of its rule."""
    claims: Sequence[Table] = ()
    notes: Sequence[str] = ()
    """Sentences on how to read the tables."""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    warnings: Sequence[str] = ()
    settings: Sequence[Table] = ()
    environment: Sequence[Table] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    """Command lines by their purpose."""
    name: str = "report"
    """First part of the names of downloaded files."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Texts of the files to download, by name."""
    home: str = ""
    """Link to the index of a site."""


class Entry(NamedTuple):
    """A report in the index of a site."""

    link: str
    title: str
    verdict: str
    measured: int
    """Cells with records."""
    cells: int


def page(content: Page) -> str:
    """A report as one page."""
    packed = {name: _packed(text) for name, text in content.files.items()}
    files = {"name": content.name, "texts": packed, "zip": _zipped(content.files)}
    return _render("page.html.j2", page=content, files=files)


def index(entries: Iterable[Entry]) -> str:
    """The first page of a site of several reports."""
    return _render("index.html.j2", entries=list(entries))


def _packed(text: str) -> str:
    """A text compressed as the browser's `deflate` has it, in base 64: a tenth of a large table."""
    return base64.b64encode(zlib.compress(text.encode("utf-8", "backslashreplace"))).decode()


def _zipped(files: Mapping[str, str]) -> str:
    """The CSV files in one archive, in base 64; equal for equal files."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            if name.endswith(".csv"):
                # ZipInfo's date is constant.
                entry = zipfile.ZipInfo(name)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, content.encode("utf-8", "backslashreplace"))
    return base64.b64encode(held.getvalue()).decode()


def _render(template: str, **values: Any) -> str:
    style, script = (_HERE.joinpath(f"page.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    # The page runs the script with this digest alone, so that no text can become a script.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values |= {"style": Markup(style), "script": Markup(script), "digest": digest}
    return _environment().get_template(template).render(values) + "\n"


@cache
def _environment() -> Environment:
    """Templates that escape every text, and show control characters as escapes."""
    return Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
