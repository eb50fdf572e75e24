"""Options of a report: what it covers, and the files that it writes."""

from dataclasses import dataclass, field
from pathlib import Path

from bench.command import set_options
from bench.results.energy import NO_RATES, Rates
from bench.results.ratios import check_fields
from crt.text import invocation

_PLOTS = (".pdf", ".png", ".svg")
"""Suffixes of plot files."""
_PAGES = (".html", ".htm")


@dataclass(frozen=True)
class Options:
    """Settings of a report, and the files that it writes; None for a file that was not asked for."""

    runs: list[Path]
    """Folders of the records."""
    quick: bool = False
    overrides: list[str] = field(default_factory=list)
    """Changes to the manifest: `key=value`."""
    against: str | None = None
    """Runs folder, or commit, whose times are compared with the others."""
    allow: list[str] = field(default_factory=list)
    """Fields in which two times may differ."""
    target: float | None = None
    """Robust accuracy in percent to seek the time to."""
    rates: Rates = NO_RATES
    wide: bool = False
    """True to show all columns, however narrow the terminal is."""
    csv: Path | None = None
    wide_csv: Path | None = None
    latex: Path | None = None
    out: Path | None = None
    plot: Path | None = None
    html: Path | None = None

    @property
    def every_pair(self) -> bool:
        """True if a file has the pairs that no table shows, too."""
        return bool(self.csv or self.wide_csv or self.html)

    def files(self) -> dict[str, Path]:
        """The requested files by option."""
        files = {
            "--csv": self.csv,
            "--wide-csv": self.wide_csv,
            "--latex": self.latex,
            "--out": self.out,
            "--plot": self.plot,
            "--html": self.html,
        }
        return {option: file for option, file in files.items() if file}

    def check(self) -> None:
        """Raise ValueError for a wrong setting, a missing folder or an unknown format, before any table is made."""
        check_fields(self.allow)
        self.rates.check()
        for folder in self.runs:
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"--runs {folder}: not a folder")
        if self.against and len(self.runs) > 1:
            raise ValueError(f"--against {self.against}: with {len(self.runs)} --runs (allowed: one)")
        if self.target is not None and not 0 < self.target <= 100:
            raise ValueError(f"--target {self.target:g}: (allowed: above 0, at most 100, in percent)")
        for option, file in self.files().items():
            if not file.parent.is_dir():
                raise ValueError(f"{option} {file}: no folder {file.parent}")
        if self.plot and self.plot.suffix not in _PLOTS:
            raise ValueError(f"--plot {self.plot}: {self.plot.suffix!r} (allowed: {', '.join(_PLOTS)})")
        if self.html and self.html.suffix not in _PAGES:
            raise ValueError(
                f"--html {self.html}: {self.html.suffix!r} (allowed for one manifest: {', '.join(_PAGES)})"
            )

    def commands(self, path: Path) -> dict[str, str]:
        """Command lines that measure the cells of a manifest, show their state and report them, by purpose."""
        common: list[str | Path] = [path, *(["--quick"] if self.quick else []), *set_options(self.overrides)]
        folders = [word for folder in self.runs for word in ("--runs", folder)] if self.runs != [Path("runs")] else []
        stated = (("--grid-intensity", self.rates.grid_intensity), ("--hourly-rate", self.rates.hourly_rate))
        words: list[str | Path] = [word for field in self.allow for word in ("--allow", field)]
        words += [word for option, rate in stated if rate is not None for word in (option, f"{rate:g}")]
        words += ["--against", self.against] if self.against else []
        words += ["--target", f"{self.target:g}"] if self.target is not None else []
        words += ["--html", self.html] if self.html else []
        return {
            "Measure the cells": invocation("bench.submit", *common, *folders[:2]),
            "Show the state of the jobs": invocation("bench.status", *common, *folders[:2]),
            "Make this report": invocation("reports", *common, *folders, *words),
        }
