"""Ranking of the methods of each setting of the board."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from bench.results.board import Ranked, training_starts
from bench.results.columns import named
from bench.results.contenders import Contender, Setting
from bench.results.judging import judging
from bench.results.over_seeds import mean_over_seeds
from bench.results.ranking import front, price, ranks, training_hours
from bench.results.statistics import NOTHING, Interval
from reports.render.latex_text import escape
from reports.render.phrases import listed
from reports.render.table_spec import BOTH, INTERVALS, Column, TableSpec, alike, varying

PLACE = "setting,dataset,arch,norm,eps,sigma,ranks,figure,machine,folder"
RANKING = (
    f"{PLACE},method,teacher,cells,trained,seeds,missing,rank,rank_low,rank_high,accuracy,accuracy_low,accuracy_high,"
    "clean,clean_low,clean_high,hours,hours_low,hours_high,price,price_low,price_high,front,collapsed,collapse,"
    "measured_on,commit"
).split(",")


def ranking(ranked: Sequence[Ranked]) -> pd.DataFrame:
    """A row per method of each setting, the most robust first; methods without records are rows, too.

    `rank` is 1 + the number of methods shown to be more robust, `rank_low` and `rank_high` the ranks that the
    differences allow. `hours` includes teachers; `price` is in hours of one device per percentage point beyond the
    baseline; `front` is the share of bootstrap draws on the Pareto front of hours and accuracy. `missing` says which
    records are missing, `collapse` how many trainings collapsed and by which rules.
    """
    rows = []
    for title, each in zip(titles(ranked), ranked, strict=True):
        hours = training_hours(each.setting)
        places, on_front = ranks(each.setting), front(each.setting, hours)
        for contender in sorted(each.setting.contenders, key=lambda c: _order(c, places)):
            place = places.get(contender)
            row = place_of(title, each) | _state(contender) | _results(contender)
            row |= {
                **named("rank", Interval(place.first, *place) if place else NOTHING),
                **named("hours", hours[contender]),
                **named("price", price(each.setting, contender, hours)),
                "front": on_front.get(contender, math.nan),
            }
            rows.append(row)
    return pd.DataFrame(rows, columns=RANKING)


def _order(contender: Contender, places: Iterable[Contender]) -> tuple:
    """Ranked methods first, the most robust first; then those that are measured, and then those that are missing."""
    measured = bool(contender.robust)
    return contender not in places, not measured, -contender.accuracy.mean if measured else 0.0


def titles(ranked: Sequence[Ranked]) -> list[str]:
    """Each setting in words, with what tells it apart where others have the same words; no two are equal."""
    words = [_words(each.setting) for each in ranked]
    folders = {each.folder for each in ranked}
    found: list[str] = []
    for own, each in zip(words, ranked, strict=True):
        same = [other for other, text in zip(ranked, words, strict=True) if text == own and other.folder == each.folder]
        details, others = _details(each), [_details(other) for other in same]
        differ = [f"{key} {details[key]}" for key in details if len({other.get(key) for other in others}) > 1]
        title = ", ".join([own, *differ, *([str(each.folder)] if len(folders) > 1 else [])])
        again = sum(other == title or other.startswith(f"{title} (") for other in found)
        found.append(f"{title} ({again + 1})" if again else title)
    return found


def _details(each: Ranked) -> dict[str, str]:
    """Fields in which settings of the same words may differ: of the images, the evaluation and the machine."""
    cell = each.setting.contenders[0].first.cell
    spec = judging(cell)
    evaluation = {} if spec is None else {"evaluation": f"{spec.label} of {spec.images or 'all'} images"}
    return {"pipeline": cell.pipeline, "loader": cell.loader, "nodes": str(cell.nodes)} | evaluation | each.machine


def _words(setting: Setting) -> str:
    ranks = f", {setting.ranks} ranks" if setting.ranks > 1 else ""
    return f"{setting.dataset}, {setting.arch}{ranks}, {setting.figure}"


def place_of(title: str, each: Ranked) -> dict[str, object]:
    """Columns of a frame that say which setting a row belongs to."""
    setting, cell = each.setting, each.setting.contenders[0].first.cell
    return {
        "setting": title,
        "dataset": setting.dataset,
        "arch": setting.arch,
        "norm": cell.threat.norm,
        "eps": cell.threat.eps,
        "sigma": cell.threat.sigma,
        "ranks": setting.ranks,
        "figure": setting.figure,
        "machine": ", ".join(f"{key} {value}" for key, value in each.machine.items() if value != "None") or None,
        "folder": str(each.folder),
    }


def _state(contender: Contender) -> dict[str, object]:
    """Which trainings and evaluations there are, and which collapsed."""
    cells = list(contender.by_seed.values())
    starts = [start for m in cells for start in training_starts(m)]
    rules = sorted({found.rule for found in contender.collapsed.values()})
    lost = f"{len(contender.collapsed)} of {sum(m.recorded for m in cells)}: {', '.join(rules)}"
    tried = {each.id for m in cells for each in m.cell.candidates}
    teachers = [teacher.cell for m in cells for teacher in m.teachers if teacher.id not in tried]
    return {
        "method": contender.label,
        "teacher": listed(list(dict.fromkeys(f"{each.arch} {each.method.label}" for each in teachers)), "teachers")
        if teachers
        else None,
        "cells": len(cells),
        "trained": sum(m.recorded for m in cells),
        "seeds": len(contender.robust) or math.nan,
        "missing": _missing(contender),
        "collapsed": len(contender.collapsed),
        "collapse": lost if contender.collapsed else None,
        "measured_on": ", ".join(sorted({machine.host for start in starts for machine in start.machines})) or None,
        "commit": ", ".join(sorted({start.commit[:10] for start in starts if start.commit})) or None,
    }


def _missing(contender: Contender) -> str | None:
    cells = list(contender.by_seed.values())
    recorded = sum(m.recorded for m in cells)
    if not recorded:
        return "all records"
    parts = [f"{len(cells) - recorded} of {len(cells)} trainings"] if recorded < len(cells) else []
    if unjudged := recorded - len(contender.robust):
        parts.append("evaluation" if unjudged == len(cells) else f"evaluation of {unjudged} of {len(cells)}")
    parts += ["times"] if not contender.timed.timed else []
    return ", ".join(parts) or None


def _results(contender: Contender) -> dict[str, float]:
    clean = mean_over_seeds(contender.clean)
    return {**named("accuracy", contender.accuracy), **named("clean", clean.interval)}


def ranking_tables(frame: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the ranking of each setting."""
    for title, rows in frame.groupby("setting", sort=False):
        rows = rows.assign(remarks=[_remarks(row) for row in rows.itertuples()])
        columns = [
            Column("rank", "rank", "count", mixed=True),
            Column("method", "method", "name"),
            *alike("seeds", "count", optional=BOTH, hide=2),
            Column("accuracy", "robust %", "percent", r"robust, \%", optional=BOTH, mixed=True),
            Column("clean", "clean %", "percent", r"clean, \%", optional=BOTH, mixed=True, hide=1),
            Column("hours", "time with teachers", "span", "hours", optional=BOTH, mixed=True),
            Column("price", "time per point", "signed span", "h/point", optional=BOTH, mixed=True, hide=5),
            Column("front", "on front %", "percent", r"on front in \%", optional=BOTH, hide=4),
            Column("remarks", "remarks", "name", optional=BOTH),
            *varying(rows, [Column("measured_on", "measured on", "name", hide=3)]),
        ]
        yield TableSpec(f"Ranking: {title}", f"ranking, {escape(title)}.", columns, rows, [INTERVALS])


def _remarks(row: Any) -> str | None:
    """Collapsed trainings and missing records of a row in words; None without any."""
    found = {"collapsed": row.collapse, "missing": row.missing}
    parts = [f"{word}: {words}" for word, words in found.items() if isinstance(words, str)]
    return "; ".join(parts) or None
