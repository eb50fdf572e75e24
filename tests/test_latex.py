"""The tables in LaTeX: numbers and names as in the frames, and a document that compiles."""

import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from waiting import HANG

from reports.render.latex import latex as document
from reports.render.latex_text import escape
from reports.render.table_spec import LATEX
from reports.tables.all_tables import tables
from reports.tables.timing import TIMING

NAN = math.nan
HARD = r"50 % of #1 {a} a_b & c^2 ~ \d [e] <- f -> g <h> --quick --- $1 α ≤ σ ± – é 漢 | “q”"


def latex(title, lines, timing, robustness, **more):
    names = "means factors scaling energy seeds seed_differences trainings masking comparisons claims".split()
    empty = dict.fromkeys(names, pd.DataFrame())
    frames = empty | {"timing": timing, "robustness": robustness} | more
    return document(title, lines, tables(frames, LATEX))


def timing(**columns: object) -> pd.DataFrame:
    """Two measured rows and one that waits for its records."""
    values = {name: [NAN] * 3 for name in TIMING} | {
        "arch": ["resnet110", "regnetx_200mf", "dla"],
        "method": ["Standard", "CRT(alpha=0.9, target=logits)", "CRT"],
        "batch": [128, 128, 256],
        "s_per_epoch": [1085.094, 62.2449, NAN],
        "s_per_epoch_low": [1080.1, 61.0, NAN],
        "s_per_epoch_high": [1090.2, 63.5, NAN],
        "slowdown": [1.0, 1.094, NAN],
        "slowdown_low": [NAN, 1.011, NAN],
        "slowdown_high": [NAN, 1.184, NAN],
        "unlike": [None, "device threads", None],
        "dataset": ["cifar10"] * 3,
    }
    return pd.DataFrame(values | columns)


def robustness(radii: int, rows: int = 2, **columns: object) -> pd.DataFrame:
    shares = [*(f"certified_at_{r / 4:.2f}" for r in range(radii)), "clean", "acr"]
    values = {
        "dataset": ["cifar10"] * rows,
        "arch": ["resnext29"] * rows,
        "method": ["CRT(target=logits)"] * rows,
        "teacher": ["resnet110 SmoothMix <- resnet20 SmoothMix"] + [None] * (rows - 1),
        "judge": ["Smoothing"] * rows,
        "eval": ["Smoothing(n=1000)"] * rows,
        "norm": ["l2"] * rows,
        "eps": [0.0] * rows,
        "sigma": [0.25] * rows,
        "epochs": ["3/200"] * rows,
        "images": [10_000] * rows,
        "clean_images": [10_000] * rows,
        "skipped": [3] * rows,
        "abstained": [0.012] * rows,
    }
    for name in shares:
        values |= {name: [0.6775] * rows, f"{name}_low": [0.6683] * rows, f"{name}_high": [0.6866] * rows}
    values |= {"paper_acr": [0.486] * rows, "paper_certified_at_0.25": [0.6775] + [NAN] * (rows - 1)}
    return pd.DataFrame(values | columns)


def at_eps(rows: int = 2) -> pd.DataFrame:
    """Rows of an attack in l-infinity."""
    frame = robustness(0, rows).drop(columns=["paper_acr", "paper_certified_at_0.25", "acr", "acr_low", "acr_high"])
    values = {"judge": "PGD", "eval": "PGD(steps=20, restarts=10)", "norm": "linf", "eps": 8 / 255, "at_eps": 0.486}
    values |= {
        "at_eps_low": 0.476,
        "at_eps_high": 0.496,
        "paper_clean": 0.8550,
        "paper_at_eps": [0.4838] + [NAN] * (rows - 1),
    }
    return frame.assign(**values, skipped=NAN, abstained=NAN)


MASKED = pd.DataFrame(
    [
        {
            "arch": "dla",
            "method": "KD",
            "teacher": None,
            "norm": "linf",
            "eps": 8 / 255,
            "weakest": "PGD(steps=20, restarts=1)",
        }
        | {"at_weakest": 0.5, "at_weakest_low": 0.4, "at_weakest_high": 0.6, "strongest": "AutoAttack"}
        | {"at_strongest": 0.3, "at_strongest_low": 0.2, "at_strongest_high": 0.4, "largest_eps": 0.5, "only_weaker": 3}
        | {
            "at_largest": 0.1,
            "at_largest_low": 0.05,
            "at_largest_high": 0.2,
            "verdict": "weak attack, masked gradients?",
        }
    ]
)
COMPARED = pd.DataFrame(
    [
        {"one": f"dla {one}", "other": f"dla {other}", "images": 1000, "at": "eps 8/255", "couple": couple}
        | {"accuracy_difference": -0.02, "accuracy_difference_low": -0.05, "accuracy_difference_high": 0.01}
        | {"acr_difference": NAN, "acr_difference_low": NAN, "acr_difference_high": NAN, "mcnemar_p": 0.25}
        | {"eval": "PGD(steps=20, restarts=10)"}
        for one, other, couple in (("SAT", "RRM", "teacher"), ("SAT", "FreeAT", "other"), ("RRM", "FreeAT", "teacher"))
    ]
)


def body(text: str, caption: str) -> list[list[str]]:
    """The cells of each line between \\midrule and \\bottomrule of the table so called."""
    part = text[text.index(f": {caption}") :]
    part = part[part.index(r"\midrule") : part.index(r"\bottomrule")]
    return [[cell.strip() for cell in line[:-2].split(" & ")] for line in part.splitlines() if line.endswith(r"\\")]


def compiled(path: Path) -> str:
    """The log of pdflatex, which has to succeed."""
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name],
        cwd=path.parent, capture_output=True, timeout=HANG,
    )  # fmt: skip
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log
    return log


def test_numbers_stand_above_their_intervals_and_what_is_missing_is_a_dash():
    text = latex("T", [], timing(), pd.DataFrame())
    first, below, second, again, *marks, third = body(text, "time")
    assert first[:4] == ["resnet110", "Standard", "128", "1085"] and first[4] == "1.00"
    assert below[3] == r"{\scriptsize[1080, 1090]}" and below[4] == ""
    assert second[:2] == [r"regnetx\_200mf", "CRT(alpha=0.9,"] and second[3] == "62.24"
    assert again[1] == "target=logits)" and again[4] == r"{\scriptsize[1.01, 1.18]}"
    assert [row[4] for row in marks] == [r"{\scriptsize unlike device}", r"{\scriptsize unlike threads}"]
    assert third[3:] == ["{--}"] * 6
    assert "S[table-format=4.2]" in text and "as published" not in text


def test_every_row_has_the_cells_its_head_declares():
    text = latex("T", [], timing(paper_hours=[18.98, NAN, NAN]), robustness(16))
    for table in text.split(r"\begin{table*}")[1:]:
        (formats,) = re.findall(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}", table)
        columns = len(re.findall(r"l|S\[table-format=\d\.\d\]", formats))
        for line in table.splitlines():
            if line.endswith(r"\\"):
                spanned = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line))
                assert line.count(" & ") + 1 + spanned == columns
    assert body(text, "time, as measured and as published")[0][-1] == "18.98"


def test_wide_and_long_tables_are_split_without_loss():
    text = latex("T", [], timing(), robustness(16, rows=60))
    for radius in range(16):
        assert f" {{{radius / 4:.2f}}} " in text
    assert text.count(" 67.8 ") == 60 * (16 + 1)
    assert body(text, r"certified accuracy in \% at $\ell_2$ radius $r$, as published")[0][2] == "67.75"


def test_what_a_time_bought_stands_beside_it():
    frame = timing(as_published=[1.0, 1.5, NAN], ranks=[1, 2, 4], acr=[0.677, NAN, NAN])
    rows = body(latex("T", [], frame, robustness(4)), "time")
    assert [rows[k][-1] for k in (0, 1, 2)] == ["0.677", "", "{--}"]
    assert (rows[2][2], rows[2][6]) == ("2", "1.50")


def test_noise_is_shown_where_it_differs_and_folders_stand_apart():
    assert r"{$\sigma$}" not in latex("T", [], timing(), robustness(4))
    text = latex("T", [], timing(), robustness(4, sigma=[0.25, 1.0]))
    assert [row[2] for row in body(text, "evaluation") if row[2]] == ["0.25", "1"]
    text = latex("T", [], timing(folder=["a_1", "a_1", "b"]), robustness(4, folder=["a_1", "b"]))
    assert (text.count(r"Folder: a\_1."), text.count("Folder: b.")) == (4, 4)
    assert body(text, "time")[0][0] == "resnet110" and "dla" not in str(body(text, "time"))


def test_accuracy_at_eps_and_what_was_published_of_it():
    rows = body(latex("T", [], timing(clean=0.8, at_eps=[0.5, NAN, NAN]), at_eps()), "evaluation")
    assert rows[0][-4:] == ["48.6", "linf 8/255", "85.50", "48.38"] and rows[1][-4:-2] == [
        r"{\scriptsize[47.6, 49.6]}",
        "",
    ]
    assert "skipped" not in str(rows) and len(rows[0]) == 10
    rows = body(latex("T", [], timing(clean=0.8, at_eps=[0.5, NAN, NAN]), pd.DataFrame()), "time")
    assert rows[0][-2:] == ["80.0", "50.0"]


def test_checks_of_attacks_and_only_the_pairs_that_papers_compare():
    text = latex("T", [], timing(), at_eps(), masking=MASKED, comparisons=COMPARED)
    (row, *_) = body(text, "do the attacks work")
    assert row[2] == "linf" and row[4] == "50.0" and row[-3:] == ["10.0", "3", "weak"]
    rows = body(text, "paired differences")
    assert [row[:2] for row in rows if row[0]] == [["dla SAT", "dla RRM"], ["dla RRM", "dla FreeAT"]]


def test_escape():
    assert escape("a_b & 5 %") == r"a\_b \& 5 \%"
    assert escape("x <- y\n--quick") == r"x \ensuremath{\leftarrow} y -{}-{}quick"
    assert escape("[a] \\") == r"{[}a] \textbackslash{}"
    assert escape("e\u0301 漢") == r"\'{e} \texttt{U+6F22}"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex")
def test_compiles_as_it_stands_and_in_a_paper(tmp_path):
    frame = timing(
        method=["Standard", HARD, "CRT"], folder=["a_1", "a_1", "b#"], paper_slowdown=[1, 2, NAN], ranks=[1, 2, 4]
    )
    judged = robustness(16, rows=60, folder=["a_1"] * 50 + ["b#"] * 10, sigma=np.linspace(0.25, 1, 60))
    (tmp_path / "tables.tex").write_text(latex(HARD, [HARD, "[first]"], frame, judged))
    log = compiled(tmp_path / "tables.tex")
    assert "Overfull" not in log and "Float too large" not in log
    many = {"masking": MASKED, "comparisons": COMPARED}
    accurate = timing(clean=0.8, at_eps=[0.5, NAN, NAN], epochs=[96, 48, 200], paper_hours_with_teacher=10.07)
    (tmp_path / "eps.tex").write_text(latex("T", [], accurate, at_eps(), **many))
    assert "Overfull" not in compiled(tmp_path / "eps.tex")
    paper = r"\documentclass{article}\usepackage{booktabs,siunitx}\begin{document}\input{tables}Goes on.\end{document}"
    (tmp_path / "paper.tex").write_text(paper)
    compiled(tmp_path / "paper.tex")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex")
def test_compiles_with_nothing_measured(tmp_path):
    nothing = timing(**{name: [NAN] * 3 for name in TIMING[10:]})
    (tmp_path / "tables.tex").write_text(latex("T", [], nothing, pd.DataFrame()))
    compiled(tmp_path / "tables.tex")
