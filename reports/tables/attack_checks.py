"""Signs that an attack failed rather than that a network stood: budgets and balls against one another."""

import math
from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

import pandas as pd

from bench.cell import Cell, Spec
from bench.manifest.labels import Names, written
from bench.manifest.plugin_spec import evaluation
from bench.results.columns import columns, named
from bench.results.measured import Measured
from bench.results.robustness import at_eps, eps_of, is_robust, kind, right
from bench.results.statistics import NOTHING
from crt.data import DATASETS
from reports.render.table_spec import INTERVALS, Column, TableSpec, network, with_labels

_NAMES = (
    "dataset,arch,method,norm,eps,weakest,at_weakest,at_weakest_low,at_weakest_high,strongest,at_strongest,"
    "at_strongest_low,at_strongest_high,largest_eps,at_largest,at_largest_low,at_largest_high,only_weaker,verdict"
)
_GREY = 0.5
"""In this reach of every pixel every image can be made the same grey one: no network tells them apart there."""


class _Attack(NamedTuple):
    """One of a cell's attacks: its ball, and what it spends on an image."""

    spec: Spec
    eps: float
    budget: tuple[int, int]
    """See `Evaluation.budget`."""


def masking(measured: list[Measured]) -> pd.DataFrame:
    """A row a cell that several attacks judged: do more steps and restarts break more, and do large balls break all.

    "weak attack": at one eps, accuracy under the largest budget is below the interval of that under the smallest.
    "masked gradients?": an image stands in a ball in which every image can be made grey. `only_weaker` counts images
    that an attack broke and another, of no smaller ball and budget, did not.
    """
    rows, names = [], Names(m.cell for m in measured if m.cell.evals)
    for m in measured:
        attacks = [
            _attack(m.cell, spec) for spec in m.cell.evals if kind(spec.name) == "attack" and m.verdicts.get(spec.id)
        ]
        if len(attacks) > 1:
            rows.append(_row(m, attacks, names))
    return pd.DataFrame(rows, columns=columns(_NAMES.split(","), measured))


def _attack(cell: Cell, spec: Spec) -> _Attack:
    return _Attack(spec, eps_of(cell, spec), evaluation(spec, cell.threat).budget)


def _row(m: Measured, attacks: list[_Attack], names: Names) -> dict:
    cell = m.cell
    row = {"dataset": cell.dataset, "arch": cell.arch, "method": names.full_label(cell)}
    row |= {"norm": cell.threat.norm, "folder": str(m.folder), "only_weaker": _only_weaker(m, attacks)}
    said, weak, strong = [], NOTHING, NOTHING
    if several := _at_one_eps(cell, attacks):
        weakest, strongest = several[0], several[-1]
        weak, strong = at_eps(m, weakest.spec), at_eps(m, strongest.spec)
        row |= {"eps": weakest.eps, "weakest": weakest.spec.label, "strongest": strongest.spec.label}
        if strong.mean < weak.low:
            said.append("weak attack")
    largest = max(attacks, key=lambda attack: (attack.eps, attack.budget))
    row |= named("at_weakest", weak) | named("at_strongest", strong)
    if largest.eps > min(attack.eps for attack in attacks):
        row |= {"largest_eps": largest.eps} | named("at_largest", at_eps(m, largest.spec))
        if largest.eps >= _whole(cell) and row["at_largest"] > 0:
            said.append("masked gradients?")
    return row | {"verdict": ", ".join(said) or "ok"}


def _at_one_eps(cell: Cell, attacks: list[_Attack]) -> list[_Attack]:
    """The attacks at the eps, of those that several have, that is nearest to the threat's; the weakest first."""
    groups = {attack.eps: [one for one in attacks if one.eps == attack.eps] for attack in attacks}
    several = {eps: group for eps, group in groups.items() if len(group) > 1}
    nearest = min(several, key=lambda eps: abs(eps - cell.threat.eps), default=None)
    return sorted(several.get(nearest, []), key=lambda attack: attack.budget)


def _whole(cell: Cell) -> float:
    """The eps from which on the ball round any image holds the grey one."""
    return _GREY * (1 if cell.threat.norm == "linf" else math.sqrt(math.prod(DATASETS[cell.dataset].shape)))


def _only_weaker(m: Measured, attacks: list[_Attack]) -> int:
    """Images broken by an attack, and standing under another of no smaller ball and budget."""
    found = set()
    for weaker, other in permutations(attacks, 2):
        if weaker.eps <= other.eps and weaker.budget <= other.budget and weaker[1:] != other[1:]:
            mine, theirs = (m.verdicts[attack.spec.id] for attack in (weaker, other))
            found |= {
                index
                for index in mine.keys() & theirs.keys()
                if right(mine[index]) and not is_robust(mine[index], weaker.eps) and is_robust(theirs[index], other.eps)
            }
    return len(found)


def masking_table(masking: pd.DataFrame) -> Iterator[TableSpec]:
    """Accuracies under the weakest and the strongest attack, and in the largest ball."""
    largest = masking["largest_eps"].map(written, na_action="ignore")
    rows = with_labels(masking).assign(largest=largest)
    columns = [*network(rows, width=17), Column("ball", "eps", "label", r"$\varepsilon$", optional="text", width=5)]
    for key, heading, latex, form in (
        ("weakest", "weakest", None, "name"),
        ("strongest", "strongest", None, "name"),
        ("largest", "largest eps", r"largest $\varepsilon$", "label"),
    ):
        columns.append(Column(key, heading, form, latex, optional="text", width=17))
        columns.append(Column(f"at_{key}", f"at {key}", "percent", "accuracy", optional="text"))
    columns.append(Column("only_weaker", "broken by a weaker one alone", "count", "odd"))
    columns.append(Column("verdict", "verdict", "name", width=10))
    odd = "Odd: images that a weaker attack broke and a stronger one did not."
    notes = [r"Accuracy at $\varepsilon$ in \%.", INTERVALS, odd]
    yield TableSpec("Do the attacks work? (accuracy at eps in %)", "do the attacks work?", columns, rows, notes)
