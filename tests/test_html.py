"""Reports as HTML pages: what they hold, and how they behave in a browser without a window."""

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
import unicodedata
import zipfile
from contextlib import chdir
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from bench.manifest import read_manifest
from reports.__main__ import app
from reports.render.html import Page, page
from reports.render.html_table import Table, data_table
from reports.render.table_spec import Column, TableSpec
from reports.tables.settings import settings_tables

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
from write_report import HOME, REPORTS  # noqa: E402

MANIFESTS = {name: REPORTS[name] for name in sorted(file.stem for file in (HOME / "manifests").glob("*.yaml"))}
WIDTHS = (360, 768, 1280, 1920)
SECTIONS = ["Verdict", "Plots", "Results", "Warnings", "Settings", "Environment", "Commands"]
MARKUP = '<script>document.title = "caught"</script> & "quotes" <b>bold</b> \'x\' {{ 7 * 7 }} \x1b[31m'
SHOWN = MARKUP.replace("\x1b", "\\x1b")


def run(*words: str | Path) -> str:
    """Output of a report of the frozen records, made in their folder."""
    with chdir(HOME):
        done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done.output


def report(name: str, *words: str | Path) -> str:
    manifest, runs, *options = MANIFESTS[name]
    return run(f"manifests/{manifest}.yaml", "--runs", runs, *options, *words)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The page of every manifest of the frozen records, beside the CSV and LaTeX files of the same report."""
    folder = tmp_path_factory.mktemp("pages")
    for name in MANIFESTS:
        report(
            name,
            *(
                f"--{kind}={folder / name}.{end}"
                for kind, end in {"html": "html", "wide-csv": "csv", "latex": "tex"}.items()
            ),
        )
    return folder


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_page_fits_every_width(visit, folder, name):
    tab = visit(folder / f"{name}.html", java_script_enabled=True)
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 800})
        size = tab.evaluate("() => [document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]")
        assert max(size[:2]) <= size[2] == width
    assert set(tab.locator("h2").all_inner_texts()) >= {"Verdict", "Results", "Settings", "Environment", "Commands"}


STRUCTURE = """() => {
  const all = (words) => [...document.querySelectorAll(words)];
  const ids = all("[id]").map((part) => part.id);
  const named = ["aria-labelledby", "aria-controls"].flatMap((key) =>
    all(`[${key}]`).flatMap((part) => part.getAttribute(key).split(" ")));
  return {
    twice: ids.filter((id, place) => ids.indexOf(id) !== place),
    lost: [...named, ...all("a[href^='#']").map((link) => link.hash.slice(1))].filter((id) => !ids.includes(id)),
    one: ["main", "h1", "nav", "header", "html[lang]"].map((part) => all(part).length),
    bare: all("table").filter((table) => !table.caption || !table.caption.textContent.trim()).length,
    unscoped: all("th:not([scope])").length,
    nameless: all("button, input, summary, svg[role]").filter((part) =>
      !(part.textContent.trim() || part.getAttribute("aria-label") || part.labels?.length)).length,
    untitled: all("figure > svg").filter((image) => !image.querySelector("title").textContent).length,
    used: all("use").filter((part) => !document.getElementById(part.href.baseVal.slice(1))).length,
    levels: all("h1, h2, h3").map((head) => Number(head.tagName[1])),
  };
}"""


@pytest.mark.parametrize("name", ["smoothing", "adversarial", "speed"])
def test_a_page_is_made_for_keyboards_and_screen_readers(visit, folder, name):
    found = visit(folder / f"{name}.html").evaluate(STRUCTURE)
    levels = found.pop("levels")
    assert found.pop("one") == [1] * 5 and not any(found.values()), found
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))


CONTRAST = """() => {
  const parse = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\\d.]+/g).map(Number);
    return { parts: [red, green, blue], alpha };
  };
  const light = ({ parts }) => {
    const [red, green, blue] = parts.map((part) => part / 255).map((part) =>
      part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (part) => {
    for (; part; part = part.parentElement) {
      const paint = parse(getComputedStyle(part).backgroundColor);
      if (paint.alpha === 1) return paint;
    }
    return { parts: [255, 255, 255] };
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const ratios = [];
  while (texts.nextNode()) {
    const part = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || part.closest("script, style, svg") || !part.checkVisibility()) continue;
    const [ink, paper] = [light(parse(getComputedStyle(part).color)), light(behind(part))];
    ratios.push((Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
  }
  return { least: Math.min(...ratios), count: ratios.length, page: light(behind(document.body)) };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(visit, folder, scheme):
    tab = visit(folder / "smoothing.html", color_scheme=scheme)
    tab.evaluate("() => document.querySelectorAll('details').forEach((part) => part.open = true)")
    found = tab.evaluate(CONTRAST)
    assert found["count"] > 500 and found["least"] >= 4.5
    assert (found["page"] < 0.1) == (scheme == "dark")


def test_the_theme_can_be_chosen_and_stays(visit, folder):
    tab = visit(folder / "scaling.html", color_scheme="light")
    dark = lambda: tab.evaluate(CONTRAST)["page"] < 0.1  # noqa: E731
    button = tab.locator("#theme")
    assert button.inner_text() == "Theme: system" and not dark()
    button.click()
    button.click()
    assert button.inner_text() == "Theme: dark" and dark()
    tab.reload()
    assert button.inner_text() == "Theme: dark" and dark()


SORTED = """() => [...document.querySelectorAll("section:not(#plots) table")].flatMap((table) =>
  [...table.tHead.rows[0].cells].map((head, place) => {
    const values = () => [...table.tBodies[0].rows].map((row) => row.cells[place].dataset.value);
    const orders = [values()];
    const marks = [];
    for (let click = 0; click < 3; click++) {
      head.querySelector("button").click();
      orders.push(values());
      marks.push([...table.tHead.rows[0].cells].map((each) => each.getAttribute("aria-sort")));
    }
    return { place, number: head.classList.contains("number"), orders, marks };
  }))"""


@pytest.mark.parametrize("name", ["timing", "lipschitz"])
def test_every_column_sorts_by_its_values(visit, folder, name):
    numeric = 0
    for column in visit(folder / f"{name}.html").evaluate(SORTED):
        before, rising, falling, after = column["orders"]
        marks = [[mark for mark in row if mark != "none"] for row in column["marks"]]
        assert marks == [["ascending"], ["descending"], []] and column["marks"][0][column["place"]] == "ascending"
        assert after == before and sorted(rising) == sorted(falling) == sorted(before)
        known = [value for value in before if value]
        assert not any(rising[len(known) :] + falling[len(known) :]), "missing values are last"
        if column["number"]:
            numeric += len(set(known)) > 2
            assert [float(value) for value in rising[: len(known)]] == sorted(map(float, known))
            assert [float(value) for value in falling[: len(known)]] == sorted(map(float, known), reverse=True)
    assert numeric > 10


def test_numbers_sort_by_value_and_not_by_what_is_printed(visit, tmp_path):
    rows = pd.DataFrame({"method": ["a", "b", "c", "d"], "hours": [10.0, 9.0, None, 0.005]})
    spec = TableSpec("T", "", [Column("method", "method", "name"), Column("hours", "time", "span")], rows)
    file = tmp_path / "page.html"
    file.write_text(page(Page(title="T", tables=[Table("t", spec)])), encoding="utf-8")
    tab = visit(file)
    tab.get_by_role("button", name="time").click()
    assert tab.locator("tbody th").all_inner_texts() == ["d", "b", "a", "c"]


def test_a_filter_hides_rows_and_says_how_many(visit, folder):
    tab = visit(folder / "smoothing.html")
    table = tab.locator("#results .table").first
    rows = table.locator("tbody tr")
    texts = [text.lower() for text in rows.all_text_contents()]
    table.get_by_label("Filter").fill("GAUSSIAN bf16")
    expected = sum("gaussian" in text and "bf16" in text for text in texts)
    assert 0 < expected < len(texts) == 14
    assert sum(row.is_visible() for row in rows.all()) == expected
    assert table.locator("output").inner_text() == f"{expected} of 14 rows"
    table.get_by_label("Filter").fill("")
    assert all(row.is_visible() for row in rows.all()) and table.locator("output").inner_text() == "14 rows"


def test_the_keyboard_reaches_everything(visit, folder):
    tab = visit(folder / "scaling.html")
    press = tab.keyboard.press
    focus = lambda: tab.evaluate("() => document.activeElement.textContent.trim()")  # noqa: E731
    press("Tab")
    assert focus() == "Skip to the report" and tab.locator(".skip").bounding_box()["x"] >= 0
    press("Enter")
    for _ in range(40):  # through the figures' marks
        press("Tab")
        if focus() == "How to read the tables":
            break
    press("Enter")
    assert tab.locator("details.notes").get_attribute("open") is not None
    head = tab.locator("#results thead th").first
    for _ in range(6):
        press("Tab")
        if focus() == head.inner_text():
            break
    outline = tab.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    press("Space")
    assert head.get_attribute("aria-sort") == "ascending"
    press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    tab.locator("#theme").focus()
    press("Space")
    assert tab.locator("#theme").inner_text() == "Theme: light"


def test_print_shows_everything_and_no_button(visit, folder, tmp_path):
    pypdf = pytest.importorskip("pypdf")
    tab = visit(folder / "gpu.html")
    held = "summary, figure .table th[scope=row], h2, h3, pre, .notes li, .warnings li"
    parts = tab.locator(held).all_text_contents()
    tab.pdf(path=tmp_path / "page.pdf", prefer_css_page_size=True)
    assert tab.locator("details[open]").count() == 0, "it is as it was before"
    document = pypdf.PdfReader(tmp_path / "page.pdf")
    # Letters that a font joins are letters again.
    squeezed = lambda text: re.sub(r"\W+", "", unicodedata.normalize("NFKC", text))  # noqa: E731
    printed = squeezed("".join(sheet.extract_text() for sheet in document.pages))
    assert set(tab.locator("h2").all_text_contents()) == set(SECTIONS)
    assert not [part for part in parts if squeezed(part) not in printed]
    assert squeezed("All tables: CSV") not in printed
    tab.emulate_media(media="print")
    assert not [part for part in tab.locator(".tools, .tools button, input, nav").all() if part.is_visible()]


def downloaded(tab, button) -> tuple[str, bytes]:
    with tab.expect_download() as waited:
        button.click()
    return waited.value.suggested_filename, Path(waited.value.path()).read_bytes()


def parsed(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))


def test_buttons_give_the_files_that_the_command_writes(visit, folder):
    tab = visit(folder / "timing.html")
    names = set()
    for button in tab.locator("section#results [data-file$='.csv']").all():
        name, content = downloaded(tab, button)
        part = name.removeprefix("timing-").removesuffix(".csv")
        written = folder / ("timing.csv" if part == "timing" else f"timing-{part}.csv")
        rows = parsed(content)
        assert rows == parsed(written.read_bytes()) and len(rows) > 1
        names.add(name)
    assert {"timing-timing.csv", "timing-robustness.csv"} <= names
    tab = visit(folder / "timing.html")  # Chromium lets a page save ten files
    name, content = downloaded(tab, tab.get_by_role("button", name="All tables: LaTeX"))
    assert (name, content) == ("timing.tex", (folder / "timing.tex").read_bytes())
    name, content = downloaded(tab, tab.locator("section#results [data-file$='.tex']").first)
    assert content.count(b"\\begin{tabular}") == 1 and content.endswith(b"\\closetables\n")
    name, content = downloaded(tab, tab.get_by_role("button", name="All tables: CSV"))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert names <= set(archive.namelist())
        assert parsed(archive.read("timing-timing.csv")) == parsed((folder / "timing.csv").read_bytes())


def test_a_name_in_a_legend_dims_the_other_series(visit, folder):
    tab = visit(folder / "smoothing.html")
    names, dimmed = tab.locator("#plot-certified text[role=button]"), tab.locator("#plot-certified .dimmed")
    assert names.count() > 1 and not dimmed.count()
    names.first.click()
    others = dimmed.count()
    assert others and names.first.get_attribute("aria-pressed") == "true"
    names.nth(1).press("Enter")
    pressed = [name.get_attribute("aria-pressed") for name in names.all()]
    assert pressed[:2] == ["false", "true"] and "true" not in pressed[2:] and dimmed.count()
    names.nth(1).press(" ")
    assert not dimmed.count() and tab.locator("#plot-certified svg[role=group]").count() == 1


def test_a_page_is_whole_without_scripts(visit, folder):
    tab = visit(folder / "smoothing.html", java_script_enabled=False)
    assert tab.locator("section#results tbody tr").first.is_visible()
    assert not tab.locator("thead button").count() and not tab.locator(".tools").first.is_visible()
    tab.locator("#results summary").first.click()
    assert tab.locator(".notes li").first.is_visible()


def hostile() -> Page:
    rows = pd.DataFrame(
        {"name": [MARKUP, "b"], "share": [0.5, 0.25], "share_low": [0.4, 0.2], "share_high": [0.6, 0.3]}
    )
    columns = [Column("name", MARKUP, "name"), Column("share", MARKUP, "percent")]
    table = Table("t", TableSpec(MARKUP, "", columns, rows, folder=MARKUP), "f.csv", note=MARKUP)
    return Page(
        title=MARKUP,
        facts={MARKUP: MARKUP},
        notice=MARKUP,
        findings=[(MARKUP, MARKUP)],
        claims=[table],
        commands={MARKUP: MARKUP},
        name=MARKUP,
        files={"f.csv": MARKUP},
        home=MARKUP,
        notes=[MARKUP],
        warnings=[MARKUP],
    )


def test_text_is_text_wherever_it_stands(visit, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page(hostile()), encoding="utf-8")
    tab = visit(file)
    assert tab.title() == SHOWN and tab.locator("h1").inner_text() == SHOWN
    assert tab.locator("script").count() == 2 and tab.locator("b").count() == 0
    for part in (".facts dt", ".facts dd", ".notice", ".verdict li", ".warnings li", "h3", "tbody th", ".note", "code"):
        assert SHOWN in tab.locator(part).first.inner_text(), part
    assert SHOWN in tab.locator("thead button").first.inner_text()
    assert downloaded(tab, tab.locator("[data-file='f.csv']"))[1].decode() == MARKUP


def test_a_title_with_markup_is_text(visit, tmp_path):
    source = (HOME / "manifests" / "scaling.yaml").read_text(encoding="utf-8")
    manifest, title = tmp_path / "scaling.yaml", "<script>alert(1)</script> & <i>more</i>"
    manifest.write_text(re.sub("(?m)^title: .*$", f"title: {json.dumps(title)}", source), encoding="utf-8")
    run(manifest, "--runs", "runs", "--html", tmp_path / "page.html")
    assert visit(tmp_path / "page.html").locator("h1").inner_text() == title


def test_a_page_names_the_commands_that_make_it(folder):
    content = (folder / "unlike.html").read_text(encoding="utf-8")
    lines = re.findall("<code>(.*?)</code>", content)
    allow = [word for word in MANIFESTS["unlike"] if word in ("threads", "loader")]
    assert shlex.split(lines[0]) == ["python", "-m", "bench.submit", "manifests/unlike.yaml"]
    assert shlex.split(lines[2]) == [
        *("python", "-m", "reports", "manifests/unlike.yaml", "--allow", allow[0], "--allow", allow[1]),
        *("--html", str(folder / "unlike.html")),
    ]


def test_several_manifests_make_a_site(visit, tmp_path):
    names = ["scaling", "overhead"]
    said = run(*(f"manifests/{name}.yaml" for name in names), "--html", tmp_path / "site")
    titles = [read_manifest(HOME / "manifests" / f"{name}.yaml", networks=False).title for name in names]
    assert 0 <= said.index(titles[0]) < said.index(titles[1])
    assert sorted(file.name for file in (tmp_path / "site").iterdir()) == [
        "index.html",
        "overhead.html",
        "scaling.html",
    ]
    tab = visit(tmp_path / "site" / "index.html")
    links = tab.locator("main a").all()
    assert [link.inner_text() for link in links] == titles
    assert [link.get_attribute("href") for link in links] == [f"{name}.html" for name in names]
    assert re.fullmatch(r"\d+ of \d+ cells? measured", tab.locator(".count").first.inner_text())
    page = (tmp_path / "site" / "scaling.html").read_text(encoding="utf-8")
    assert '<a href="index.html">All reports</a>' in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["manifests/scaling.yaml", "--html", "page.txt"], "--html page.txt: '.txt' (allowed for one manifest: .html"),
        (["manifests/scaling.yaml", "--html", "none/page.html"], "--html none/page.html: no folder none"),
        (
            ["manifests/scaling.yaml", "manifests/gpu.yaml", "--csv", "x.csv"],
            "--csv x.csv: is for one manifest (allowed",
        ),
        (["manifests/scaling.yaml", "./manifests/scaling.yaml"], "scaling: several manifests of one name (allowed"),
        (["manifests/scaling.yaml", "manifests/gpu.yaml", "--html", "README.md"], "--html README.md: not a folder"),
        (["manifests/scaling.yaml", "manifests/gpu.yaml", "--html", "a/b"], "--html a/b: no folder a"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(words, said):
    with chdir(HOME):
        before = sorted(HOME.rglob("*"))
        done = CliRunner().invoke(app, words)
        assert (done.exit_code, sorted(HOME.rglob("*"))) == (2, before)
    assert done.stderr.startswith(f"error: {said}") and done.stderr.count("\n") == 1 and not done.stdout


def test_a_page_is_made_without_torch(tmp_path):
    words = ["manifests/scaling.yaml", "--html", str(tmp_path / "page.html")]
    code = "import sys; from reports.__main__ import app; app(sys.argv[1:], standalone_mode=False)"
    command = [sys.executable, "-c", f"{code}; print('torch' in sys.modules)", *words]
    here = os.environ | {"PYTHONPATH": str(GOLDEN.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOME, env=here)
    assert done.stdout.endswith("False\n"), done.stderr


def intervals(values: list[float], lows: list[float], highs: list[float]) -> list:
    rows = pd.DataFrame({"x": values, "x_low": lows, "x_high": highs})
    (column,) = Table("t", TableSpec("T", "", [Column("x", "x", "ratio")], rows)).columns
    return [cell.whisker for cell in column.cells]


def test_intervals_lie_on_one_axis_for_each_column():
    first, second, none = intervals([1.0, 2.0, None], [0.0, None, None], [1.5, None, None])
    assert first[:3] == pytest.approx((0, 0.5, 0.75)) and first.zero is None
    assert second[:3] == (1, 1, 1) and none is None
    below, above = intervals([-1.0, 3.0], [-2.0, 2.0], [0.0, 6.0])
    assert below.zero == above.zero == 0.25 and above[:3] == pytest.approx((0.5, 0.625, 1))


def test_a_wide_range_is_drawn_on_a_logarithmic_axis():
    low, middle, high = intervals([1.0, 10.0, 100.0], [-5.0, 5.0, 90.0], [2.0, 20.0, 1000.0])
    assert low[:2] == (0, 0) and middle.middle == pytest.approx(1 / 3) and high[1:3] == pytest.approx((2 / 3, 1))
    assert low.axis == "axis from 1 to 1e+03, logarithmic"
    assert not intervals([1.0, 10.0], [0.5, 9.0], [2.0, 11.0])[0].axis.endswith("logarithmic")


def test_the_data_of_a_plot_are_its_first_rows_and_the_columns_that_hold_anything():
    frame = pd.DataFrame({"name": "a", "x": range(300), "x_low": 0.0, "x_high": 1.0, "nothing": None, "right": True})
    table = data_table("key", frame, "f.csv")
    assert [column.heading for column in table.columns] == ["name", "x", "right"]
    assert [column.kind for column in table.columns] == ["name", "number", "name"]
    assert len(table.rows) == 200 and table.note == "The first 200 of 300 rows; the CSV file has all."
    assert table.columns[1].cells[7].interval == "[0, 1]"


def test_settings_show_differences_first():
    cells = list(read_manifest(HOME / "manifests" / "smoothing.yaml", networks=False).cells)
    differing, shared, arguments = settings_tables(cells)
    keys = [column.key for column in differing.columns]
    assert keys[:3] == ["arch", "method", "teacher"] and {"threat.sigma", "recipe.epochs", "recipe.batch_size"} <= set(
        keys
    )
    assert len(differing.rows) == len(cells) and list(map(str, (cell.recipe.epochs for cell in cells))) == list(
        differing.rows["recipe.epochs"]
    )
    assert dict(shared.rows.itertuples(index=False))["dataset"] == "digits"
    assert not set(shared.rows["setting"]) & {*keys, "recipe.momentum"}
    rows = {(row.of, row.argument, row.value): row for row in arguments.rows.itertuples()}
    assert rows["MACER", "k", "4"].default == "16" and rows["MACER", "k", "4"].differs == "yes"
    assert rows["MACER", "gamma", "8"].differs == "no"
    assert list(arguments.rows["differs"]) == sorted(arguments.rows["differs"], reverse=True)
