"""Contents of a report's HTML page."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from bench.manifest.labels import name, written
from bench.manifest.manifest import Manifest
from bench.results.columns import SOURCE
from bench.results.csv_file import without_formulas
from bench.results.measured import Measured, count_recorded
from bench.results.warnings import remarks
from crt.threat import Threat
from reports.observations import observations
from reports.plots import plots
from reports.render.html import Page
from reports.render.html_table import Table
from reports.render.latex import latex
from reports.render.table_spec import LATEX, TableSpec
from reports.tables.all_tables import tables
from reports.tables.environment import environment_table
from reports.tables.settings import settings_tables
from reports.tables.teachers import outside
from reports.verdict import Finding


def contents(
    manifest: Manifest,
    measured: list[Measured],
    frames: dict[str, pd.DataFrame],
    lines: list[str],
    shown: Iterable[TableSpec],
    findings: Sequence[Finding],
    commands: Mapping[str, str],
    home: str = "",
) -> Page:
    """The page of a report; `lines` are its header, `shown` its tables, `home` the link to the index of a site."""
    files = Files(manifest.name, manifest.title, lines)
    results = [files.add(spec, frames[spec.frame]) for spec in shown]
    figures = list(plots(frames, files.keep))
    settings = [files.add(spec, spec.rows) for spec in settings_tables(list(manifest.cells))]
    environment = [files.add(spec, spec.rows) for spec in environment_table(measured)]
    files.keep("observations", observations(manifest, frames))
    files.texts[f"{manifest.name}.tex"] = latex(
        manifest.title, [*(finding.text for finding in findings), *lines], tables(frames, LATEX)
    )
    warnings = remarks([*measured, *outside(measured)])
    quick = "The cells were reduced by --quick: this is not the paper's experiment." if manifest.quick else ""
    return Page(
        title=manifest.title,
        facts=facts(manifest, measured),
        notice=quick,
        findings=findings,
        claims=[table for table in results if table.spec.frame == "claims"],
        notes=[line for line in lines if line not in warnings],
        tables=[table for table in results if table.spec.frame != "claims"],
        figures=figures,
        warnings=warnings,
        settings=settings,
        environment=environment,
        commands=commands,
        name=manifest.name,
        files=files.texts,
        home=home,
    )


class Files:
    """Files that a page offers, by name."""

    def __init__(self, name: str, title: str, lines: list[str]):
        self.texts: dict[str, str] = {}
        self._name, self._title, self._lines = name, title, lines
        self._tables = 0

    def add(self, spec: TableSpec, frame: pd.DataFrame) -> Table:
        """A table of the page, whose CSV file has every row and column of the frame."""
        self._tables += 1
        key = f"table-{self._tables}"
        csv = self.keep(spec.frame or key, frame)
        tex = ""
        if LATEX in spec.writers:
            tex = f"{self._name}-{key}.tex"
            self.texts[tex] = latex(self._title, self._lines, [spec])
        return Table(key, spec, csv, tex)

    def keep(self, part: str, frame: pd.DataFrame) -> str:
        """Name of the CSV file with the frame in full precision."""
        file = f"{self._name}-{part}.csv"
        self.texts[file] = without_formulas(frame.drop(columns=SOURCE, errors="ignore")).to_csv(index=False)
        return file


def facts(manifest: Manifest, measured: list[Measured]) -> dict[str, str]:
    """The comparison in words, by term."""
    cells, done = manifest.cells, count_recorded(manifest, measured)
    devices = (start.device for m in measured for start in (*m.starts, *m.trainings))
    words: dict[str, Iterable[str]] = {
        "Methods": (name(cell.model_copy(update={"seed": 0})) for cell in cells),
        "Networks": (cell.arch for cell in cells),
        "Data set": (cell.dataset for cell in cells),
        "Threat": (_threat(cell.threat) for cell in cells),
        "Baseline": [manifest.baseline or ""],
        "Measured": [f"{done} of {len(cells)} cells"],
        "Devices": devices,
    }
    return {term: text for term, each in words.items() if (text := ", ".join(filter(None, dict.fromkeys(each))))}


def _threat(threat: Threat) -> str:
    sigma, eps = (f"sigma {threat.sigma:g}" * bool(threat.sigma), f"eps {written(threat.eps)}" * bool(threat.eps))
    return " ".join(filter(None, (threat.norm, eps, sigma)))
