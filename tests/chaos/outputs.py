"""Hostile text in outputs: each check returns what an output takes for more than text, or an empty text."""

import csv
import os
import re
import subprocess
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

from tests.chaos.damage import MARK

_BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def terminal(text: str) -> str:
    """A character that controls a terminal, or markup of rich that was taken for such."""
    for char in text:
        if (unicodedata.category(char) in ("Cc", "Cs") and char != "\n") or char in _BIDIRECTIONAL:
            return f"the character {char!r} in the output"
    if lost := re.search(rf".*(?<!\[bold\]){MARK}\[/bold\]", text):
        return f"markup of rich: {lost[0][-80:]!r}"
    return ""


def sheet(path: Path) -> str:
    """A cell of a CSV file that a spreadsheet takes for a formula."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    for row in rows:
        if len(row) != len(rows[0]):
            return f"a row of {len(row)} cells, the head has {len(rows[0])}"
        for cell in row:
            if cell.startswith(("=", "+", "-", "@", "\t", "\r")) and not _is_number(cell):
                return f"a formula: {cell[:80]!r}"
    return ""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


class _Elements(HTMLParser):
    """Collects elements, attributes and comments that hold the mark."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [tag, *(name for name, _ in attrs)]
        values = [value or "" for name, value in attrs if name.startswith("on") or name in ("href", "src", "style")]
        if any(MARK in name for name in names) or any(MARK in v and not v.startswith("#") for v in values):
            self.found.append(str(self.get_starttag_text()))

    def handle_comment(self, data: str) -> None:
        if MARK in data:
            self.found.append(f"<!--{data}")


def page(path: Path) -> str:
    """An element, an attribute, a link or a comment of an HTML page that hostile text makes."""
    parser = _Elements()
    parser.feed(path.read_text(encoding="utf-8"))
    return f"HTML: {parser.found[0][:200]!r}" if parser.found else ""


def latex(path: Path) -> str:
    """A command or an active character of LaTeX right before the mark."""
    found = re.search(
        rf".*(?:(?<!\\)(?:\\\\)*\\{MARK}|\\input\{{{MARK}|(?<!\\)[%&#_]{MARK}|(?<![\\<>|])\${MARK}|\^\^{MARK}"
        rf"|(?<!\\)(?<!\\section\*)(?<!\\caption)\{{{MARK})",
        path.read_text(),
    )
    return f"LaTeX: {found[0][-80:]!r}" if found else ""


def markdown(path: Path) -> str:
    """An element of HTML or an image in Markdown."""
    found = re.search(rf".*(?<!\\)(?:<[/a-z]*{MARK}|<!--{MARK}|!\[{MARK}\]\()", path.read_text(encoding="utf-8"))
    return f"Markdown: {found[0][-80:]!r}" if found else ""


def script(text: str, folder: Path) -> str:
    """A line of a batch script that hostile text adds: the script is run in the folder, with stand-ins for programs."""
    for line in text.splitlines():
        if line.startswith("#SBATCH") and not re.fullmatch(r"#SBATCH --[a-z-]+(?:=\S.*)?", line):
            return f"the line {line[:100]!r} of a batch script"
        if line.startswith("#SBATCH --wrap"):
            return f"the option {line[:100]!r} of a batch script"
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name in ("srun", "python", "mktemp", "rm"):
        (programs / name).write_text("#!/bin/sh\necho x\n")
        (programs / name).chmod(0o755)
    (programs / "touch").unlink(missing_ok=True)
    (programs / "touch").symlink_to("/usr/bin/touch")
    here = folder / "there"
    here.mkdir(exist_ok=True)
    done = subprocess.run(
        ["/bin/bash"], input=text, text=True, cwd=here, env={"PATH": str(programs)}, capture_output=True, timeout=20
    )
    if left := os.listdir(here):
        return f"the batch script ran {left}"
    lines = [line for line in done.stderr.splitlines() if "command not found" in line or "syntax error" in line]
    return f"the batch script: {lines[0][:200]}" if lines else ""
