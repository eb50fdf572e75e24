"""The verdict of a report: a few sentences that answer what the measurements show, each made by one rule."""

from typing import NamedTuple

import pandas as pd

from bench.manifest.manifest import Manifest
from bench.results.contenders import Setting
from bench.results.intervals import RUNS
from bench.results.measured import Measured
from bench.results.over_seeds import collapse_coverage
from bench.results.statistics import wilson
from bench.results.warnings import kinds
from reports.competition import bought, costs, fastest, tied, wasted
from reports.render.phrases import from_to, listed, percent
from reports.students import taught
from reports.studies import changed, scaled, switched

_MOST = 7
"""Largest number of sentences."""
_SPARE = ("tied", "scaling", "buys", "teachers")
"""Rules to leave out where there are more, the first first: tables say most plainly what these say."""


class Finding(NamedTuple):
    """One sentence of the verdict, and the name of the rule that made it."""

    rule: str
    text: str


def verdict(
    manifest: Manifest, measured: list[Measured], compared: list[Setting], frames: dict[str, pd.DataFrame]
) -> list[Finding]:
    """At most seven findings, the most important first; empty without any record.

    Rules, in their order:

    - changed: the cells that became slower or faster than those of `--against`;
    - compared: what was compared on what, and what is missing;
    - collapsed: the trainings that collapsed, and their rate over seeds;
    - fastest: the least costly of the methods that are as robust as the best: the difference is not distinguishable
      from 0, and its interval lies within MARGIN;
    - switches: what the switches of a study bring;
    - costs: the cost of each method, where robustness was not measured;
    - teachers: the cost of students with their teachers, where teachers were timed or their cost is unknown;
    - scaling: the speed of several ranks relative to one;
    - buys: the methods that are more robust than the baseline, and their cost;
    - wasted: the methods that cost more than the fastest one and are not measurably more robust;
    - tied: the pairs that neither cost nor robustness tells apart;
    - claims: how the published figures compare with the measured ones;
    - distrust: what these measurements cannot show, each with its remedy.

    A ratio counts where its 95 % interval excludes 1 and it exceeds the noise floor, if a control was timed.
    Differences count where their interval excludes 0 and their p-value, adjusted for all pairs of a setting (Holm), is
    below 0.05.
    """
    if not compared:
        return []
    judged = [setting.competing for setting in compared if len(setting.judged) > 1]
    competing = [setting for setting in judged if setting.judged]
    sentences = {"changed": changed(frames["changes"]) if "changes" in frames else ""}
    sentences |= {"compared": _compared(manifest, measured, compared, competing), "collapsed": _collapsed(compared)}
    if competing:
        sentences |= {"fastest": fastest(competing), "buys": bought(competing), "wasted": wasted(competing)}
        sentences["tied"] = tied(competing)
    elif studied := switched(frames["speed"]) if "speed" in frames else "":
        sentences["switches"] = studied
    else:
        sentences["costs"] = costs(compared)
    sentences["teachers"] = taught(compared)
    if "scaling" in frames:
        sentences["scaling"] = scaled(frames["scaling"])
    sentences |= {"claims": _claims(frames), "distrust": _distrust(manifest, measured, compared)}
    findings = [Finding(rule, text) for rule, text in sentences.items() if text]
    for spare in _SPARE:
        findings = [each for each in findings if each.rule != spare or len(findings) <= _MOST]
    return findings


def _compared(manifest: Manifest, measured: list[Measured], compared: list[Setting], competing: list[Setting]) -> str:
    labels = list(dict.fromkeys(each.label for setting in compared for each in setting.contenders))
    places = list(dict.fromkeys(f"{setting.dataset} with {setting.arch}" for setting in compared))
    figures = list(dict.fromkeys(setting.figure for setting in compared if setting.figure and setting.judged))
    judged = f", judged by {listed(figures, 'figures')}{_repetition(compared, competing)}" if figures else ""
    own = {cell.id for cell in manifest.cells}
    recorded = {m.id for m in measured if m.timed or m.losses or m.verdicts}
    judged_ids = {m.id for m in measured if m.verdicts}
    missing = own - recorded
    unjudged = {cell.id for cell in manifest.cells if cell.evals} & recorded - judged_ids
    gaps = [
        f"{len(cells)} of {len(own)} cells {words}"
        for cells, words in ((missing, "have no record"), (unjudged, "are not evaluated"))
        if cells
    ]
    end = f"; {' and '.join(gaps)} (bench.status says why)" if gaps else ""
    return f"Compared: {listed(labels, 'methods')}, on {listed(places, 'settings')}{judged}{end}."


def _collapsed(compared: list[Setting]) -> str:
    """The trainings that collapsed, and their rate where a method has several seeds."""
    parts, every = [], False
    for each in (contender for setting in compared for contender in setting.contenders if contender.collapsed):
        count, seeds = len(each.collapsed), len(each.by_seed)
        every |= count == seeds
        rate = f"{percent(wilson(count, seeds))}, " if seeds > 1 else ""
        rules = listed(sorted({found.rule for found in each.collapsed.values()}), "rules")
        parts.append(f"{each.label} {count} of {seeds} ({rate}{rules})")
    end = "; a method that collapsed with every seed does not compete" if every else ""
    return f"Collapsed trainings: {listed(parts, 'methods', '; ')}{end}." if parts else ""


def _repetition(compared: list[Setting], competing: list[Setting]) -> str:
    """The numbers of seeds, where they are not all 1, and of the differences that are tested together."""
    counts = {each.over_seeds.seeds for setting in compared for each in setting.judged}
    tested = {setting.comparisons for setting in competing if setting.comparisons > 1}
    seeds = f", with {from_to(counts)} seeds" if max(counts, default=1) > 1 else ""
    return seeds + (f"; p-values of {from_to(tested)} differences are adjusted together (Holm)" if tested else "")


def _claims(frames: dict[str, pd.DataFrame]) -> str:
    claims = frames.get("claims")
    if claims is None or claims.empty:
        return ""
    counts = claims["verdict"].value_counts()
    tested = int(counts.reindex(["within", "above", "below"]).fillna(0).sum())
    untested = ", ".join(
        f"{counts[key]} {words}"
        for key, words in (("different setting", "measured in a different setting"), ("not measured", "not measured"))
        if counts.get(key)
    )
    if not tested:
        return f"No published figure can be checked: {untested}."
    text = f"Published figures: {counts.get('within', 0)} of {tested} agree with the measurement"
    for key in ("above", "below"):
        if counts.get(key):
            against = claims[claims["verdict"] == key]
            names = [f"{row.arch} {row.label}, {row.figure}" for row in against.itertuples()]
            text += f"; measured {key}: {listed(names, 'figures', '; ')}"
    return f"{text}{f'; {untested}' if untested else ''}."


def _distrust(manifest: Manifest, measured: list[Measured], compared: list[Setting]) -> str:
    """Limits of these measurements, each with its remedy."""
    judged = [each for setting in compared for each in setting.judged]
    limits = []
    if manifest.quick:
        limits.append("--quick is not the paper's experiment (submit without it)")
    if any(len(each.robust) == 1 for each in judged):
        limits.append("robustness of one seed says nothing of the next training (list several seeds)")
    few = min((each.over_seeds.seeds for each in judged if each.over_seeds.seeds > 1), default=0)
    if covered := collapse_coverage(few):
        limits.append(
            f"{few} seeds may all miss a collapse: if 1 in 5 trainings collapses, the intervals contain the mean in"
            f" {100 * covered:.0f} % of studies (list more seeds)"
        )
    if judged and min(each.images for each in judged) < 500:
        few = min(each.images for each in judged)
        limits.append(f"accuracies of {few} images have wide intervals (evaluate more images)")
    timed = [m for m in measured if m.timed]
    # Each seed's training is a run of its method.
    runs = [sum(len(m.runs) for m in each.by_seed.values()) for setting in compared for each in setting.contenders]
    if timed and max(runs) < RUNS:
        limits.append(f"times vary more between runs than within one (time {RUNS} or more runs in a study)")
    if found := kinds(timed):
        limits.append(f"{listed([text[0].lower() + text[1:] for text in found], 'kinds of warning')} (see below)")
    return f"Do not rely on these results beyond their limits: {'; '.join(limits)}." if limits else ""
