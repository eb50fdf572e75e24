"""Tables are described once: what a description says holds in text, Markdown, LaTeX and CSV."""

import io

import pandas as pd

from crt.screen import Screen
from reports.render import csv, text
from reports.render.latex import latex
from reports.render.table_spec import LATEX, TEXT, Column, TableSpec

ROWS = pd.DataFrame(
    {
        "name": ["A_b", "C"],
        "share": [0.12345, None],
        "share_low": [0.1, None],
        "share_high": [0.2, None],
        "seconds": [1234.5678, 2.5],
        "empty": [None, None],
        "why": [["unlike device"], []],
    }
)
COLUMNS = [
    Column("name", "name", "name"),
    Column("share", "share", "percent", r"$p$", "both", warnings="why"),
    Column("seconds", "s", "rounded", group="both"),
    Column("empty", "never", "ratio", optional=TEXT),
    Column("empty", "neither", "ratio", optional=f"{TEXT} {LATEX}"),
    Column("name", "of text", writers=TEXT),
]
SPEC = TableSpec("A title", "a caption.", COLUMNS, ROWS, ["A note."], folder="x_y")


def test_markdown_and_terminal_have_the_columns_of_text():
    page = text.markdown("T", [], [], [SPEC])
    assert "## A title, x_y" in page
    assert "| name | share | s | of text |\n" in page
    assert "| A_b | 12.3 [10, 20] * | 1,235 | A_b |\n" in page and "| C | – | 2.5 | C |\n" in page
    console = Screen(width=100, file=io.StringIO())
    text.show(console, "T", [], [], [SPEC])
    shown = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.file.getvalue().splitlines()]
    assert ["A_b", "12.3 [10, 20] *", "1,235", "A_b"] in shown and "never" not in console.file.getvalue()


def test_latex_has_groups_notes_and_warnings():
    page = latex("T", [], [SPEC])
    assert r"\caption{T: a caption. A note. Folder: x\_y.}" in page
    assert r" & \multicolumn{2}{c}{both} &  \\" in page and r"name & {$p$} & {s} & {never} \\" in page
    assert r"A\_b & 12.3 & 1235 & {--} \\" in page and r"C & {--} & 2.500 & {--} \\" in page
    assert r"{\scriptsize[10.0, 20.0]}" in page and r"{\scriptsize unlike device}" in page
    assert "neither" not in page and "of text" not in page


def test_csv_has_every_row_and_column_in_full_precision(tmp_path):
    frames = {"timing": ROWS[["name"]], "shares": ROWS.drop(columns="why"), "nothing": ROWS[:0]}
    files = list(csv.write_wide(frames, tmp_path / "m.csv"))
    assert (
        [file.name for file in files] == ["m.csv", "m-shares.csv"] == sorted(p.name for p in tmp_path.iterdir())[::-1]
    )
    assert pd.read_csv(files[1])["seconds"].tolist() == ROWS["seconds"].tolist()
