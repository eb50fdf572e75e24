"""The board: the methods of all manifests of a report, ranked in each setting."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from bench.results.board import Ranked, ranked_settings, training_starts
from bench.results.ranking import price, ranks, training_hours
from bench.results.statistics import CONFIDENCE
from crt import screen
from crt.disk import write_text
from reports.frames import Results
from reports.options import Options
from reports.page import Files
from reports.render import csv as csv_writer
from reports.render import text
from reports.render.latex import latex
from reports.render.phrases import listed, percent
from reports.render.table_spec import TableSpec
from reports.tables.limits import limit_tables, limits
from reports.tables.ranking import ranking, ranking_tables

NAME = "board"
TITLE = "Board: methods ranked by robustness, time and price"
_NOTES = (
    "Rank: 1 + the number of methods that are shown to be more robust. A difference is shown where its interval, paired"
    f" by seed and image, excludes 0 and its p-value, adjusted by Holm for all pairs of the setting, is below"
    f" {1 - CONFIDENCE:.2g}. Brackets: the ranks that the differences allow. Methods that are not told apart from one"
    " another share a rank, unless a third one is told apart from only one of them.",
    "Time: the whole training with that of its teachers, computed as s/epoch x epochs; of several seeds the mean.",
    "Price: time of one device, beyond those of the baseline, for each percentage point of robust accuracy above the"
    " baseline's, where that gain is shown; its interval is that of the gain. Below 0: more robust in less time.",
    "On front: share of bootstrap draws in which no other method is at least as robust in at most the time.",
    "Most robust within a time, fastest at an accuracy: only measured values are compared, nothing is interpolated."
    " Not told apart: may be as robust, which these measurements do not tell.",
    "A method that collapsed with every seed has no rank. Missing cells are rows without numbers.",
)
_ONE_SEED = "Intervals and ranks of one seed are over images alone: they say nothing of the next training."


@dataclass(frozen=True)
class Board:
    """Frames of the board, and what its page says beside them."""

    results: Sequence[Results]
    ranked: Sequence[Ranked]
    frames: dict[str, pd.DataFrame]

    @property
    def lines(self) -> list[str]:
        """Notes on how to read the tables, and on machines."""
        return [*_NOTES, *_single_seeds(self.ranked), *dict.fromkeys(map(_machine, self.ranked))]

    @property
    def findings(self) -> list[tuple[str, str]]:
        """A sentence for each setting, after the name of its rule."""
        return [("ranked", sentence) for each in self.ranked if (sentence := _sentence(each))]

    def tables(self) -> Iterator[TableSpec]:
        """The tables of all settings, setting by setting."""
        for setting in self.frames["ranking"]["setting"].unique():
            for key, describe in (("ranking", ranking_tables), ("limits", limit_tables)):
                rows = self.frames[key]
                yield from (replace(spec, frame=key) for spec in describe(rows[rows["setting"] == setting]))


def board(results: Sequence[Results], allow: Sequence[str]) -> Board | None:
    """The board of all settings in which several methods are evaluated; None where there is none."""
    ranked = ranked_settings([(each.manifest, each.measured) for each in results], allow)
    frames = {"ranking": ranking(ranked), "limits": limits(ranked)}
    return Board(results, ranked, frames) if ranked else None


def write(made: Board, options: Options) -> Iterator[str]:
    """Write the requested files, and yield a line for each."""
    sentences = [sentence for _, sentence in made.findings]
    if options.wide_csv:
        for key, frame in made.frames.items():
            file = options.wide_csv.with_name(f"{options.wide_csv.stem}-{key}.csv")
            csv_writer.write_tidy(frame, file)
            yield f"wrote {file}"
    if options.out:
        write_text(options.out, text.markdown(TITLE, sentences, made.lines, made.tables()))
        yield f"wrote {options.out}"
    if options.latex:
        write_text(options.latex, latex(TITLE, [*sentences, *made.lines], made.tables()))
        yield f"wrote {options.latex}"
    if options.html:
        file = options.html / f"{NAME}.html"
        write_text(file, _page(made))
        yield f"wrote {file}"


def show(made: Board, wide: bool) -> None:
    """Print the board."""
    sentences = [sentence for _, sentence in made.findings]
    console = screen.output()
    console.print()
    text.show(console, TITLE, sentences, made.lines, made.tables(), wide)


def _page(made: Board) -> str:
    """The board as an HTML page, with the figure of results over time."""
    # Jinja and Matplotlib take longer to import than most boards take to make.
    from reports.plots import plots
    from reports.render.html import Page, page

    files = Files(NAME, TITLE, made.lines)
    tables = [replace(files.add(spec, made.frames[spec.frame]), cards=True) for spec in made.tables()]
    files.texts[f"{NAME}.tex"] = latex(TITLE, made.lines, made.tables())
    return page(
        Page(
            title=TITLE,
            facts=_facts(made),
            findings=made.findings,
            notes=made.lines,
            tables=tables,
            figures=list(plots(_drawn(made), files.keep, ("tradeoff",))),
            name=NAME,
            files=files.texts,
            home="index.html",
        )
    )


def _facts(made: Board) -> dict[str, str]:
    frame = made.frames["ranking"]
    return {
        "Settings": f"{frame['setting'].nunique():,}",
        "Methods": f"{frame['method'].str.split('(').str[0].str.split(',').str[0].nunique():,}",
        "Trainings": f"{frame['trained'].sum():,} of {frame['cells'].sum():,}",
        "Manifests": ", ".join(each.manifest.title for each in made.results),
    }


def _drawn(made: Board) -> dict[str, pd.DataFrame]:
    """Frames of all manifests for a figure, each cell once; settings that several machines measured are left out."""
    rows = made.frames["ranking"].dropna(subset="machine").drop_duplicates(["setting"])
    machines = Counter(zip(rows["folder"], rows["dataset"], rows["arch"], rows["figure"], strict=True))
    own = {
        m.id
        for each in made.ranked
        if machines[str(each.folder), each.setting.dataset, each.setting.arch, each.setting.figure] == 1
        for contender in each.setting.contenders
        for m in contender.by_seed.values()
    }
    frames = {}
    for key in ("timing", "robustness"):
        frame = pd.concat([each.frames[key] for each in made.results], ignore_index=True)
        same = [column for column in ("id", "eval", "folder") if column in frame]
        frames[key] = frame[frame["id"].isin(own)].drop_duplicates(same)
    return frames


def _sentence(each: Ranked) -> str:
    """The most robust methods of a setting, and those of the lowest price of a point."""
    setting, places = each.setting, ranks(each.setting)
    if len(places) < 2:
        return ""
    first = sorted((c for c in places if places[c].first == 1), key=lambda c: -c.accuracy.mean)
    best, others = first[0], [contender.label for contender in first[1:]]
    hours = training_hours(setting)
    prices = {c: own for c in places if not math.isnan(own := price(setting, c, hours).mean)}
    tied = f"; not told apart: {listed(others, 'methods')}" if others else ""
    cheapest = min(prices, key=prices.__getitem__) if prices else None
    point = f"; lowest price of a point: {cheapest.label}" if cheapest else ""
    place = f"{setting.dataset} with {setting.arch}, {setting.figure}"
    return f"{place}: most robust of {len(places)} is {best.label}, {percent(best.accuracy)}{tied}{point}."


def _machine(each: Ranked) -> str:
    """The machine of a setting, with its hosts."""
    if not each.machine:
        return f"No records in {each.folder} of {each.setting.dataset} with {each.setting.arch}, {each.setting.figure}."
    starts = [s for c in each.setting.contenders for m in c.by_seed.values() for s in training_starts(m)]
    hosts = sorted({machine.host for start in starts for machine in start.machines})
    words = ", ".join(f"{key} {value}" for key, value in each.machine.items() if value != "None")
    return f"Measured on {listed(hosts, 'hosts')} ({each.folder}): {words}."


def _single_seeds(ranked: Sequence[Ranked]) -> list[str]:
    """A warning where methods were trained with one seed."""
    alone = any(len(c.robust) == 1 for each in ranked for c in each.setting.contenders)
    return [_ONE_SEED] if alone else []
